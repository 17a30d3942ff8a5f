"""The last layers of imported classifiers: which there are, new ones in their place, exports."""

import jax
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import zoo
from tests.zoo.onnx.small import make_model, node, tensor
from zoo.onnx import UnsupportedError, from_onnx
from zoo_pretrained.checkpoint import flatten_variables

IMAGES = np.float32(np.random.default_rng(1).normal(size=(4, 8, 8, 3)))


def draw(*shape):
    return np.float32(np.random.default_rng(sum(shape)).normal(size=shape))


CONSTANTS = {
    "w": draw(8, 3, 3, 3),
    "k": draw(8, 5),
    "c": draw(5),
    "q": draw(5, 8, 1, 1),
    "shape": np.array([-1, 5]),
    "axes": np.array([2, 3]),
    "wide": draw(5, 8, 3, 3),
    "k2": draw(5, 5),
    "two": np.array([-1, 1, 5]),
}
MAPS = (node("Conv", "x w", "a", pads=[1, 1, 1, 1]), node("Relu", "a", "b"))
POOLED = (*MAPS, node("GlobalAveragePool", "b", "p"))
FLAT = (*POOLED, node("Flatten", "p", "f"))
HEADS = {
    "Gemm": [*FLAT, node("Gemm", "f k c", "y")],
    "Gemm without a bias": [*FLAT, node("Gemm", "f k", "y")],
    "MatMul": [*FLAT, node("MatMul", "f k", "y")],
    "MatMul, Add and Softmax": [
        *(*FLAT, node("MatMul", "f k", "m"), node("Add", "c m", "l")),
        node("Softmax", "l", "y", axis=-1),
    ],
    "Conv of maps": [
        *(*MAPS, node("Conv", "b q c", "h"), node("Relu", "h", "r")),
        *(node("GlobalAveragePool", "r", "m"), node("Flatten", "m", "y")),
    ],
    "Conv, Reshape and Softmax": [
        *(*POOLED, node("Conv", "p q", "h"), node("Reshape", "h shape", "l")),
        node("Softmax", "l", "y", axis=-1),
    ],
    "Conv and Squeeze": [*POOLED, node("Conv", "p q", "h"), node("Squeeze", "h axes", "y")],
    "Conv and ReduceMean": [
        *(*MAPS, node("Conv", "b q c", "h")),
        node("ReduceMean", "h axes", "y", keepdims=0),
    ],
}


def make_classifier(nodes, shape=("N", 3, None, None), outputs=("N", 5)):
    used = {name for each in nodes for name in each.input}
    constants = {name: array for name, array in CONSTANTS.items() if name in used}
    return make_model(nodes, [tensor("x", shape)], [tensor("y", outputs)], constants)


@pytest.mark.parametrize("name", HEADS)
def test_heads(name, tmp_path):
    """Logits, without a softmax; for other classes too, and exported again with them."""
    model = make_classifier(HEADS[name])

    def check(model, trained):
        (want,) = ReferenceEvaluator(model).run(None, {"x": IMAGES.transpose(0, 3, 1, 2)})
        found = np.asarray(trained(IMAGES))
        if "Softmax" in name:
            found = jax.nn.softmax(found)
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)

    trained = from_onnx(model).as_trained()
    check(model, trained)
    adapted = zoo.adapt(trained, num_classes=3)
    head = adapted.variables["params"]["head"]
    head["kernel"], head["bias"] = draw(*head["kernel"].shape), draw(3)
    assert np.asarray(adapted(IMAGES)).shape == (4, 3)
    zoo.to_onnx(adapted, tmp_path / "m.onnx")
    exported = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(exported, full_check=True)
    check(exported, adapted)
    unread = {each.name for each in exported.graph.initializer}
    assert unread <= {each for node in exported.graph.node for each in node.input}
    again = from_onnx(exported).as_trained()
    assert again.labels == ("class 0", "class 1", "class 2")
    np.testing.assert_allclose(again(IMAGES), adapted(IMAGES), rtol=1e-5, atol=1e-6)


