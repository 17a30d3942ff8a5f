"""What a source's models have that ours have only when asked, and how they want their images.

The architecture's figures are the original definitions': Keras pads as TensorFlow does and has
other epsilons; each of its families keeps the images' scale of the framework it was trained in.
"""

from typing import Any

# timm's models that begin with "tf_" are TensorFlow's: the files are alike, the networks are not.
SOURCES = ("torchvision", "timm", "timm_tf", "keras", "flux")

_TENSORFLOW = {"padding": "SAME", "norm_eps": 1e-3}

# source → family → arguments of our constructors.
ARGUMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "timm": {
        "mobilenet_v3": {"norm_eps": 1e-5},
        "efficientnet_lite": {"padding": "symmetric", "norm_eps": 1e-5},
    },
    "timm_tf": dict.fromkeys(("mobilenet_v3", "efficientnet_lite"), _TENSORFLOW),
    "keras": {
        "resnet": {"stride_in_1x1": True, "norm_eps": 1.001e-5},
        "densenet": {"norm_eps": 1.001e-5},
        "mobilenet_v1": _TENSORFLOW,
        "mobilenet_v2": _TENSORFLOW,
        "mobilenet_v3": _TENSORFLOW,
        "xception": _TENSORFLOW,
    },
}

_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "channels": "RGB"}
_FROM_MINUS_ONE = {"mean": [0.5] * 3, "std": [0.5] * 3, "channels": "RGB"}  # to 1
# Caffe's: pixels up to 255, in the order blue, green, red, of which the means are taken away.
_CAFFE = {
    "mean": [value / 255 for value in (103.939, 116.779, 123.68)],
    "std": [1 / 255] * 3,
    "channels": "BGR",
}

# source → family → the scale of its images; ImageNet's mean and deviation where none is named.
SCALES: dict[str, dict[str, dict[str, Any]]] = {
    "torchvision": {"googlenet": _FROM_MINUS_ONE},
    "timm": dict.fromkeys(("mobilenet_v1", "xception"), _FROM_MINUS_ONE),
    "timm_tf": dict.fromkeys(("mobilenet_v3", "efficientnet_lite"), _FROM_MINUS_ONE),
    "keras": {
        "vgg": _CAFFE,
        "resnet": _CAFFE,
        "densenet": _IMAGENET,
        **dict.fromkeys(("mobilenet_v1", "mobilenet_v2", "mobilenet_v3"), _FROM_MINUS_ONE),
        "xception": _FROM_MINUS_ONE,
    },
}


def arguments(family: str, source: str) -> dict[str, Any]:
    """Arguments of our constructors that make them a source's models."""
    return dict(ARGUMENTS.get(source, {}).get(family, {}))


def preprocessing(family: str, source: str, size: int) -> dict[str, Any]:
    """How a source's models want images of `size` pixels: an eighth is cropped, as is usual."""
    scale = SCALES.get(source, {}).get(family, _IMAGENET)
    return {"size": size, "resize": round(size / 0.875), "interpolation": "bilinear", **scale}
