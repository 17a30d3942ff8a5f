"""Whole models on native layers: the same logits, and nothing left to XLA that need not be."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.small_models import SMALL, random_variables, small
from zoo.inference.native_layers import replace_layers, why_not_native
from zoo.models import resnet

pytestmark = pytest.mark.usefixtures("native_library")

# Of float32's rounding in sums of another order, relative to the largest logit.
TOLERANCE = 1e-5


def compare(model, variables, x):
    """Compares a fused model's logits; returns the program, and the text of what was lowered."""
    fused = zoo.fuse(model, variables)
    program = replace_layers(fused.model.apply, fused.variables, (1, *x.shape[1:]))
    lowered = jax.jit(program.function).lower(program.weights, x)
    got = lowered.compile()(program.weights, x)
    want = jax.jit(fused.model.apply)(fused.variables, x)
    assert got.dtype == jnp.float32
    largest, difference = float(abs(want).max()), float(np.ptp(want, axis=0).max())
    assert difference > 20 * TOLERANCE * largest  # else all images would be the same
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * largest)
    return program, lowered.as_text()


def count_calls(text):
    """How many calls of each native layer a program has."""
    return {
        name: len(re.findall(rf"custom_call @zoo_{name}\b", text))
        for name in ("conv", "depthwise_conv", "max_pool")
    }


@pytest.mark.parametrize("family", SMALL)
def test_every_family_has_the_same_logits(family):
    """And of their convolutions only grouped ones, as of ResNeXt, stay XLA's."""
    program, text = compare(*small(family))
    grouped = [f"stage{stage}/block1/conv2/conv" for stage in range(1, 5)]
    assert program.remaining == (tuple(grouped) if family == "resnet" else ())
    assert "dot_general" not in text or family == "resnet"
    assert "stablehlo.convolution" not in text or family == "resnet"
    assert "reduce_window" not in text
    assert count_calls(text)["conv"] > 0


def test_how_many_calls_a_model_takes():
    """An expansion and its depthwise convolution are one; concatenations are none."""
    model, variables, x = small("mobilenet_v2")
    _, text = compare(model, variables, x)
    blocks = sum(stage.blocks for stage in model.stages)
    # Stem, a projection a block, the last convolution, the head.
    assert count_calls(text) == {"conv": blocks + 3, "depthwise_conv": blocks, "max_pool": 0}
    model, variables, x = small("densenet")
    _, text = compare(model, variables, x)
    # Stem, two a layer, the transitions, the head.
    assert count_calls(text) == {
        "conv": 1 + 2 * sum(model.depths) + 3 + 1,
        "depthwise_conv": 0,
        "max_pool": 1,
    }
    assert text.count("stablehlo.concatenate") == 1  # before the last norm


VARIANTS = {
    "MobileNetV2, stride 16": SMALL["mobilenet_v2"].clone(output_stride=16),
    "MobileNetV2, narrow": SMALL["mobilenet_v2"].clone(width=0.35),
    "MobileNetV3, stride 8": SMALL["mobilenet_v3"].clone(output_stride=8),
    "Xception, stride 16": SMALL["xception"].clone(output_stride=16),
    "ResNet, stride 8": resnet.ResNet(
        num_classes=5, depths=(1, 1, 1, 2), bottleneck=False, output_stride=8
    ),
    "VGG without norms": SMALL["vgg"].clone(norm=False),
    "MobileNetV1, TensorFlow's padding": SMALL["mobilenet_v1"].clone(padding="SAME"),
    "DenseNet, TensorFlow's padding": SMALL["densenet"].clone(padding="SAME"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_other_strides_widths_and_paddings(name):
    model = VARIANTS[name]
    x = np.float32(np.random.default_rng(1).normal(size=(2, 45, 40, 3)))
    program, text = compare(model, random_variables(model), x)
    assert program.remaining == ()
    assert "stablehlo.convolution" not in text


def test_grey_images():
    model = SMALL["mobilenet_v1"]
    x = np.float32(np.random.default_rng(1).normal(size=(2, 40, 41, 1)))
    compare(model, random_variables(model, channels=1), x)


def test_a_program_is_for_any_size_and_type_of_images():
    """It was made for others; half precision enters as float32."""
    model, variables, _ = small("mobilenet_v2")
    fused = zoo.fuse(model, variables)
    program = replace_layers(fused.model.apply, fused.variables, (1, 64, 64, 3))
    x = np.random.default_rng(1).normal(size=(3, 33, 47, 3))
    run = jax.jit(program.function)
    for dtype in ("float32", "float16", "bfloat16"):
        rounded = jnp.asarray(x, dtype)
        want = run(program.weights, rounded.astype("float32"))
        np.testing.assert_array_equal(run(program.weights, rounded), want)
    with pytest.raises(TypeError, match="takes normalised floating-point images, got int32"):
        run(program.weights, jnp.ones((1, 33, 33, 3), "int32"))


def test_weights_are_held_once():
    """What was packed is not among the other variables."""
    model, variables, x = small("densenet")
    fused = zoo.fuse(model, variables)
    packed, others = replace_layers(fused.model.apply, fused.variables, x.shape).weights
    assert {"stem/conv", "stage1/block1/grow", "head"} <= packed.keys()
    left = jax.tree_util.tree_flatten_with_path(others["params"])[0]
    assert {path[-1].key for path, _ in left} == {"scale", "bias"}  # of norms without convolutions
    assert {path[-2].key for path, _ in left} == {"preact"}


@pytest.mark.parametrize("family", ["mobilenet_v1", "densenet"])
def test_an_export_is_the_same_program(family):
    """What is traced has static shapes and no constants of the weights' size."""
    model, variables, x = small(family)
    fused = zoo.fuse(model, variables)
    program = replace_layers(fused.model.apply, fused.variables, x.shape)
    constants = jax.make_jaxpr(program.function)(program.weights, x).consts
    assert sum(np.size(constant) for constant in constants) < 100


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": "bfloat16"}, "computes in float32 only"),
        ({"variables": "float16"}, "computes in float32 only"),
        ({"backend": "gpu"}, "is for CPUs, and jax runs on gpu"),
        ({}, None),
    ],
)
def test_why_a_model_cannot_be_native(monkeypatch, change, reason):
    model, variables, _ = small("vgg")
    if "backend" in change:
        monkeypatch.setattr(jax, "default_backend", lambda: change["backend"])
    if "dtype" in change:
        model = model.clone(dtype=jnp.dtype(change["dtype"]))
    if "variables" in change:
        variables = jax.tree.map(lambda leaf: leaf.astype(change["variables"]), variables)
    assert why_not_native(model, variables) == reason
