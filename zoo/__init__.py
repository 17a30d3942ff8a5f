"""A functional model zoo for computer vision in JAX.

model = zoo.EfficientNetLite0()                # a flax.linen module: holds no arrays
variables = model.init(key, x)
logits = model.apply(variables, x)             # x: normalised images [N, H, W, C]

lite = zoo.trained(zoo.EfficientNetLite0)      # with its ImageNet weights
lite.classify("cat.jpg")                       # [(label, probability), …]
"""

import importlib
from typing import TYPE_CHECKING, Any

import zoo_kernels as kernels
import zoo_pretrained as pretrained
from zoo.checkpoints.convert import convert
from zoo.checkpoints.export import export
from zoo.checkpoints.listing import list_models
from zoo.checkpoints.load import trained
from zoo.checkpoints.save import save
from zoo.checkpoints.weights import NoWeightsError
from zoo.inference.compiled import Compiled
from zoo.inference.images import ImageError
from zoo.inference.saved_programs import CompiledError, load_compiled
from zoo.inference.trained import Info, Trained
from zoo.models.base import UnknownModelError, create
from zoo.models.densenet import DenseNet121, DenseNet161, DenseNet169, DenseNet201, DenseNet264
from zoo.models.efficientnet_lite import (
    EfficientNetLite0,
    EfficientNetLite1,
    EfficientNetLite2,
    EfficientNetLite3,
    EfficientNetLite4,
)
from zoo.models.googlenet import GoogLeNet
from zoo.models.mobilenet_v1 import MobileNetV1
from zoo.models.mobilenet_v2 import MobileNetV2
from zoo.models.mobilenet_v3 import MobileNetV3_Large, MobileNetV3_Small
from zoo.models.resnet import (
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    ResNeXt50_32x4d,
    ResNeXt101_32x8d,
    ResNeXt101_64x4d,
    WideResNet50_2,
    WideResNet101_2,
)
from zoo.models.squeezenet import SqueezeNet1_0, SqueezeNet1_1
from zoo.models.vgg import VGG11, VGG11_BN, VGG13, VGG13_BN, VGG16, VGG16_BN, VGG19, VGG19_BN
from zoo.models.xception import Xception
from zoo.runtime.compiler import compiler_options, jit
from zoo.runtime.memory import keep_memory
from zoo.surgery.adapt import adapt
from zoo.surgery.describe import Description, describe
from zoo.surgery.embed import Embeddings, embed, embed_folder
from zoo.surgery.features import backbone, features
from zoo.surgery.fuse import fuse

if TYPE_CHECKING:
    from zoo import data, detection, onnx, style, training, visualize
    from zoo.deep_dream import dream, dream_layers, dream_video
    from zoo.onnx import OnnxClassifier, from_onnx, to_onnx

__version__ = "0.1.0"

# Imported when they are first asked for: what they import takes time.
_ON_USE = ("data", "detection", "onnx", "style", "training", "visualize")
_FUNCTIONS_ON_USE = {
    **dict.fromkeys(("dream", "dream_layers", "dream_video"), "deep_dream"),
    **dict.fromkeys(("OnnxClassifier", "from_onnx", "to_onnx"), "onnx"),
}

__all__ = [
    "VGG11",
    "VGG11_BN",
    "VGG13",
    "VGG13_BN",
    "VGG16",
    "VGG16_BN",
    "VGG19",
    "VGG19_BN",
    "Compiled",
    "CompiledError",
    "DenseNet121",
    "DenseNet161",
    "DenseNet169",
    "DenseNet201",
    "DenseNet264",
    "Description",
    "EfficientNetLite0",
    "EfficientNetLite1",
    "EfficientNetLite2",
    "EfficientNetLite3",
    "EfficientNetLite4",
    "Embeddings",
    "GoogLeNet",
    "ImageError",
    "Info",
    "MobileNetV1",
    "MobileNetV2",
    "MobileNetV3_Large",
    "MobileNetV3_Small",
    "NoWeightsError",
    "OnnxClassifier",
    "ResNeXt50_32x4d",
    "ResNeXt101_32x8d",
    "ResNeXt101_64x4d",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "SqueezeNet1_0",
    "SqueezeNet1_1",
    "Trained",
    "UnknownModelError",
    "WideResNet50_2",
    "WideResNet101_2",
    "Xception",
    "__version__",
    "adapt",
    "backbone",
    "compiler_options",
    "convert",
    "create",
    "data",
    "describe",
    "detection",
    "dream",
    "dream_layers",
    "dream_video",
    "embed",
    "embed_folder",
    "export",
    "features",
    "from_onnx",
    "fuse",
    "jit",
    "keep_memory",
    "kernels",
    "list_models",
    "load_compiled",
    "onnx",
    "pretrained",
    "save",
    "style",
    "to_onnx",
    "trained",
    "training",
    "visualize",
]


def __getattr__(name: str) -> Any:
    if name in _ON_USE:
        return importlib.import_module(f"zoo.{name}")
    if name in _FUNCTIONS_ON_USE:
        return getattr(importlib.import_module(f"zoo.{_FUNCTIONS_ON_USE[name]}"), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")
