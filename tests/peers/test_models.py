"""Every model against its original definition in PyTorch, with random weights and statistics."""

import jax
import numpy as np
import pytest

import zoo
from tests.peers.originals import (
    TORCHVISION,
    converted,
    original,
    randomised,
    torch_logits,
    torchvision_models,
)
from tests.peers.training import check_step
from tests.zoo.models.small_models import PUBLISHED
from zoo.models.base import MODELS
from zoo_pretrained.checkpoint import flatten_variables
from zoo_pretrained.convert import ConversionError

pytestmark = pytest.mark.peer


# The first of each family is compared at its native size, too.
FIRST = {entry.family: name for name, entry in reversed(MODELS.items())}


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_parameters_agree_with_pytorch(name):
    """In inference mode, at an odd size, and for one member of each family at the native one."""
    theirs, model = original(name), MODELS[name].constructor()
    variables = converted(name, theirs.state_dict(), model)
    counted = sum(array.size for _, array in flatten_variables(variables["params"]))
    assert counted == sum(p.numel() for p in theirs.parameters())
    if name in PUBLISHED and name != "GoogLeNet":  # whose published number lacks auxiliary heads
        assert counted == PUBLISHED[name][0]
    apply, native = jax.jit(model.apply), MODELS[name].input_size
    rng = np.random.default_rng(0)
    for shape in ((2, 97, 75, 3), (1, native, native, 3))[: 1 + (name in FIRST.values())]:
        x = np.float32(rng.normal(size=shape))
        want = torch_logits(theirs, x)
        assert float(np.abs(apply(variables, x) - want).max()) <= 1e-4 * np.abs(want).max()


TRAINED = (
    "VGG11_BN",
    "ResNet18",
    "ResNeXt50_32x4d",
    "DenseNet121",
    "GoogLeNet",
    "SqueezeNet1_1",
    "MobileNetV1",
    "MobileNetV2",
    "MobileNetV3_Small",
    "Xception",
)


def reduce_model(name, theirs):
    """Cuts a model to train where it repeats itself; → it, and the arguments of ours."""
    from torch import nn

    if name == "VGG11_BN":  # nine tenths of whose parameters are in one layer
        for i, sizes in ((0, (512 * 7 * 7, 64)), (3, (64, 64)), (6, (64, 1000))):
            theirs.classifier[i] = nn.Linear(*sizes)
        return randomised(theirs), {"hidden_features": 64}
    if name == "Xception":  # with two blocks of the middle flow's eight
        for number in range(6, 12):
            setattr(theirs, f"block{number}", nn.Identity())
        first, second, third, last = zoo.Xception().stages
        return theirs, {"stages": (first, second, third[:3], last)}
    return theirs, {}


@pytest.mark.parametrize("name", TRAINED)
def test_training_step_agrees_in_loss_gradients_and_statistics(name):
    import torch

    theirs, arguments = reduce_model(name, original(name))
    theirs = theirs.double().train()
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model = MODELS[name].constructor(dtype=np.float64, **arguments)
    rates = [r for r in ("dropout_rate", "auxiliary_dropout_rate") if hasattr(model, r)]
    model = model.clone(**dict.fromkeys(rates, 0.0))
    check_step(theirs, model, lambda state: converted(name, state, model, np.float64), 2, 1e-6)


@pytest.mark.parametrize("output_stride", [16, 8])
def test_dilated_resnet_agrees_with_torchvision(output_stride):
    dilate = {16: [False, False, True], 8: [False, True, True]}[output_stride]
    theirs = original("ResNet50", replace_stride_with_dilation=dilate)
    model = zoo.ResNet50(output_stride=output_stride)
    x = np.float32(np.random.default_rng(0).normal(size=(1, 97, 75, 3)))
    want = torch_logits(theirs, x)
    got = jax.jit(model.apply)(converted("ResNet50", theirs.state_dict()), x)
    assert float(np.abs(got - want).max()) <= 1e-4 * np.abs(want).max()


def test_densenet_weights_under_their_old_names():
    """Its published files have "norm.1" where torchvision's code says "norm1"."""
    theirs = original("DenseNet121").state_dict()
    dotted = {
        name.replace("norm1", "norm.1")
        .replace("conv1", "conv.1")
        .replace("norm2", "norm.2")
        .replace("conv2", "conv.2"): value
        for name, value in theirs.items()
    }
    assert dotted.keys() != theirs.keys()
    new, old = (
        dict(flatten_variables(converted("DenseNet121", state))) for state in (theirs, dotted)
    )
    assert all(np.array_equal(old[path], array) for path, array in new.items())


@pytest.mark.parametrize("name", ["VGG11_BN", "MobileNetV3_Large"])
def test_error_lists_all_weights_that_do_not_fit(name):
    state = dict(original(name).state_dict())
    missing = next(key for key in state if key.endswith("running_var"))
    del state[missing]
    state["surplus.weight"] = state["classifier.0.weight"]
    with pytest.raises(ConversionError) as raised:
        converted(name, state)
    assert "surplus.weight: no rule maps it" in str(raised.value)
    assert "norm/var: nothing fills it" in str(raised.value)


def test_published_figures_agree_with_torchvision():
    models = torchvision_models()
    for name, (parameters, multiply_adds) in PUBLISHED.items():
        if multiply_adds is None or name.startswith(("EfficientNet", "MobileNetV1", "Xception")):
            continue
        weights = [
            w for w in dir(models) if w.lower() == f"{TORCHVISION.get(name, name.lower())}_weights"
        ]
        meta = getattr(models, weights[0]).DEFAULT.meta
        assert (meta["num_params"], meta["_ops"]) == (parameters, multiply_adds), name
