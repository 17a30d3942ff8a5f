"""The models' original definitions, in PyTorch and Keras."""

import functools
import os
import warnings

import jax
import numpy as np

from benchmarks.harness.torchvision_operators import declare_operators
from zoo.models.base import MODELS
from zoo_pretrained.convert import convert, find_source

TIMM = {
    "MobileNetV1": "mobilenetv1_100",
    "Xception": "legacy_xception",
    **{f"EfficientNetLite{size}": f"tf_efficientnet_lite{size}" for size in range(5)},
}
# Constructors whose name in torchvision is not theirs in lower case.
TORCHVISION = {"MobileNetV2": "mobilenet_v2", "WideResNet50_2": "wide_resnet50_2"} | {
    "WideResNet101_2": "wide_resnet101_2",
    "MobileNetV3_Large": "mobilenet_v3_large",
    "MobileNetV3_Small": "mobilenet_v3_small",
}


def torchvision_models():
    """`torchvision.models`, imported without torchvision's compiled operators."""
    declare_operators()
    from torchvision import models

    return models


@functools.cache
def keras():
    """Keras, computing with PyTorch."""
    os.environ["KERAS_BACKEND"] = "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

    return keras


def original(name, **options):
    """A model's original in PyTorch, with random weights and statistics."""
    if name == "DenseNet264":  # the table has it, torchvision no function for it
        model = torchvision_models().DenseNet(32, (6, 12, 64, 48), 64, **options)
        return randomised(model)
    source = "timm" if name in TIMM else "torchvision"
    return randomised(built(source, (TIMM | TORCHVISION).get(name, name.lower()), **options))


def built(source, architecture, **options):
    """A library's model with its initial weights.

    Args:
      source: "torchvision", "timm", "timm_tf" or "keras".
      architecture: the library's name of it, such as "resnet50" or "MobileNetV3Large".
      **options: of its constructor.
    """
    if source == "keras":
        if options.get("include_top", True):
            options = {"classifier_activation": None, **options}
        return getattr(keras().applications, architecture)(weights=None, **options)
    models = torchvision_models()  # which timm imports too
    if source in ("timm", "timm_tf"):
        import timm

        return timm.create_model(architecture, **options)
    if architecture == "googlenet":
        options = {"init_weights": False, **options}
    return getattr(models, architecture)(**options)


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


def randomised_keras(model, seed=0):
    """A Keras model with random weights and statistics, scaled likewise."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = variable.shape
        if len(shape) > 1:
            depthwise = len(shape) == 4 and shape[3] == 1
            fan_in = np.prod(shape[:2] if depthwise else shape[:-1])
            value = rng.standard_normal(shape, np.float32) * fan_in**-0.5
        elif variable.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 2, shape)
        else:
            value = rng.uniform(-0.5, 0.5, shape)
        variable.assign(np.float32(value))
    return model


def keras_arrays(model):
    """The arrays of a Keras model by "layer/variable", as its files name them."""
    return {
        name: variable.value.detach().numpy() for name, variable in _keras_variables(model).items()
    }


def _keras_variables(model):
    return {f"{layer.name}/{v.name}": v for layer in model.layers for v in layer.weights}


def state_shapes(source, architecture, **options):
    """The shapes by name of the arrays of a library's model; PyTorch's are not allocated.

    Args:
      source, architecture, **options: as for `built`.
    """
    if source == "keras":
        variables = _keras_variables(built(source, architecture, **options))
        return {name: tuple(variable.shape) for name, variable in variables.items()}
    import torch

    with torch.device("meta"):
        model = built(source, architecture, **options)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def zeros(shapes):
    """Arrays of those shapes by name that take no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def model_source(name, source):
    """The source of that name of a model's weights."""
    return find_source(MODELS[name].family, source)


def converted(name, state, model=None, dtype=np.float32, source=None):
    """A state dict's tensors as the variables of our model of that name."""
    model = model or MODELS[name].constructor()
    source = model_source(name, source or ("timm" if name in TIMM else "torchvision"))
    arrays = {key: value.numpy() for key, value in state.items()}
    return to_numpy(convert(arrays, source, model.variable_shapes(), dtype=dtype))


def to_numpy(variables):
    """Variables with NumPy arrays in place of lazy ones."""
    return jax.tree.map(np.asarray, variables)


def torch_logits(model, x):
    """Images [N, H, W, C] → logits, NumPy."""
    import torch

    with torch.inference_mode():
        return model(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))).numpy()


def keras_outputs(model, x):
    """Images [N, H, W, C] → what a Keras model computes, NumPy."""
    import torch

    with torch.inference_mode():
        return model(x, training=False).numpy()
