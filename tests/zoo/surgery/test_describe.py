"""What models cost."""

import jax
import jax.numpy as jnp
import pytest

import zoo


def test_layers_of_squeezenet_computed_by_hand():
    described = zoo.describe(zoo.SqueezeNet1_1)
    first = described.layers[0]
    # 224 → (224 − 3) / 2 + 1 = 111 in height and width; 3·3·3·64 weights and 64 biases.
    assert first[:4] == ("stem", "Conv", (111, 111, 64), 27 * 64 + 64)
    assert first.multiply_adds == 111 * 111 * 64 * 27
    assert first.bytes == 111 * 111 * 64 * 4
    assert described.layers[-1].path == "head"
    assert described.layers[-1].output == (13, 13, 1000)


def test_totals_stages_and_table():
    described = zoo.describe("ResNet18")
    shapes = jax.eval_shape(zoo.ResNet18().init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    assert described.parameters == sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    stages = described.by(1)
    assert [stage.path for stage in stages] == ["stem", *(f"stage{i}" for i in range(1, 5)), "head"]
    assert sum(stage.multiply_adds for stage in stages) == described.multiply_adds
    assert described.by(2)[1].path == "stem/norm"
    text = str(described)
    assert text.splitlines()[0] == "ResNet18, image 224×224×3"
    assert "7×7×512" in text
    assert "11,689,512" in text.splitlines()[-1]


def test_size_channels_and_model_can_be_given():
    small = zoo.describe(zoo.ResNet18(num_classes=10), size=(64, 96), channels=4)
    assert small.input == (64, 96, 4)
    assert small.layers[0].output == (32, 48, 64)
    assert small.layers[-1].output == (10,)
    assert zoo.describe(zoo.ResNet18().clone(constructor=""), size=64).name == "ResNet"
    half = zoo.describe(zoo.ResNet18(dtype=jnp.bfloat16), size=64)
    assert 2 * half.activation_bytes == pytest.approx(
        zoo.describe("ResNet18", size=64).activation_bytes, rel=1e-3
    )


def test_layers_that_run_on_each_map_of_a_detector():
    """Their parameters count once, and their products each time."""
    described = zoo.describe(zoo.detection.RetinaNet_ResNet50_FPN(num_classes=5), size=128)
    (head,) = (layer for layer in described.layers if layer.path == "class_head/conv")
    outputs = 9 * 5  # of nine anchors
    assert head.parameters == 3 * 3 * 256 * outputs + outputs
    places = 16**2 + 8**2 + 4**2 + 2**2 + 1  # of maps with strides 8 to 128
    assert head.multiply_adds == places * 3 * 3 * 256 * outputs
    assert head.bytes == 4 * places * outputs
    assert head.output == (16, 16, outputs)
    shapes = zoo.detection.RetinaNet_ResNet50_FPN(num_classes=5).variable_shapes()["params"]
    assert described.parameters == sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_raises_for_an_unknown_model_and_a_small_size():
    with pytest.raises(zoo.UnknownModelError, match="did you mean ResNet18"):
        zoo.describe("resnet-18")
    with pytest.raises(ValueError, match="VGG11 takes one image or more of at least 32x32"):
        zoo.describe(zoo.VGG11, size=31)


def test_whatever_stands_for_a_model(lite):
    """Of weights for grey images, a grey image."""
    want = zoo.describe(zoo.EfficientNetLite0)
    assert (
        zoo.describe(lite) == zoo.describe(tuple(lite)) == zoo.describe("efficientnetlite0") == want
    )
    grey = zoo.describe(zoo.adapt(lite, channels=1))
    assert grey.input == (224, 224, 1)
    assert grey.parameters == want.parameters - 2 * 3 * 3 * 32
