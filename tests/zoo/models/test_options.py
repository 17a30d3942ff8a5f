"""The constructors' arguments: names, values, signatures."""

import copy
import dataclasses
import inspect
import pickle

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo.models.base import MODELS, load_detectors
from zoo.models.layers import LayerOptions
from zoo.models.options import EXPECTED, INTERNAL
from zoo.models.resnet import ResNet
from zoo.models.suggest import suggest


@pytest.mark.parametrize(
    ("construct", "words"),
    [
        (
            lambda: zoo.ResNet50(num_clases=10),
            r"ResNet50 takes no argument 'num_clases'; did you mean num_classes\?",
        ),
        (
            lambda: zoo.MobileNetV2(num_clases=10),
            r"MobileNetV2 takes no argument 'num_clases'; did you mean num_classes\?",
        ),
        (
            lambda: ResNet(depht=(1, 1, 1, 1)),
            r"ResNet takes no argument 'depht'; did you mean depths\?",
        ),
        (
            lambda: zoo.ResNet18(depths=(1, 1, 1, 1)),
            r"ResNet18 takes no argument 'depths'; its arguments are num_classes, dtype, .*stride",
        ),
        (
            lambda: zoo.VGG16().clone(output_stride=8),
            "VGG16 takes no argument 'output_stride'",
        ),
        (
            lambda: zoo.EfficientNetLite0(10),
            "EfficientNetLite0 takes arguments by name only, such as num_classes=10, got 10",
        ),
        (
            lambda: zoo.MobileNetV2(0.5),
            "MobileNetV2 takes arguments by name only, such as num_classes=10, got 0.5",
        ),
    ],
)
def test_error_names_an_unknown_or_positional_argument(construct, words):
    with pytest.raises(TypeError, match=words):
        construct()


COUNT = "an integer of at least 1"
RATE = "a number of at least 0 and below 1"


@pytest.mark.parametrize(
    ("name", "argument", "value", "expected"),
    [
        *[("ResNet18", "num_classes", n, COUNT) for n in (0, -1, True, 1.5, "10", None)],
        *[("MobileNetV2", "num_classes", n, COUNT) for n in (0, -1, True, 1.5, "10")],
        ("VGG11", "hidden_features", 0, COUNT),
        ("Xception", "padding", "same", '"symmetric" or "SAME"'),
        ("ResNet50", "output_stride", 4, "8, 16 or 32"),
        *[("MobileNetV1", "width", width, "a number above 0") for width in (0, -1.0, "half")],
        *[("ResNet50", "recompute", value, "True or False") for value in ("blocks", 1, None)],
        ("GoogLeNet", "auxiliary", "no", "True or False"),
        *[("GoogLeNet", "dropout_rate", rate, RATE) for rate in (1, 1.0, -0.1, "0.5")],
        ("EfficientNetLite2", "drop_path_rate", 1.5, RATE),
        ("GoogLeNet", "auxiliary_dropout_rate", float("nan"), RATE),
        *[("VGG11", "dtype", dtype, "floating-point dtype") for dtype in ("floot", int, None)],
        ("DenseNet121", "param_dtype", "int8", "floating-point dtype"),
        ("ResNet18", "norm_eps", -1e-5, "a number of at least 0"),
        ("ResNet18", "norm_momentum", 1.1, "a number from 0 to 1"),
    ],
)
def test_error_names_model_argument_value_and_expectation(name, argument, value, expected):
    construct = MODELS[name].constructor
    with pytest.raises(
        ValueError, match=f"^{name}: {argument} must be .*{expected}.*, got "
    ) as told:
        construct(**{argument: value})
    assert str(told.value).endswith(f"got {value!r}")
    with pytest.raises(ValueError, match=f"^{name}: {argument} must be "):
        construct().clone(**{argument: value})


def test_expectations_are_of_arguments_that_there_are():
    fields = {
        field.name
        for entry in (*MODELS.values(), *load_detectors().values())
        for field in dataclasses.fields(type(entry.constructor()))
    }
    assert EXPECTED.keys() <= fields


@pytest.mark.parametrize("name", ["num_classes", "width"])
def test_numbers_of_numpy_are_numbers(name):
    assert getattr(zoo.MobileNetV1(**{name: np.int64(2)}), name) == 2


@pytest.mark.parametrize("name", MODELS)
def test_signature_has_every_option_with_its_default(name):
    entry = MODELS[name]
    model = entry.constructor()
    parameters = inspect.signature(entry.constructor).parameters
    assert parameters.keys() >= {"num_classes", "dtype", "param_dtype", "remat", "recompute"}
    assert not parameters.keys() & {*INTERNAL, *model.architecture}
    for parameter in parameters.values():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default == getattr(model, parameter.name)


def test_signatures_by_hand():
    assert inspect.signature(zoo.EfficientNetLite0).parameters["dropout_rate"].default == 0.2
    assert inspect.signature(zoo.EfficientNetLite2).parameters["dropout_rate"].default == 0.3
    assert str(inspect.signature(zoo.MobileNetV2)).endswith(
        "width: float = 1.0, dropout_rate: float = 0.2, output_stride: int = 32) "
        "-> zoo.models.mobilenet_v2.MobileNetV2"
    )
    assert "depths" in inspect.signature(ResNet).parameters


def test_models_are_cloned_copied_and_pickled():
    model = zoo.ResNet18(num_classes=3)
    assert copy.copy(model) == copy.deepcopy(model) == pickle.loads(pickle.dumps(model)) == model
    clone = model.clone(num_classes=4)
    assert (clone.num_classes, clone.title, clone.depths) == (4, "ResNet18", model.depths)


def test_a_model_takes_a_name_and_a_subclass_further_arguments():
    class Larger(zoo.MobileNetV2):
        scale: int = 1

        @nn.compact
        def __call__(self, x, train=False):
            return super().__call__(x, train)

    assert zoo.ResNet18(name="trunk").name == zoo.MobileNetV2(name="trunk").name == "trunk"
    assert (Larger(scale=2).scale, Larger().width) == (2, 1.0)
    assert "scale" in inspect.signature(Larger).parameters
    with pytest.raises(TypeError, match="Larger takes no argument 'scael'; did you mean scale"):
        Larger(scael=2)


def test_layer_options_are_the_models():
    model = zoo.EfficientNetLite0(dtype="bfloat16", recompute=False)
    assert model.layer_options == LayerOptions(
        dtype="bfloat16",
        param_dtype=jnp.float32,
        padding="SAME",
        norm_eps=1e-3,
        norm_momentum=0.99,
        fused=False,
        recompute=False,
    )
    assert model.clone(fused=True).layer_options.fused


def test_suggestions():
    known = ["ResNet18", "ResNet34", "VGG16"]
    assert suggest("resnet-18", known).startswith("did you mean ResNet18 or ")
    assert suggest("vgg-16", known) == "did you mean VGG16?"
    assert suggest("transformer", known) == ""
    assert suggest("resnet", known, cutoff=0.95) == ""
