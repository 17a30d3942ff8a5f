"""The outputs of inner modules, and feature maps by stride."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.small_models import SMALL, logits, small

PAIR = small("resnet")


def test_outputs_have_the_order_of_the_paths_and_their_shapes():
    model, variables, x = PAIR
    outputs = zoo.features((model, variables), x, ["stem", "head", "stage4/block1"])
    assert list(outputs) == ["stem", "head", "stage4/block1"]
    assert outputs["stem"].shape == (2, 20, 17, 64)
    assert outputs["stage4/block1"].shape == (2, 2, 2, 2048)
    np.testing.assert_allclose(outputs["head"], logits(model, variables, x), rtol=1e-4, atol=1e-5)


def test_the_head_is_computed_from_the_last_stage():
    model, variables, x = PAIR
    outputs = zoo.features((model, variables), x, ["stage4", "head"])
    head = variables["params"]["head"]
    want = outputs["stage4"].mean((1, 2)) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs["head"], want, rtol=1e-4, atol=1e-4)


def test_patterns_select_paths():
    """One star stays within a name, two cross slashes; a path selected twice comes once."""
    model, variables, x = PAIR

    def names(paths):
        found = []
        jax.eval_shape(lambda x: found.extend(zoo.features((model, variables), x, paths)), x)
        return found

    stages = [f"stage{number}" for number in range(1, 5)]
    assert names("stage*") == stages
    assert names("stage*/*/conv2") == [f"{stage}/block1/conv2" for stage in stages]
    assert names(["stage2/block1/**", "stem"])[-2:] == ["stage2/block1/conv3", "stem"]
    assert names(["stage1", "stage*"]) == stages
    assert names("*") == ["stem", "pool", *stages, "dropout", "head"]
    assert set(names("**")) > set(names("*")) | set(names("stage*/*/conv2"))


def test_later_layers_are_not_computed():
    model, variables, x = small("squeezenet")

    def products(path):
        """Convolutions and matrix products in the compiled program."""
        run = jax.jit(lambda x: zoo.features((model, variables), x, path))
        text = run.lower(x).compile().as_text()
        return text.count(" convolution(") + text.count(" dot(")

    # One of the stem, and squeeze and two expansions of the first fire module.
    assert [products(path) for path in ("stem", "stage1", "stage2")] == [1, 4, 7]


def test_gradients_reach_the_image():
    model, variables, x = PAIR
    grad = jax.grad(lambda x: zoo.features((model, variables), x, "stem")["stem"].sum())(x)
    assert np.any(grad)


def test_nan_is_seen_where_the_compiled_model_has_it():
    """On a CPU `jax.jit` without the zoo's options turns the relu of NaN into 0 in this model."""
    model, variables, x = small("resnet")
    x = x.at[0].set(jnp.nan)
    want = np.isnan(zoo.jit(model.apply)(variables, x))
    assert want[0].all()
    got = zoo.features((model, variables), x, "head")["head"]
    np.testing.assert_array_equal(np.isnan(got), want)


def test_features_of_a_model_with_remat():
    model, variables, x = PAIR
    want = zoo.features((model, variables), x, "stage1")["stage1"]
    got = zoo.features((model.clone(remat=True), variables), x, "stage1")["stage1"]
    np.testing.assert_array_equal(got, want)


def test_features_of_a_trained_model(lite):
    shapes = jax.eval_shape(lambda x: zoo.features(lite, x, "stage1"), jnp.zeros((1, 32, 32, 3)))
    assert shapes["stage1"].shape == (1, 16, 16, 16)


def test_an_unknown_path_lists_the_nearest():
    model, variables, x = PAIR
    with pytest.raises(ValueError, match=r"ResNet has no module 'stage4/blok1'.*stage4/block1"):
        zoo.features((model, variables), x, ["stem", "stage4/blok1"])
    with pytest.raises(ValueError, match=r"no module 'stag\*\*x'"):
        zoo.features((model, variables), x, "stag**x")


CHANNELS = {
    zoo.VGG16: {4: 128, 8: 256, 16: 512, 32: 512},
    zoo.ResNet18: {4: 64, 8: 128, 16: 256, 32: 512},
    zoo.DenseNet121: {4: 256, 8: 512, 16: 1024, 32: 1024},
    zoo.GoogLeNet: {4: 192, 8: 480, 16: 832, 32: 1024},
    zoo.SqueezeNet1_0: {4: 256, 8: 512, 16: 512},
    zoo.MobileNetV2: {4: 24, 8: 32, 16: 96, 32: 320},
    zoo.Xception: {4: 128, 8: 256, 16: 728, 32: 2048},
}


