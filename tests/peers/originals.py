"""The models' original definitions, in PyTorch."""

import functools
import importlib

import jax
import numpy as np

from pretrained.convert import from_torch
from zoo.models.base import MODELS

TIMM = {
    "MobileNetV1": "mobilenetv1_100",
    "Xception": "legacy_xception",
    **{f"EfficientNetLite{size}": f"tf_efficientnet_lite{size}" for size in range(5)},
}
# torchvision writes capitals and underscores otherwise.
TORCHVISION = {"MobileNetV2": "mobilenet_v2", "WideResNet50_2": "wide_resnet50_2"} | {
    "WideResNet101_2": "wide_resnet101_2",
    "MobileNetV3_Large": "mobilenet_v3_large",
    "MobileNetV3_Small": "mobilenet_v3_small",
}


@functools.cache
def torchvision_models():
    """`torchvision.models`, whose compiled operators do not load beside a CPU build of PyTorch.

    No model needs them; declaring two is enough for the import.
    """
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torchvision_models.library = library  # what it declares goes when it does
    from torchvision import models

    return models


def original(name, **options):
    """A model's original, with random weights and statistics."""
    if name in TIMM:
        import timm

        model = timm.create_model(TIMM[name], **options)
    elif name == "DenseNet264":  # the table has it, torchvision no function for it
        model = torchvision_models().DenseNet(32, (6, 12, 64, 48), 64, **options)
    else:
        if name == "GoogLeNet":
            options = {"init_weights": False, **options}
        make = getattr(torchvision_models(), TORCHVISION.get(name, name.lower()))
        model = make(**options)
    return randomised(model)


def randomised(model, seed=0):
    """The model in inference mode, with random weights and statistics: defaults hide errors.

    The weights are scaled so that activations neither vanish nor explode.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path, value in model.state_dict().items():
            if value.ndim > 1:
                value.normal_(0, value[0].numel() ** -0.5, generator=generator)
            elif path.endswith(("running_var", "weight")):
                value.uniform_(0.5, 2, generator=generator)
            elif value.ndim == 1:
                value.uniform_(-0.5, 0.5, generator=generator)
    return model.eval()


def converted(name, state, model=None, dtype=np.float32):
    """A state dict's tensors as the variables of our model of that name."""
    entry = MODELS[name]
    tables = importlib.import_module(f"pretrained.convert.{entry.family}")
    model = model or entry.constructor()
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    template = jax.eval_shape(model.init, jax.random.key(0), x)
    rules = tables.TIMM if name in TIMM else tables.TORCHVISION
    return from_torch({key: value.numpy() for key, value in state.items()}, rules, template, dtype)


def torch_logits(model, x):
    """Images [N, H, W, C] → logits, NumPy."""
    import torch

    with torch.inference_mode():
        return model(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))).numpy()
