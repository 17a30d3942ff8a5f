"""Models of the zoo in ONNX: nodes, names, and that they compute the same when they come back."""

import collections
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

import zoo
from zoo.checkpoints.load import as_trained
from zoo.models.base import Model
from zoo.models.layers import Activation, Conv, Dense, LayerOptions
from zoo.onnx import UnsupportedError, from_onnx
from zoo.onnx.export import make_proto
from zoo.runtime.checks import ArgumentError
from zoo_pretrained.checkpoint import flatten_variables


def make(model, size=64):
    """A model whose norms have statistics that are not those of initialisation, and images."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        low, high = {"var": (0.5, 2), "scale": (0.5, 2), "mean": (-1, 1), "bias": (-1, 1)}.get(
            path[-1].key, (0, 0)
        )
        if low == high:
            return leaf
        return jnp.asarray(random.uniform(low, high, leaf.shape), leaf.dtype)

    images = np.float32(random.normal(size=(3, size, size, 3)))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    return (model, jax.tree_util.tree_map_with_path(draw, variables)), images


def run(proto, images):
    """What the graph computes; for which it comes back, by code that never saw the model."""
    return np.asarray(from_onnx(proto)(images.transpose(0, 3, 1, 2)))


def count_operators(proto):
    return dict(collections.Counter(node.op_type for node in proto.graph.node))


MODELS = {
    "MobileNetV1": lambda: zoo.MobileNetV1(width=0.25, num_classes=7),
    "MobileNetV3": lambda: zoo.MobileNetV3_Small(num_classes=7),
    "SqueezeNet": lambda: zoo.SqueezeNet1_1(num_classes=7),
}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back(name, fused):
    pair, images = make(MODELS[name]())
    trained = zoo.fuse(pair) if fused else pair
    model, variables = trained
    want = np.asarray(jax.jit(model.apply)(variables, images))
    proto = make_proto(as_trained((model, variables)), 64)
    # float32 adds in another order: see tests/peers/test_onnx_export.py for onnxruntime.
    np.testing.assert_allclose(run(proto, images), want, rtol=0, atol=2e-5 * np.abs(want).max())
    counts = count_operators(proto)
    assert ("BatchNormalization" in counts) is (not fused and name != "SqueezeNet")
    assert "Transpose" not in counts


@pytest.fixture(scope="module")
def mobile():
    """A small model with weights."""
    pair, images = make(MODELS["MobileNetV1"](), 32)
    return as_trained(pair), images


def test_nodes_are_the_layers(mobile):
    proto = make_proto(mobile[0], 32)
    assert count_operators(proto) == {
        "Conv": 27,
        "BatchNormalization": 27,
        "Clip": 27,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    }
    names = [node.name for node in proto.graph.node]
    assert names[:3] == ["stem/conv", "stem/norm", "stem/norm/relu6"]
    assert names[-1] == "head"
    depthwise = next(node for node in proto.graph.node if "depthwise" in node.name)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in depthwise.attribute}
    assert attributes["group"] == 8


def test_parameters_keep_their_paths(mobile):
    """And come back under them, in the zoo's layouts."""
    trained, _ = mobile
    found = dict(flatten_variables(from_onnx(make_proto(trained, 32)).variables))
    want = dict(flatten_variables(trained.variables))
    assert found.keys() == want.keys()
    for path, array in want.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


def test_equal_parameters_stay_apart(mobile):
    """As the biases of a model that was never trained are."""
    model = mobile[0].model
    variables = jax.tree.map(jnp.zeros_like, mobile[0].variables)
    proto = make_proto(as_trained((model, variables)), 32)
    found = dict(flatten_variables(from_onnx(proto).variables))
    assert found.keys() == dict(flatten_variables(variables)).keys()


