"""Weights of timm and Keras, and kernels in Flux's convention, give what they give at home."""

import warnings

import jax
import numpy as np
import pytest

import zoo
from tests.peers.originals import (
    built,
    family_rules,
    hollow,
    keras_arrays,
    keras_outputs,
    randomised,
    randomised_keras,
    state_shapes,
    torch_logits,
    whole,
)
from zoo_pretrained import read
from zoo_pretrained.checkpoint import flatten_variables
from zoo_pretrained.convert import ConversionError, convert, count_classes

pytestmark = pytest.mark.peer

TENSORFLOW = {"padding": "SAME", "norm_eps": 1e-3}
# (library, architecture, ours, arguments, height and width): what test_models.py does not compare.
MEMBERS = [
    ("timm", "vgg11", "VGG11", {}, (97, 75)),
    ("timm", "vgg11_bn", "VGG11_BN", {}, (97, 75)),
    ("timm", "resnet18", "ResNet18", {}, (97, 75)),
    ("timm", "densenet121", "DenseNet121", {}, (97, 75)),
    ("timm", "mobilenetv2_050", "MobileNetV2", {"width": 0.5}, (97, 75)),
    ("timm", "mobilenetv3_large_100", "MobileNetV3_Large", {"norm_eps": 1e-5}, (97, 75)),
    ("timm", "tf_mobilenetv3_small_100", "MobileNetV3_Small", {"padding": "SAME"}, (97, 75)),
    ("timm", "efficientnet_lite0", "EfficientNetLite0",
     {"padding": "symmetric", "norm_eps": 1e-5}, (97, 75)),
    ("keras", "VGG16", "VGG16", {}, (224, 224)),  # whose classifier allows no other size
    ("keras", "ResNet50", "ResNet50", {"stride_in_1x1": True, "norm_eps": 1.001e-5}, (97, 75)),
    ("keras", "DenseNet121", "DenseNet121", {"norm_eps": 1.001e-5}, (97, 75)),
    # Keras pads the far side whatever the size, as "SAME" does as long as sizes are even.
    ("keras", "MobileNet", "MobileNetV1", TENSORFLOW, (128, 96)),
    ("keras", "MobileNetV2", "MobileNetV2", TENSORFLOW, (97, 75)),
    ("keras", "MobileNetV3Large", "MobileNetV3_Large", TENSORFLOW, (97, 75)),
    ("keras", "MobileNetV3Small", "MobileNetV3_Small", TENSORFLOW, (96, 128)),
    ("keras", "Xception", "Xception", TENSORFLOW, (97, 75)),
]  # fmt: skip


def theirs_and_arrays(source, architecture, size, **options):
    """A library's model with random weights, as a function of images, and its arrays."""
    if source == "keras":
        model = randomised_keras(built(source, architecture, input_shape=(*size, 3), **options))
        return lambda x: keras_outputs(model, x), keras_arrays(model)
    model = randomised(built(source, architecture, **options))
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return lambda x: torch_logits(model, x), arrays


def agree(got, want):
    assert got.shape == want.shape
    assert float(np.abs(got - want).max()) <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize(("source", "architecture", "name", "arguments", "size"), MEMBERS)
def test_logits(source, architecture, name, arguments, size):
    theirs, arrays = theirs_and_arrays(source, architecture, size)
    model, table = getattr(zoo, name)(**arguments), family_rules(name, source)
    assert count_classes(arrays, table, source) == 1000
    variables = whole(convert(arrays, table, model.variable_shapes(), source))
    x = np.float32(np.random.default_rng(0).uniform(-1, 1, size=(1, *size, 3)))
    # Keras's MobileNetV3 makes -1 to 1 of pixels itself.
    pixels = architecture.startswith("MobileNetV3")
    agree(jax.jit(model.apply)(variables, x), theirs(127.5 * (x + 1) if pixels else x))


@pytest.mark.parametrize(
    ("architecture", "name", "arguments"),
    [
        ("VGG16", "VGG16", {}),
        ("ResNet50", "ResNet50", {"stride_in_1x1": True, "norm_eps": 1.001e-5}),
    ],
)
def test_without_a_classifier(architecture, name, arguments):
    """Keras's files of include_top=False, as the feature maps of a backbone."""
    size, headless = (96, 64), {"fc6", "fc7", "head"}
    theirs, arrays = theirs_and_arrays("keras", architecture, size, include_top=False)
    model, table = getattr(zoo, name)(**arguments), family_rules(name, "keras")
    assert count_classes(arrays, table, "keras") is None
    variables = whole(convert(arrays, table, model.variable_shapes(), "keras", optional=headless))
    assert not headless & variables["params"].keys()
    x = np.float32(np.random.default_rng(0).normal(size=(1, *size, 3)))
    agree(jax.jit(zoo.backbone(model).apply)(variables, x)[32], theirs(x))


