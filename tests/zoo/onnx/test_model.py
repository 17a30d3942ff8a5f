"""Imported models: their variables, what goes through them, and what becomes part of the program.

The reference is the evaluator that the package onnx brings.
"""

import base64
import copy
import pickle
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import zoo
from tests.zoo.onnx.small import convnet, make_model, node, serialize, tensor
from zoo.onnx import OnnxError, UnsupportedError, from_onnx
from zoo.onnx.model import from_structure
from zoo_pretrained import checkpoint
from zoo_pretrained.checkpoint import CheckpointError, flatten_variables

IMAGES = np.float32(np.random.default_rng(1).normal(size=(2, 3, 8, 8)))
X = np.float32(np.random.default_rng(2).normal(size=(2, 3)))


def evaluate(model, **inputs):
    return ReferenceEvaluator(model).run(None, inputs)


@pytest.fixture(scope="module")
def model():
    return from_onnx(convnet())


def test_a_model_computes_what_the_reference_does(model):
    want = evaluate(convnet(), images=IMAGES)[0]
    np.testing.assert_allclose(model(IMAGES), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.apply(model.variables, IMAGES), want, rtol=1e-4, atol=1e-5)


def test_any_source_will_do(tmp_path):
    content = serialize(convnet())
    (tmp_path / "m.onnx").write_bytes(content)
    for source in (tmp_path / "m.onnx", str(tmp_path / "m.onnx"), content, convnet()):
        assert zoo.from_onnx(source).size == 3 * 4 * 9 + 4 * 4 + 4 * 9 + 5 * 64 + 5


def test_variables_are_named_as_in_the_model(model):
    """But weights whose names say nothing are named as the node that reads them.

    Kernels of images are [kh, kw, in / groups, out].
    """
    shapes = {path: leaf.shape for path, leaf in flatten_variables(model.variables)}
    assert shapes == {
        "params/conv1/weight": (3, 3, 3, 4),
        "params/bn1/scale": (4,),
        "params/bn1/bias": (4,),
        "params/Conv/d/kernel": (3, 3, 1, 4),
        "params/fc/weight": (5, 64),
        "params/fc/bias": (5,),
        "batch_stats/bn1/mean": (4,),
        "batch_stats/bn1/var": (4,),
    }


def test_what_else_than_a_convolution_reads_stays_as_it_is():
    w = np.float32(np.random.default_rng(0).normal(size=(2, 3, 1, 1)))
    nodes = [node("Conv", "x w", "a"), node("ReduceSum", "w", "s"), node("Mul", "a s", "y")]
    proto = make_model(nodes, [tensor("x", [2, 3, 4, 4])], ["y"], {"w": w})
    model = from_onnx(proto)
    np.testing.assert_array_equal(model.variables["params"]["w"], w)
    x = np.float32(np.random.default_rng(1).normal(size=(2, 3, 4, 4)))
    np.testing.assert_allclose(model(x), evaluate(proto, x=x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "names", [("a", "a.b"), ("a.b", "a"), ("a.b", "a/b"), ("a.b.c", "a.b"), ("a_b", "a/b", "a.b")]
)
def test_names_that_clash_stay_apart(names):
    constants = {name: np.full(3, i, np.float32) for i, name in enumerate(names)}
    nodes = [helper.make_node("Sum", [*names, "x"], ["y"], name="sum")]
    model = from_onnx(make_model(nodes, ["x"], ["y"], constants))
    arrays = [float(leaf[0]) for _, leaf in flatten_variables(model.variables)]
    assert sorted(arrays) == list(range(len(names)))
    np.testing.assert_allclose(model(X), X + sum(range(len(names))), rtol=1e-6)


def test_transformations_go_through_it(model):
    """jit, and gradients by the variables, which a difference quotient agrees with; and vmap."""

    @jax.jit
    def loss(variables, x):
        return jnp.square(model.apply(variables, x)).sum()

    gradients = jax.grad(loss)(model.variables, IMAGES)
    with jax.enable_x64():
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), model.variables)
        moved = jax.tree.map(lambda leaf, g: leaf + 1e-6 * g, wide, gradients)
        back = jax.tree.map(lambda leaf, g: leaf - 1e-6 * g, wide, gradients)
        images = np.float64(IMAGES)
        squares = sum(float(jnp.square(g).sum()) for g in jax.tree.leaves(gradients))
        slope = float(loss(moved, images) - loss(back, images)) / 2e-6
    assert slope == pytest.approx(squares, rel=1e-3)
    each = jax.vmap(lambda x: model.apply(model.variables, x[None])[0])(IMAGES)
    np.testing.assert_allclose(each, model(IMAGES), rtol=1e-4, atol=1e-5)


