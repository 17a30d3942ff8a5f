"""Photos in the style of a picture: painted by trained networks, which are trained here too."""

from zoo.style.apply import Painted, apply, apply_all, apply_video
from zoo.style.convert import convert
from zoo.style.losses import LossWeights, StyleLoss, gram_matrix, make_style_loss, total_variation
from zoo.style.network import StyleNetwork
from zoo.style.optimize import optimize
from zoo.style.settings import StyleSettings
from zoo.style.styles import StyleError, Styles, list_styles, load_styles
from zoo.style.train import train

__all__ = [
    "LossWeights",
    "Painted",
    "StyleError",
    "StyleLoss",
    "StyleNetwork",
    "StyleSettings",
    "Styles",
    "apply",
    "apply_all",
    "apply_video",
    "convert",
    "gram_matrix",
    "list_styles",
    "load_styles",
    "make_style_loss",
    "optimize",
    "total_variation",
    "train",
]