@pytest.mark.parametrize(
    ("source", "architecture", "name"),
    [
        ("torchvision", "mobilenet_v3_small", "MobileNetV3_Small"),
        ("timm", "mobilenetv3_small_100", "MobileNetV3_Small"),
        ("timm_tf", "tf_mobilenetv3_small_100", "MobileNetV3_Small"),
        ("timm", "efficientnet_lite0", "EfficientNetLite0"),
        ("timm_tf", "tf_efficientnet_lite0", "EfficientNetLite0"),
    ],
)
def test_from_file_to_logits(source, architecture, name, tmp_path):
    """By nothing but the source's name; and where names do not tell it, it must be told."""
    import torch

    model = randomised(built(source.removesuffix("_tf"), architecture))
    torch.save(model.state_dict(), tmp_path / "file.pth")
    if "timm" in source:
        with pytest.raises(ConversionError, match='the source is "timm_tf", for others "timm"'):
            zoo.convert(tmp_path / "file.pth", name, tmp_path / "mine")
    zoo.convert(
        tmp_path / "file.pth", name, tmp_path / "mine", source=source if "timm" in source else None
    )
    x = np.float32(np.random.default_rng(0).normal(size=(1, 97, 75, 3)))
    agree(zoo.trained(name, weights=tmp_path / "mine")(x), torch_logits(model, x))


SHAPES = [
    ("timm", "vgg19_bn", {}, "VGG19_BN", {}),
    ("timm", "wide_resnet50_2", {}, "WideResNet50_2", {}),
    ("timm", "mobilenetv1_125", {}, "MobileNetV1", {"width": 1.25}),
    *[
        ("timm", f"mobilenetv2_{width}", {}, "MobileNetV2", {"width": int(width) / 100})
        for width in ("035", "075", "100", "140")
    ],
    ("timm", "mobilenetv3_small_100", {}, "MobileNetV3_Small", {}),
    ("timm", "tf_mobilenetv3_large_100", {}, "MobileNetV3_Large", {}),
    *[("timm", f"efficientnet_lite{n}", {}, f"EfficientNetLite{n}", {}) for n in range(1, 5)],
    ("keras", "VGG19", {"include_top": False}, "VGG19", {}),
    ("keras", "ResNet101", {}, "ResNet101", {}),
    ("keras", "DenseNet169", {}, "DenseNet169", {}),
    ("keras", "MobileNet", {"alpha": 0.75}, "MobileNetV1", {"width": 0.75}),
    ("keras", "MobileNetV2", {"alpha": 0.35}, "MobileNetV2", {"width": 0.35}),
    ("keras", "MobileNetV2", {"alpha": 1.4}, "MobileNetV2", {"width": 1.4}),
]


@pytest.mark.parametrize(("source", "architecture", "options", "name", "arguments"), SHAPES)
def test_names_and_shapes(source, architecture, options, name, arguments):
    """Without weights, for what the logits of a smaller relative vouch for."""
    arrays = hollow(state_shapes(source, architecture, **options))
    model, table = getattr(zoo, name)(**arguments), family_rules(name, source)
    optional = {"fc6", "fc7", "head"} if options.get("include_top") is False else ()
    convert(arrays, table, model.variable_shapes(), source, optional=optional)


@pytest.mark.parametrize("ending", ["weights.h5", "h5", "keras"])
@pytest.mark.parametrize(
    ("architecture", "name"), [("MobileNetV3Small", "MobileNetV3_Small"), ("Xception", "Xception")]
)
def test_a_file_that_keras_has_written(tmp_path, architecture, name, ending):
    """Also when other models were built before, and layers without a name got other numbers."""
    model = randomised_keras(built("keras", architecture, input_shape=(96, 96, 3)))
    path = tmp_path / f"model.{ending}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_weights(path) if ending == "weights.h5" else model.save(path)
    ours, table = getattr(zoo, name)().variable_shapes(), family_rules(name, "keras")
    assert read.source(path) == "keras"
    made = whole(convert(read.arrays(path), table, ours, "keras"))
    want = whole(convert(keras_arrays(model), table, ours, "keras"))
    jax.tree.map(np.testing.assert_array_equal, made, want)


def test_weights_exported_as_flux_has_them_come_back_exactly(lite):
    names = {"kernel": "weight", "scale": "γ", "mean": "μ", "var": "σ²"}
    exported = {}
    for path, array in flatten_variables(jax.device_get(lite.variables)):
        _, _, rest = path.partition("/")
        module, _, leaf = rest.rpartition("/")
        theirs = "β" if module.endswith("norm") and leaf == "bias" else names.get(leaf, leaf)
        if array.ndim == 4:
            array = np.ascontiguousarray(array[::-1, ::-1].transpose(3, 2, 0, 1))
        exported[f"{module}.{theirs}"] = array
    back = whole(convert(exported, [(r"(.*)", r"\1")], lite.model.variable_shapes(), "flux"))
    jax.tree.map(np.testing.assert_array_equal, back, jax.device_get(lite.variables))
