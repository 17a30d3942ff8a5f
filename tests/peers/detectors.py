"""The detectors' originals in torchvision."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tests.peers.originals import to_numpy
from tests.peers.torchvision_operators import load_operators
from zoo.detection.models.detector import DETECTORS
from zoo_pretrained.convert import convert, find_source

NAMES = {
    "SSD300_VGG16": "ssd300_vgg16",
    "SSDLite320_MobileNetV3_Large": "ssdlite320_mobilenet_v3_large",
    "RetinaNet_ResNet50_FPN": "retinanet_resnet50_fpn",
    "RetinaNet_ResNet50_FPN_V2": "retinanet_resnet50_fpn_v2",
    "FCOS_ResNet50_FPN": "fcos_resnet50_fpn",
    "FasterRCNN_ResNet50_FPN": "fasterrcnn_resnet50_fpn",
    "FasterRCNN_ResNet50_FPN_V2": "fasterrcnn_resnet50_fpn_v2",
    "FasterRCNN_MobileNetV3_Large_FPN": "fasterrcnn_mobilenet_v3_large_fpn",
    "FasterRCNN_MobileNetV3_Large_320_FPN": "fasterrcnn_mobilenet_v3_large_320_fpn",
}


def original(name, **options):
    """A detector's original, with random weights and statistics."""
    load_operators()
    from torchvision.models import detection

    model = getattr(detection, NAMES[name])(weights=None, weights_backbone=None, **options)
    return randomised(model)


def randomised(model, seed=0):
    """The model in inference mode, with random weights that keep activations near 1."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path, value in model.state_dict().items():
            if value.ndim > 1:
                std = math.sqrt(2 / value[0].numel())
                value.normal_(0, std, generator=generator)
            elif path.endswith("running_var"):
                value.uniform_(0.8, 1.6, generator=generator)
            elif path.endswith("scale_weight"):
                value.uniform_(10, 30, generator=generator)
            elif path.endswith("weight"):
                value.uniform_(0.5, 1, generator=generator)
            elif value.ndim == 1:
                value.uniform_(-0.2, 0.2, generator=generator)
    return model.eval()


def converted(name, theirs, model):
    """The original's weights as our variables."""
    arrays = {key: value.numpy() for key, value in theirs.state_dict().items()}
    source = find_source(DETECTORS[name].family, "torchvision")
    return to_numpy(convert(arrays, source, model.variable_shapes()))