@pytest.mark.parametrize("constructor", CHANNELS, ids=lambda constructor: constructor.__name__)
def test_backbone_maps_have_the_expected_strides_and_channels(constructor):
    backbone = zoo.backbone(constructor())
    x = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    maps, _ = jax.eval_shape(lambda x: backbone.init_with_output(jax.random.key(0), x), x)
    assert {stride: y.shape[3] for stride, y in maps.items()} == CHANNELS[constructor]
    for stride, y in maps.items():
        assert abs(y.shape[1] - 256 // stride) <= 3  # some first layers do not pad


def test_a_backbone_takes_the_models_variables_and_needs_no_head():
    model, variables, x = PAIR
    backbone = zoo.backbone(model.clone(remat=True))
    maps = jax.jit(backbone.apply)(variables, x)
    want = zoo.features((model, variables), x, "stage*")
    for stride, path in zip((4, 8, 16, 32), want, strict=True):
        np.testing.assert_allclose(maps[stride], want[path], rtol=1e-4, atol=1e-4)
    fresh = jax.eval_shape(backbone.init, jax.random.key(0), x)
    assert fresh["params"].keys() == variables["params"].keys() - {"head"}
    trained, new = jax.eval_shape(
        lambda v, x: backbone.apply(v, x, train=True, mutable=["batch_stats"]), variables, x
    )
    assert trained[32].shape == maps[32].shape
    assert new["batch_stats"].keys() == variables["batch_stats"].keys()


def test_a_backbone_of_a_dilated_model():
    model = SMALL["resnet"].clone(output_stride=8)
    assert dict(zoo.backbone(model).paths) == {4: "stage1", 8: "stage4"}


@pytest.mark.parametrize("family", [f for f in sorted(SMALL) if f != "efficientnet_lite"])
def test_a_backbone_needs_no_key_for_the_classifiers_dropout(family):
    """Only stochastic depth needs one; the family that has it is left out."""
    model, variables, x = small(family)
    maps = jax.eval_shape(
        lambda v, x: zoo.backbone(model).apply(v, x, train=True, mutable=["batch_stats"])[0],
        variables,
        x,
    )
    assert list(maps)[:3] == [4, 8, 16]


class Segmenter(nn.Module):
    """A module built on a backbone and on a complete model."""

    backbone: nn.Module

    @nn.compact
    def __call__(self, x):
        maps = self.backbone(x)
        logits = zoo.ResNet18(num_classes=10, name="whole")(x)
        return nn.Conv(2, (1, 1))(maps[32]), logits


def test_models_can_be_parts_of_other_modules():
    model, variables, x = PAIR
    parent = Segmenter(zoo.backbone(model))
    shapes = jax.eval_shape(parent.init, jax.random.key(0), x)
    assert {"backbone", "whole", "Conv_0"} == shapes["params"].keys()
    assert "head" not in shapes["params"]["backbone"]
    assert "head" in shapes["params"]["whole"]
    whole = {name: {"backbone": tree} for name, tree in variables.items()}
    maps = jax.jit(lambda v, x: Outer(zoo.backbone(model)).apply(v, x))(whole, x)
    want = zoo.features((model, variables), x, "stage4")["stage4"]
    np.testing.assert_allclose(maps[32], want, rtol=1e-4, atol=1e-4)


class Outer(nn.Module):
    backbone: nn.Module

    def __call__(self, x):
        return self.backbone(x)


def test_a_backbone_of_whatever_stands_for_a_model(lite):
    want = zoo.backbone(lite.model)
    assert zoo.backbone(lite) == zoo.backbone((lite.model, lite.variables)) == want
    assert zoo.backbone("resnet18") == zoo.backbone(zoo.ResNet18) == zoo.backbone(zoo.ResNet18())
    with pytest.raises(TypeError, match=r"model must be a definition such as .* got int"):
        zoo.backbone(18)


def test_features_by_a_models_name(lite):
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    want = zoo.features(lite, x, "stem")["stem"]
    np.testing.assert_array_equal(zoo.features("efficientnetlite0", x, "stem")["stem"], want)
    np.testing.assert_array_equal(zoo.features(tuple(lite), x, "stem")["stem"], want)