def test_weights_in_constant_nodes_are_parameters():
    value = helper.make_tensor("w", TensorProto.FLOAT, [3], [1, 2, 3])
    nodes = [helper.make_node("Constant", [], ["w"], value=value), node("Mul", "x w", "y")]
    model = from_onnx(make_model(nodes, ["x"], ["y"]))
    np.testing.assert_array_equal(model.variables["params"]["w"], [1, 2, 3])
    np.testing.assert_allclose(model(X), X * [1, 2, 3], rtol=1e-6)


def test_what_shapes_the_program_is_no_parameter():
    """Scales of Resize are of floating point, and so is what they are computed from."""
    constants = {"half": np.float32([0.5, 0.5, 1, 1]), "roi": np.zeros(0, np.float32)}
    nodes = [
        node("Add", "half half", "scales"),
        node("Slice", "scales zero two", "part"),
        node("Concat", "part twice", "all", axis=0),
        node("Resize", "x roi all", "y", mode="nearest"),
    ]
    constants |= {"zero": np.array([0]), "two": np.array([2]), "twice": np.float32([2, 3])}
    model = from_onnx(make_model(nodes, ["x"], ["y"], constants))
    assert model.variables == {"params": {}}
    assert model(np.zeros((1, 2, 4, 5), np.float32)).shape == (1, 2, 8, 15)


def test_shapes_are_no_part_of_the_program(model):
    program = jax.make_jaxpr(model.apply)(model.variables, IMAGES)
    names = {equation.primitive.name for equation in program.eqns}
    assert not names & {"gather", "dynamic_slice", "concatenate"}


RESHAPE = make_model(
    [node("Reshape", "x shape", "y")], ["x", tensor("shape", [1], TensorProto.INT64)], ["y"]
)


def test_inputs_that_shape_the_program():
    model = from_onnx(RESHAPE)
    assert model.known_inputs == ("shape",)
    assert model(X, np.array([6])).shape == (6,)
    assert model(X, np.array([-1])).shape == (6,)
    gradient = jax.jit(jax.grad(lambda x: model.apply({}, x, np.array([6]))[2]))(X)
    assert gradient[0, 2] == 1
    with pytest.raises(UnsupportedError, match="input 'shape' must be known when the model is tr"):
        jax.jit(model.apply)({}, X, np.array([6]))


def branches(condition_info):
    make = helper.make_graph
    then = make([node("Mul", "x x", "square")], "then", [], [tensor("square")])
    other = make([node("Neg", "x", "minus")], "else", [], [tensor("minus")])
    choice = node("If", "condition", "y", then_branch=then, else_branch=other)
    return make_model([choice], ["x", condition_info], ["y"])


