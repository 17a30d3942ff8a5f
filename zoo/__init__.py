"""A functional model zoo for computer vision in JAX.

model = zoo.EfficientNetLite0()                # a flax.linen module: holds no arrays
variables = model.init(key, x)
logits = model.apply(variables, x)             # x: normalised images [N, H, W, C]

lite = zoo.trained(zoo.EfficientNetLite0)      # with its ImageNet weights
lite.classify("cat.jpg")                       # [(label, probability), …]
"""

from zoo._parts import __version__
from zoo.compiler import compiler_options, jit
from zoo.features import features
from zoo.fuse import fuse
from zoo.images import ImageError
from zoo.models.base import UnknownModelError
from zoo.models.efficientnet_lite import (
    EfficientNetLite0,
    EfficientNetLite1,
    EfficientNetLite2,
    EfficientNetLite3,
    EfficientNetLite4,
)
from zoo.trained import Info, NoWeightsError, Trained, list_models, trained

__all__ = [
    "EfficientNetLite0",
    "EfficientNetLite1",
    "EfficientNetLite2",
    "EfficientNetLite3",
    "EfficientNetLite4",
    "ImageError",
    "Info",
    "NoWeightsError",
    "Trained",
    "UnknownModelError",
    "__version__",
    "compiler_options",
    "features",
    "fuse",
    "jit",
    "list_models",
    "trained",
]
