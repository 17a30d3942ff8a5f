"""Pictures by gradient ascent: what layers and classes respond to, what they keep of photos."""

from zoo.visualize.optimization.generate import class_image, feature
from zoo.visualize.optimization.objectives import (
    Objective,
    channel,
    class_logit,
    direction,
    interpolate,
    neuron,
)
from zoo.visualize.optimization.reconstruct import caricature, invert
from zoo.visualize.optimization.transforms import Movements
from zoo.visualize.optimization.visualization import Visualization

__all__ = [
    "Movements",
    "Objective",
    "Visualization",
    "caricature",
    "channel",
    "class_image",
    "class_logit",
    "direction",
    "feature",
    "interpolate",
    "invert",
    "neuron",
]