def test_channels_behind():
    """As models of TensorFlow have them."""
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), *HEADS["Gemm"]]
    nodes[1] = node("Conv", "t w", "a", pads=[1, 1, 1, 1])
    model = make_classifier(nodes, ("N", 16, 16, 3))
    trained = from_onnx(model).as_trained()
    images = draw(2, 16, 16, 3)
    want = ReferenceEvaluator(model).run(None, {"x": images})[0]
    np.testing.assert_allclose(trained(images), want, rtol=1e-4, atol=1e-5)
    assert (trained.channels, trained.info.preprocessing.size) == (3, 16)


def test_grey_images():
    nodes = [node("ReduceMean", "x", "m", axes=[2, 3], keepdims=0), node("Gemm", "m k c", "y")]
    constants = {"k": draw(1, 5), "c": draw(5)}
    model = make_model(nodes, [tensor("x", ["N", 1, 8, 8])], [tensor("y", ["N", 5])], constants, 13)
    trained = from_onnx(model).as_trained()
    assert (trained.channels, trained.info.preprocessing.channels) == (1, "grey")
    assert len(trained.classify(np.zeros((8, 8, 3), np.uint8))) == 5


@pytest.mark.parametrize(
    ("nodes", "shape", "message"),
    [
        (MAPS, ("N", 3, 8, 8), "here Conv 'Conv/a' is no convolution of one pixel with weights"),
        (HEADS["Gemm"], ("N", 4), r"takes images of floating point, and not x: float32 \[N, 4\]"),
        (HEADS["Gemm"], ("N", 3, 2, 4), r"must be squares, and not x: float32 \[N, 3, 2, 4\]"),
        (HEADS["Gemm"], ("N", 3, 2, None), r"must be squares, and not x: float32 \[N, 3, 2, \?\]"),
        (
            [*FLAT, node("Add", "k k", "v"), node("Gemm", "f v c", "y")],
            *(None, "here 'v' of Gemm 'Gemm/y' is no parameter of its own"),
        ),
        (
            [*FLAT, node("Gemm", "f k c", "g"), node("MatMul", "g k2", "h"), node("Exp", "h", "y")],
            *(None, "here Exp 'Exp/y' is none of these"),
        ),
        (
            [*FLAT, node("MatMul", "f k", "g"), node("Add", "g k2", "y")],
            *(None, r"here the bias of MatMul 'MatMul/g' has the shape \(5, 5\)"),
        ),
        ([*FLAT, node("Gemm", "f k c", "y", alpha=2.0)], None, "Gemm/y' transposes its input, or"),
        (
            [*FLAT, node("Gemm", "f k", "m"), node("Add", "m c", "y")],
            *(None, "here Add 'Add/y' adds something other than a bias to a MatMul"),
        ),
        (
            [*FLAT, node("MatMul", "f k", "g"), node("Add", "g g", "h"), node("Softmax", "h", "y")],
            *(None, "here Add 'Add/h' adds something other than a bias to a MatMul"),
        ),
        (
            [*FLAT, node("Gemm", "f k c", "g"), node("Softmax", "g", "s"), node("Relu", "s", "y")],
            *(None, "here Softmax 'Softmax/s' is not at the end"),
        ),
        (
            [*FLAT, node("Gemm", "f k c", "g"), node("Mul", "g g", "y")],
            *(None, "here Mul 'Mul/y' is none of these"),
        ),
        (
            [*FLAT, node("Gemm", "f k c", "g"), node("Reshape", "g two", "y")],
            *(None, r"gives an array \[N, 5\], and this model, of one image .*, \[1, 1, 5\]"),
        ),
        (
            [node("Reshape", "x shape", "f"), node("Gemm", "f k c", "y")],
            *(None, "takes an image of 224x224, and this model fails: Reshape 'Reshape/f'"),
        ),
        ([*MAPS, node("Conv", "b wide c", "y")], None, "Conv/y' is no convolution of one pixel"),
        ([*MAPS, node("Conv", "b q c", "y")], None, r"\[N, 5\], and this model, of one image of 2"),
    ],
)
def test_what_is_no_classifier(nodes, shape, message):
    model = make_classifier(nodes, shape or ("N", 3, None, None), None)
    model.graph.output[0].name = nodes[-1].output[0]
    imported = from_onnx(model)
    with pytest.raises(UnsupportedError, match=message):
        imported.as_trained()


