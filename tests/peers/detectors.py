"""The detectors' originals in torchvision."""

import functools
import math

import numpy as np

from benchmarks.harness.torchvision_operators import load_operators
from tests.peers.originals import to_numpy
from zoo.checkpoints.load import as_trained
from zoo.models.base import DETECTORS
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
# Our options as torchvision names them.
OPTIONS = {
    "num_classes": "num_classes",
    "short_side": "min_size",
    "long_side": "max_size",
    "candidates": "rpn_pre_nms_top_n_test",
    "proposals": "rpn_post_nms_top_n_test",
    "training_candidates": "rpn_pre_nms_top_n_train",
    "training_proposals": "rpn_post_nms_top_n_train",
    "anchor_samples": "rpn_batch_size_per_image",
    "box_samples": "box_batch_size_per_image",
}
# The last layers of the heads, and the mean and standard deviation that their outputs are to have.
CODES = (0.0, 0.3)
LAST_LAYERS = {
    "ssd": {
        "head.classification_head.module_list": (0, 2),
        "head.regression_head.module_list": (0, 2),
    },
    "retinanet": {
        "head.classification_head.cls_logits": (-4, 2),
        "head.regression_head.bbox_reg": CODES,
    },
    "fcos": {
        "head.classification_head.cls_logits": (-4, 2),
        "head.regression_head.bbox_reg": (2, 1),
        "head.regression_head.bbox_ctrness": (0, 1),
    },
    "faster_rcnn": {
        "rpn.head.cls_logits": (0, 2),
        "rpn.head.bbox_pred": CODES,
        "roi_heads.box_predictor.cls_score": (0, 2),
        "roi_heads.box_predictor.bbox_pred": (0, 2),
    },
}
LAST_LAYERS["ssdlite"] = LAST_LAYERS["ssd"]


def is_two_stage(name):
    """Whether it is a Faster R-CNN."""
    return name.startswith("FasterRCNN")


def is_fixed(name):
    """Whether it stretches images to one size."""
    return name.startswith("SSD")


def original(name, **options):
    """A detector's original, with random weights and statistics.

    Args:
      name: ours.
      **options: of its constructor, as we name them.
    """
    load_operators()
    from torchvision.models import detection

    constructor = getattr(detection, NAMES[name])
    theirs = {OPTIONS[option]: value for option, value in options.items()}
    return randomised(constructor(weights=None, weights_backbone=None, **theirs))


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


def spread_scores(name, theirs, images):
    """Scales the last layers so that scores are neither all 0 nor all 1, and boxes are sensible.

    With random weights alone, most scores would be equal, and their order chance.
    """
    import torch

    def rescale(wanted, layer, inputs, output):
        if layer in done:
            return None
        done.add(layer)
        mean, std = wanted
        layer.weight.mul_(std / output.std())
        layer.bias.zero_()
        layer.bias.add_(mean - layer.forward(*inputs).mean())
        return layer.forward(*inputs)

    done, hooks = set(), []
    for path, wanted in LAST_LAYERS[DETECTORS[name].family].items():
        layers = [
            layer for layer in theirs.get_submodule(path).modules() if is_last_layer(path, layer)
        ]
        assert layers, path
        hooks += [
            layer.register_forward_hook(functools.partial(rescale, wanted)) for layer in layers
        ]
    with torch.no_grad():
        theirs(images)
    for hook in hooks:
        hook.remove()


def is_last_layer(path, layer):
    """Whether a module of a head is a convolution or a dense layer that gives its outputs."""
    import torch

    if isinstance(layer, torch.nn.Linear):
        return True
    # SSDLite's depthwise convolutions have no bias, as batch norms follow them.
    return isinstance(layer, torch.nn.Conv2d) and layer.bias is not None


def converted(name, theirs, model, dtype=np.float32):
    """The original's weights as our variables.

    Args:
      name: ours.
      theirs: the original, or a state dict.
      model: our definition.
      dtype: of the arrays.
    """
    state = theirs if isinstance(theirs, dict) else theirs.state_dict()
    arrays = {key: value.numpy() for key, value in state.items()}
    source = find_source(DETECTORS[name].family, "torchvision")
    return to_numpy(convert(arrays, source, variable_shapes(model), dtype=dtype))


@functools.lru_cache(maxsize=1)
def variable_shapes(model):
    """The shapes of a model's variables."""
    return model.variable_shapes()


def make_pair(name, images, **options):
    """A detector's original and ours, with the same random weights and scores that differ.

    Args:
      name: ours.
      images: uint8 [H, W, 3] each, on which scores are spread.
      **options: of its constructor, as we name them.
    """
    theirs = original(name, **options)
    spread_scores(name, theirs, to_tensors(images))
    ours = DETECTORS[name].constructor(**options)
    return theirs, as_trained(ours, converted(name, theirs, ours))


def to_tensors(images):
    """Images uint8 [H, W, 3] as tensors [3, H, W] from 0 to 1."""
    import torch

    return [torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255)) for image in images]