@pytest.mark.parametrize("count", [1, 4])
def test_any_number_of_images(mobile, count):
    trained, _ = mobile
    proto = make_proto(trained, 32)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    images = np.float32(np.random.default_rng(1).normal(size=(count, 32, 32, 3)))
    want = np.asarray(trained(images))
    np.testing.assert_allclose(run(proto, images), want, rtol=0, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("opset", [13, 18])
def test_opsets(opset):
    pair, images = make(MODELS["MobileNetV3"](), 32)
    proto = make_proto(as_trained(pair), 32, opset)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == opset
    assert ("HardSwish" in count_operators(proto)) is (opset >= 14)
    want = np.asarray(jax.jit(pair[0].apply)(pair[1], images))
    np.testing.assert_allclose(run(proto, images), want, rtol=0, atol=2e-5 * np.abs(want).max())


def test_a_model_that_computes_in_bfloat16_is_exported_in_float32():
    model = zoo.MobileNetV1(width=0.25, num_classes=7, dtype="bfloat16")
    (_, variables), images = make(model, 32)
    proto = make_proto(as_trained((model, variables)), 32)
    want = np.asarray(jax.jit(model.clone(dtype=jnp.float32).apply)(variables, images))
    np.testing.assert_allclose(run(proto, images), want, rtol=0, atol=2e-5 * np.abs(want).max())


def test_facts_are_in_the_metadata(tmp_path):
    zoo.to_onnx("EfficientNetLite0", tmp_path / "m.onnx", size=64)
    proto = onnx.load(tmp_path / "m.onnx")
    facts = {each.key: each.value for each in proto.metadata_props}
    lite = zoo.trained("EfficientNetLite0")
    assert facts["licence"] == lite.info.licence
    assert json.loads(facts["preprocessing"])["mean"] == list(lite.info.preprocessing.mean)
    assert json.loads(facts["labels"]) == list(lite.labels)
    assert proto.producer_name == "jax-zoo"


def test_a_file_that_is_there_stays(mobile, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"m\.onnx is there already"):
        zoo.to_onnx(mobile[0], path)
    assert path.read_text() == "mine"
    zoo.to_onnx(mobile[0], path, size=32, overwrite=True)
    assert onnx.load(path).graph.name == "MobileNetV1"
    assert [each.name for each in tmp_path.iterdir()] == ["m.onnx"]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        zoo.to_onnx(mobile[0], tmp_path / "nothing" / "m.onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset": 12}, "opset must be an integer of at least 13, got 12"),
        ({"opset": 99}, "opset must be at most .*, got 99"),
        ({"size": 0}, "size must be an integer of at least 1, got 0"),
    ],
)
def test_bad_options(mobile, tmp_path, options, message):
    with pytest.raises(ArgumentError, match=message):
        zoo.to_onnx(mobile[0], tmp_path / "m.onnx", **options)
    assert not list(tmp_path.iterdir())


class Other(Model):
    """A model of one's own, with every activation, and perhaps something that is no layer."""

    sine: bool = False
    input_conv = "stem"

    @nn.compact
    def __call__(self, x, train=False):
        options = LayerOptions()
        x = Conv(4, 3, strides=2, padding="SAME", use_bias=True, options=options, name="stem")(x)
        for act in ("leaky_relu", "elu", "sigmoid", "tanh", "hard_sigmoid", "silu", "gelu"):
            x = Activation(act)(x) + x
        x = jnp.sin(x) if self.sine else x
        y = x[:, 1:, ::2].sum((1, 2))
        return Dense(self.num_classes, options=options, name="head")(y)


def test_a_model_of_ones_own():
    pair, images = make(Other(num_classes=3), 32)
    proto = make_proto(as_trained(pair), 32, 20)
    want = np.asarray(jax.jit(pair[0].apply)(pair[1], images))
    np.testing.assert_allclose(run(proto, images), want, rtol=0, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize(
    ("model", "opset", "message"),
    [
        (Other(num_classes=3, sine=True), 20, "a model with sin cannot be exported"),
        (Other(num_classes=3), 17, "'gelu' of Activation_6 has no operator in opset 17"),
    ],
)
def test_what_has_no_operator(model, opset, message):
    pair, _ = make(model, 32)
    with pytest.raises(UnsupportedError, match=message):
        make_proto(as_trained(pair), 32, opset)