def test_a_node_without_inputs():
    """As nobody makes one, but may send it: it is no endless loop."""
    model = make_classifier(HEADS["Gemm"])
    model.graph.node.append(onnx.helper.make_node("Identity", [], ["z", ""]))
    model.graph.output[0].name = "z"
    with pytest.raises(UnsupportedError, match="no layer is found in front of the output"):
        from_onnx(model).as_trained()


def test_images_are_of_floating_point():
    model = make_classifier([node("Cast", "x8", "x", to=1), *HEADS["Gemm"]])
    model.graph.input[0].CopyFrom(tensor("x8", ["N", 3, 8, 8], onnx.TensorProto.UINT8))
    imported = from_onnx(model)
    with pytest.raises(UnsupportedError, match="takes images of floating point, and not x8: uint8"):
        imported.as_trained()


@pytest.mark.parametrize("size", [8, None])
def test_models_that_take_no_single_pixel(size):
    """A free height and width does not mean that one pixel will do."""
    nodes = [node("Conv", "x w", "a", strides=[2, 2]), *HEADS["Gemm"][1:]]
    trained = from_onnx(make_classifier(nodes, ("N", 3, size, size))).as_trained()
    adapted = zoo.adapt(trained, num_classes=3)
    assert np.asarray(adapted(IMAGES)).shape == (4, 3)
    fresh = trained.model.init(jax.random.key(0), IMAGES)
    for path, leaf in flatten_variables(fresh):
        assert (float(np.std(leaf)) > 0) == (leaf.ndim > 1), path
    assert np.std(np.asarray(trained.model.apply(fresh, IMAGES))) > 0


def test_half_precision(tmp_path):
    """A new head, gradients and exports have the model's type."""
    model = make_classifier(HEADS["MatMul"])
    for each in model.graph.initializer:
        half = np.float16(onnx.numpy_helper.to_array(each))
        each.CopyFrom(onnx.numpy_helper.from_array(half, each.name))
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    trained = from_onnx(model).as_trained()
    assert {leaf.dtype for leaf in jax.tree.leaves(trained.variables)} == {np.dtype(np.float16)}
    planes = np.float16(IMAGES.transpose(0, 3, 1, 2))
    (want,) = ReferenceEvaluator(model).run(None, {"x": planes})
    np.testing.assert_allclose(trained(IMAGES), want, rtol=2e-2, atol=2e-2)
    adapted = zoo.adapt(trained, num_classes=3)
    wide = adapted.replace(variables=jax.tree.map(np.float32, adapted.variables))
    for each in (adapted, wide):
        loss = jax.grad(lambda v, model=each.model: model.apply(v, IMAGES)[0, 0])
        kernel = loss(each.variables)["params"]["w"]
        assert np.isfinite(kernel).all()
        assert np.any(kernel)
    wide.variables["params"]["head"]["bias"] = np.float32([1, 2, 3])
    zoo.to_onnx(wide, tmp_path / "m.onnx")
    exported = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(exported, full_check=True)
    (want,) = ReferenceEvaluator(exported).run(None, {"x": planes})
    np.testing.assert_allclose(wide(IMAGES), want, rtol=2e-2, atol=2e-2)


