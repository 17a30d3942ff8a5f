"""EfficientNet-Lite in PyTorch, and its weights converted."""

import functools
from importlib import metadata

import numpy as np

import zoo
from tests.peers.originals import randomised, to_numpy
from zoo_pretrained import catalogue
from zoo_pretrained.convert import convert, find_source


@functools.cache
def torch_lite(size, pretrained=False):
    """EfficientNet-Lite as efficientnet-lite-pytorch defines it, in inference mode.

    Its definition pads by the image size it is built for (`image_size=None`: by the input's).
    """
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name(f"efficientnet-lite{size}", image_size=None)
    if pretrained:
        download = catalogue.entries()["EfficientNetLite0"]["IMAGENET1K"]["source"]
        file = metadata.distribution(download["package"]).locate_file(download["file"])
        model.load_state_dict(torch.load(str(file), weights_only=True))
        return model.eval()
    return randomised(model, seed=size)


def converted_lite(size, state, dtype=np.float32):
    """Our EfficientNet-Lite of a size, and its variables from a PyTorch state dict."""
    model = getattr(zoo, f"EfficientNetLite{size}")()
    arrays = {name: value.numpy() for name, value in state.items()}
    source = find_source("efficientnet_lite", "efficientnet_lite_pytorch")
    return model, to_numpy(convert(arrays, source, model.variable_shapes(), dtype=dtype))