@pytest.mark.parametrize("condition", [True, False])
def test_branches(condition):
    proto = branches(tensor("condition", [], TensorProto.BOOL))
    want = evaluate(proto, x=X, condition=np.array(condition))[0]
    model = from_onnx(proto)
    np.testing.assert_allclose(model(X, np.array(condition)), want, rtol=1e-6)
    np.testing.assert_allclose(model.apply({}, X, np.array(condition)), want, rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_loops(count):
    """Their steps are parts of the program; gradients go through them."""
    body = helper.make_graph(
        [
            node("Add", "v x", "out"),
            node("Identity", "going", "goes_on"),
            node("Mul", "v v", "row"),
        ],
        "body",
        [
            tensor("step", [], TensorProto.INT64),
            tensor("going", [], TensorProto.BOOL),
            tensor("v", [2, 3]),
        ],
        [tensor("goes_on", [], TensorProto.BOOL), tensor("out", [2, 3]), tensor("row", [2, 3])],
    )
    proto = make_model(
        [helper.make_node("Loop", ["count", "", "x"], ["y", "rows"], body=body)],
        [tensor("x", [2, 3])],
        ["y", "rows"],
        {"count": np.array(count)},
    )
    model = from_onnx(proto)
    y, rows = model(X)
    np.testing.assert_allclose(y, X * (count + 1), rtol=1e-6)
    want = np.stack([(X * (n + 1)) ** 2 for n in range(count)]) if count else np.zeros((0, 2, 3))
    np.testing.assert_allclose(rows, want, rtol=1e-5)
    gradient = jax.grad(lambda x: model.apply({}, x)[0].sum())(X)
    np.testing.assert_allclose(gradient, count + 1, rtol=1e-6)


def test_a_loop_without_end_is_an_error(monkeypatch):
    monkeypatch.setattr("zoo.onnx.operators.control.MAX_STEPS", 5)
    body = helper.make_graph(
        [node("Add", "v x", "out"), node("Identity", "going", "goes_on")],
        "body",
        [
            tensor("step", [], TensorProto.INT64),
            tensor("going", [], TensorProto.BOOL),
            tensor("v", [2, 3]),
        ],
        [tensor("goes_on", [], TensorProto.BOOL), tensor("out", [2, 3])],
    )
    endless = helper.make_node("Loop", ["", "", "x"], ["y"], body=body)
    model = from_onnx(make_model([endless], [tensor("x", [2, 3])], ["y"]))
    with pytest.raises(OnnxError, match=r"Loop 'y': .*more than 5 steps"):
        model(X)


def test_functions_of_the_model():
    """With an attribute, a default, and an output that is an input; one inside another."""
    sets = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    reference = onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT)
    reference.ref_attr_name = "slope"
    leaky.attribute.append(reference)
    inner = helper.make_function("f", "Inner", ["a"], ["b", "a"], [leaky], sets, ["slope"])
    call = helper.make_node("Inner", ["a"], ["b", "c"], domain="f")
    attribute = onnx.AttributeProto(name="slope", type=onnx.AttributeProto.FLOAT)
    attribute.ref_attr_name = "slope"
    call.attribute.append(attribute)
    add = helper.make_node("Add", ["b", "c"], ["d"])
    outer = helper.make_function("f", "Outer", ["a"], ["d"], [call, add], sets, ["slope"])
    nodes = [
        helper.make_node("Outer", ["x"], ["y"], domain="f", slope=0.5),
        helper.make_node("Outer", ["y"], ["z"], domain="f", slope=0.25),
    ]
    model = make_model(nodes, ["x"], ["z"], functions=[inner, outer], domains=["f"])
    y = X + np.where(X < 0, 0.5 * X, X)
    want = y + np.where(y < 0, 0.25 * y, y)
    np.testing.assert_allclose(from_onnx(model)(X), want, rtol=1e-6)