def test_old_files_list_weights_among_the_inputs(tmp_path):
    nodes = [*POOLED, node("Conv", "p q", "h"), node("Reshape", "h shape", "y")]
    model = make_classifier(nodes)
    model.opset_import[0].version, model.ir_version = 8, 3
    for each in model.graph.initializer:
        model.graph.input.append(tensor(each.name, each.dims, each.data_type))
    adapted = zoo.adapt(from_onnx(model).as_trained(), num_classes=3)
    zoo.to_onnx(adapted, tmp_path / "m.onnx")
    exported = onnx.load(tmp_path / "m.onnx")
    assert [info.name for info in exported.graph.input] == ["x"]
    onnx.checker.check_model(exported, full_check=True)
    (want,) = ReferenceEvaluator(exported).run(None, {"x": IMAGES.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(adapted(IMAGES), want, rtol=1e-4, atol=1e-5)


def test_names_that_are_there_twice(tmp_path):
    """Of nodes, of parameters and nodes, and those of the zoo's own."""
    nodes = [
        *(node("Conv", "x a/b", "a", pads=[1, 1, 1, 1]), node("Relu", "a", "r")),
        *(node("Mul", "r a.b", "s"), node("Mul", "s head", "b"), *HEADS["Gemm"][2:]),
    ]
    for each, name in zip(nodes, ("twice", "twice", "head", "a.b"), strict=False):
        each.name = name
    long = "long/" * 100
    constants = {"a/b": CONSTANTS["w"], "a.b": draw(8, 1, 1), "head": draw(8, 1, 1) + 1}
    constants |= {name: CONSTANTS[name] for name in ("k", "c")}
    infos = [tensor("x", ["N", 3, None, None])], [tensor("y", ["N", 5])]
    model = make_model(nodes, *infos, constants)
    for each in model.graph.initializer:
        each.name = each.name.replace("a/b", long)
    nodes[0].input[1] = model.graph.node[0].input[1] = long
    trained = from_onnx(model).as_trained()
    (want,) = ReferenceEvaluator(model).run(None, {"x": IMAGES.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(trained(IMAGES), want, rtol=1e-4, atol=1e-5)
    assert {"twice", "twice_2"} <= set(zoo.features(trained, IMAGES, ["*"]))
    trained.save(tmp_path / "m")
    again = zoo.trained("onnxclassifier", weights=tmp_path / "m")
    np.testing.assert_array_equal(again(IMAGES), trained(IMAGES))


@pytest.mark.parametrize("head", ["Gemm", "MatMul, Add and Softmax"])
def test_one_class(head, tmp_path):
    """A bias of one number is no parameter, and belongs to the head."""
    five = from_onnx(make_classifier(HEADS[head])).as_trained()
    one = zoo.adapt(five, num_classes=1)
    zoo.to_onnx(one, tmp_path / "m.onnx")
    again = from_onnx(tmp_path / "m.onnx").as_trained()
    assert again.model.num_classes == 1
    np.testing.assert_allclose(again(IMAGES), one(IMAGES), rtol=1e-5, atol=1e-6)
    two = zoo.adapt(again, num_classes=2)
    zoo.to_onnx(two, tmp_path / "m.onnx", overwrite=True)
    again = from_onnx(tmp_path / "m.onnx").as_trained()
    np.testing.assert_allclose(again(IMAGES), two(IMAGES), rtol=1e-5, atol=1e-6)


def test_a_bias_with_an_axis_for_images(tmp_path):
    model = make_classifier([*FLAT, node("Gemm", "f k wide", "y")])
    (bias,) = (each for each in model.graph.initializer if each.name == "wide")
    bias.CopyFrom(onnx.numpy_helper.from_array(draw(1, 5), "wide"))
    trained = from_onnx(model).as_trained()
    (want,) = ReferenceEvaluator(model).run(None, {"x": IMAGES.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(trained(IMAGES), want, rtol=1e-4, atol=1e-5)
    zoo.to_onnx(zoo.adapt(trained, num_classes=2), tmp_path / "m.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"), full_check=True)


def test_shapes_that_are_computed_behind_the_head():
    """As `x.view(x.size(0), -1)` is exported."""
    nodes = [
        *(
            *POOLED,
            node("Conv", "p q", "h"),
            node("Shape", "h", "s"),
            node("Gather", "s zero", "n"),
        ),
        *(node("Concat", "n minus", "t", axis=0), node("Reshape", "h t", "y")),
    ]
    constants = {name: CONSTANTS[name] for name in ("w", "q")}
    constants |= {"zero": np.array([0]), "minus": np.array([-1])}
    infos = [tensor("x", ["N", 3, None, None])], [tensor("y", ["N", 5])]
    trained = from_onnx(make_model(nodes, *infos, constants)).as_trained()
    assert np.asarray(zoo.adapt(trained, num_classes=2)(IMAGES)).shape == (4, 2)