def test_external_data(tmp_path):
    proto = convnet()
    onnx.save_model(
        proto, tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    assert (tmp_path / "w").exists()
    model, want = from_onnx(tmp_path / "m.onnx"), from_onnx(convnet())
    jax.tree.map(np.testing.assert_array_equal, model.variables, want.variables)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    w = jnp.asarray([0.5, 1, 2], dtype)
    proto_type = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[dtype]
    model = from_onnx(
        make_model(
            [node("Mul", "x w", "y")],
            [tensor("x", [2, 3], proto_type)],
            ["y"],
            {"w": np.asarray(w)},
        )
    )
    x = jnp.asarray(X, dtype)
    y = model(x)
    assert y.dtype == w.dtype
    np.testing.assert_array_equal(np.float32(y), np.float32(x * w))


def test_quantized_weights_are_real_numbers_in_the_program():
    """int8 weights with a scale for each output, as quantisation tools write them."""
    rng = np.random.default_rng(0)
    levels = rng.integers(-128, 128, (5, 3), np.int8)
    scales = np.float32(rng.uniform(0.01, 0.1, 5))
    nodes = [
        node("QuantizeLinear", "x step zero", "q"),
        node("DequantizeLinear", "q step zero", "real"),
        node("DequantizeLinear", "levels scales", "w", axis=0),
        node("Gemm", "real w", "y", transB=1),
    ]
    constants = {
        "step": np.float32(0.02),
        "zero": np.uint8(120),
        "levels": levels,
        "scales": scales,
    }
    proto = make_model(nodes, ["x"], ["y"], constants)
    want = evaluate(proto, x=X)[0]
    np.testing.assert_allclose(from_onnx(proto)(X), want, rtol=1e-4, atol=1e-5)


def test_the_description(model):
    lines = model.describe().splitlines()
    assert lines[:3] == [
        "small: 485 parameters",
        "  input   images: float32 [N, 3, 8, 8]",
        "  output  logits: float32 [N, 5]",
    ]
    assert lines[3] == "       2 Conv"
    assert repr(model) == "OnnxModel('small', 485 parameters)"


def test_a_model_is_saved_and_loaded(model, tmp_path):
    changed = jax.tree.map(lambda array: array + 0.5, model.variables)
    model.save(tmp_path / "a", changed)
    again = from_onnx(tmp_path / "a")
    want = model.apply(changed, IMAGES)
    np.testing.assert_array_equal(again.apply(again.variables, IMAGES), want)
    assert (again.inputs, again.outputs, again.kernels) == (
        *(model.inputs, model.outputs),
        model.kernels,
    )
    with pytest.raises(FileExistsError, match="exists already"):
        model.save(tmp_path / "a")
    with pytest.raises(OnnxError, match="the variables have no 'params/"):
        model.save(tmp_path / "b", {"params": {}})
    with pytest.raises(CheckpointError, match="no readable"):
        from_onnx(tmp_path)
    wrong = jax.tree.map(lambda array: array, model.variables)
    wrong["params"]["fc"]["bias"] = np.zeros(4)
    model.save(tmp_path / "c", wrong)
    with pytest.raises(OnnxError, match=r"fc/bias has the shape \(4,\), and the model needs"):
        from_onnx(tmp_path / "c")


def test_a_model_is_exported_with_other_weights(model, tmp_path):
    """As the file that it was; the model that it was made of is not changed."""
    source = convnet()
    before = source.SerializeToString()
    imported = from_onnx(source)
    assert source.SerializeToString() == before
    assert imported.to_proto().SerializeToString() == before
    changed = jax.tree.map(lambda array: array + 0.5, imported.variables)
    found = evaluate(imported.to_proto(changed), images=IMAGES)[0]
    np.testing.assert_allclose(found, model.apply(changed, IMAGES), rtol=1e-4, atol=1e-4)
    zoo.to_onnx(imported, tmp_path / "m.onnx")
    np.testing.assert_array_equal(from_onnx(tmp_path / "m.onnx")(IMAGES), imported(IMAGES))


def test_weights_in_constants_and_other_files(tmp_path):
    """Are saved; and so is what is no parameter."""
    nodes = [
        helper.make_node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(X)),
        node("Mul", "x w", "a"),
        node("Gather", "a index", "b", axis=1),
        node("Add", "b c", "y"),
    ]
    constants = {"index": np.array([1, 0, 2] * 200), "c": np.float32(np.arange(600))}
    model = make_model(nodes, [tensor("x", ["N", 3])], ["y"], constants)
    onnx.save(
        *(model, tmp_path / "m.onnx"),
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    imported = from_onnx(tmp_path / "m.onnx")
    imported.save(tmp_path / "saved")
    (tmp_path / "m.data").unlink()
    assert set(imported.variables["params"]) == {"w", "c"}
    want = (X * X)[:, constants["index"]] + constants["c"]
    for each in (from_onnx(tmp_path / "saved"), from_onnx(imported.to_proto())):
        np.testing.assert_allclose(each(X), want, rtol=1e-6)


def test_weights_inside_functions_stay(tmp_path):
    """They are parameters that a checkpoint keeps, and that cannot be exported again."""
    constant = helper.make_node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(X))
    function = helper.make_function(
        *("mine", "Scale", ["x"], ["y"]),
        [constant, helper.make_node("Mul", ["x", "w"], ["y"])],
        [helper.make_opsetid("", 21)],
    )
    call = helper.make_node("Scale", ["x"], ["y"], domain="mine")
    model = make_model([call], [tensor("x", [2, 3])], ["y"], functions=[function], domains=["mine"])
    imported = from_onnx(model)
    changed = jax.tree.map(lambda array: array + 1, imported.variables)
    imported.save(tmp_path / "a", changed)
    np.testing.assert_allclose(from_onnx(tmp_path / "a")(X), X * (X + 1), rtol=1e-6)
    with pytest.raises(UnsupportedError, match="lies inside a function, and cannot be replaced"):
        imported.to_proto()


def test_a_table_of_zeros_is_a_short_text(tmp_path):
    """From which it comes back; a checkpoint of it alone there is not."""
    table = np.zeros(300_000, np.int64)
    model = make_model([node("Gather", "w x", "y")], [tensor("x", [2], 7)], ["y"], {"w": table})
    with pytest.raises(UnsupportedError, match="the model has no parameters, of which a checkpo"):
        from_onnx(model).save(tmp_path / "a")
    assert from_structure(from_onnx(model).structure).graph.constants["w"].size == 300_000


def test_what_is_too_large_for_a_checkpoint(tmp_path):
    """Integers are no parameters, and would have to be in the metadata."""
    table = np.random.default_rng(0).integers(0, 1 << 62, 500_000)
    model = make_model([node("Gather", "w x", "y")], [tensor("x", [2], 7)], ["y"], {"w": table})
    with pytest.raises(UnsupportedError, match=r"still has 4,0.* bytes, so that no checkpoint can"):
        from_onnx(model).save(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_weights_in_bodies_and_other_files(tmp_path):
    """They come into the model, so that what was saved needs the file no more."""
    then = helper.make_graph(
        [node("Mul", "x inner", "t")],
        "then",
        [],
        [tensor("t")],
        [onnx.numpy_helper.from_array(X, "inner")],
    )
    other = helper.make_graph([node("Identity", "x", "e")], "else", [], [tensor("e")])
    branch = helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other)
    inputs = [tensor("x", [2, 3]), tensor("flag", [], TensorProto.BOOL)]
    model = make_model([branch], inputs, ["y"], {})
    options = {"save_as_external_data": True, "location": "m.data", "size_threshold": 0}
    onnx.save(model, tmp_path / "m.onnx", convert_attribute=True, **options)
    imported = from_onnx(tmp_path / "m.onnx")
    content = imported.to_proto().SerializeToString()
    (tmp_path / "m.data").unlink()
    np.testing.assert_allclose(from_onnx(content)(X, np.array(True)), X * X, rtol=1e-6)


def test_weights_in_lists_and_sparse_tensors(tmp_path):
    dense = np.zeros((2, 3), np.float32)
    dense[1, 2], dense[0, 1] = 3, 2
    values = onnx.numpy_helper.from_array(np.float32([2, 3]), "s")
    indices = onnx.numpy_helper.from_array(np.array([1, 5]))
    nodes = [
        helper.make_node("Constant", [], ["w"], value_floats=[1.0, 2.0, 3.0]),
        node("Mul", "x w", "a"),
        node("Add", "a s", "y"),
    ]
    model = make_model(nodes, [tensor("x", [2, 3])], ["y"], {})
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
    imported = from_onnx(model)
    changed = jax.tree.map(lambda array: array + 1, imported.variables)
    imported.save(tmp_path / "a", changed)
    want = X * np.float32([2, 3, 4]) + dense + 1
    for each in (from_onnx(tmp_path / "a"), from_onnx(imported.to_proto(changed))):
        np.testing.assert_allclose(each(X), want, rtol=1e-6)


def test_copies_of_a_model(model):
    model(IMAGES)
    for each in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(each(IMAGES), model(IMAGES))


def make_text(proto):
    return base64.b64encode(zlib.compress(proto.SerializeToString())).decode()


@pytest.mark.parametrize(
    ("break_text", "message"),
    [
        (lambda proto: make_text(proto)[:-8], "ends too early"),
        (lambda proto: "!" + make_text(proto), "cannot be read"),
        (lambda proto: make_text(make_bomb(proto)), "ends too early, or is too large"),
        (lambda proto: make_text(make_hollow(proto)), "has no values of 'minus_one'"),
    ],
)
def test_damaged_graphs_in_checkpoints(tmp_path, break_text, message):
    """Of hostile ones as well: zeros that a few letters stand for, and integers without values."""
    imported = from_onnx(convnet())
    metadata = {"arguments": {"graph": break_text(imported.proto)}}
    checkpoint.save(tmp_path / "a", imported.variables, metadata)
    with pytest.raises(OnnxError, match=message):
        from_onnx(tmp_path / "a")


def make_bomb(proto):
    bomb = type(proto)()
    bomb.CopyFrom(proto)
    bomb.producer_name = "0" * 20_000_000
    return bomb


def make_hollow(proto):
    hollow = type(proto)()
    hollow.CopyFrom(proto)
    for each in hollow.graph.initializer:
        if each.name == "minus_one":
            each.ClearField("raw_data")
            each.data_location = TensorProto.EXTERNAL
    return hollow


def test_files_that_are_not_named():
    model = make_hollow(convnet())
    with pytest.raises(OnnxError, match="'minus_one' lies in a file that the model does not name"):
        from_onnx(model)
