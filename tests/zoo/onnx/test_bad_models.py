"""Files that are no models, models that contradict themselves, and inputs that do not fit."""

import contextlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.zoo.onnx.small import convnet, make_model, node, tensor
from zoo.onnx import OnnxError, UnsupportedError, from_onnx

RELU = node("Relu", "x", "y")


def test_what_is_no_source():
    with pytest.raises(TypeError, match="path of an ONNX file, its bytes or a ModelProto, got"):
        from_onnx(3)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x00" * 100, b"PK\x03\x04" * 9])
def test_what_is_no_model(content, tmp_path):
    (tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(OnnxError, match=r"other\.onnx: no ONNX model"):
        from_onnx(tmp_path / "other.onnx")
    with pytest.raises(OnnxError, match="the bytes: no ONNX model"):
        from_onnx(content)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_part_of_a_model(share):
    content = convnet().SerializeToString()
    with pytest.raises(OnnxError):
        from_onnx(content[: int(share * len(content))])


def test_all_missing_operators_are_listed():
    nodes = [
        node("Relu", "x", "a"),
        node("Foo", "a", "b", domain="org.example"),
        node("Bar", "b", "c"),
        node("Foo", "c", "y", domain="org.example"),
    ]
    model = make_model(nodes, ["x"], ["y"], domains=["org.example"])
    names = r"Bar \(version 21\), org\.example\.Foo \(version 1\)$"
    with pytest.raises(UnsupportedError, match=f"operators that are not there: {names}"):
        from_onnx(model)


def test_a_domain_without_a_version():
    model = make_model([node("Foo", "x", "y", domain="org.example")], ["x"], ["y"])
    with pytest.raises(OnnxError, match=r"domain 'org\.example', of which the model names no ver"):
        from_onnx(model)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Add", "x b", "a"), node("Relu", "a", "b")],  # a cycle
        [node("Relu", "a", "y"), node("Relu", "x", "a")],  # not sorted
    ],
)
def test_a_graph_that_cannot_be_computed_in_order(nodes):
    with pytest.raises(OnnxError, match="the graph has a cycle, or is not sorted"):
        from_onnx(make_model(nodes, ["x"], ["a"]))


def test_a_value_that_is_computed_twice():
    with pytest.raises(OnnxError, match="two nodes compute 'y'"):
        from_onnx(make_model([RELU, RELU], ["x"], ["y"]))


def test_an_output_that_is_not_computed():
    with pytest.raises(OnnxError, match="the output 'z' is computed by no node"):
        from_onnx(make_model([RELU], ["x"], ["z"]))


def test_a_function_that_calls_itself():
    body = [helper.make_node("Again", ["a"], ["b"], domain="f")]
    sets = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    function = helper.make_function("f", "Again", ["a"], ["b"], body, sets)
    call = helper.make_node("Again", ["x"], ["y"], domain="f")
    model = make_model([call], ["x"], ["y"], functions=[function], domains=["f"])
    with pytest.raises(OnnxError, match="the function 'Again' calls itself"):
        from_onnx(model)


def external(location, offset="0"):
    """A model whose one constant, of 4 numbers, lies in another file."""
    model = make_model([node("Add", "x w", "y")], ["x"], ["y"], {"w": np.ones(4, np.float32)})
    constant = model.graph.initializer[0]
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset)):
        entry = constant.external_data.add()
        entry.key, entry.value = key, value
    return model


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "", ".", "a/../../w.bin"])
def test_external_data_stays_in_the_folder(tmp_path, location):
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "m.onnx"
    path.write_bytes(external(location).SerializeToString())
    with pytest.raises(OnnxError, match="outside of the model's folder"):
        from_onnx(path)


def test_external_data_behind_a_link_stays_in_the_folder(tmp_path):
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w.bin").symlink_to(tmp_path / "w.bin")
    path = tmp_path / "model" / "m.onnx"
    path.write_bytes(external("w.bin").SerializeToString())
    with pytest.raises(OnnxError, match="outside of the model's folder"):
        from_onnx(path)


def test_external_data_that_is_too_short(tmp_path):
    (tmp_path / "w.bin").write_bytes(bytes(16))
    path = tmp_path / "m.onnx"
    path.write_bytes(external("w.bin", offset="4").SerializeToString())
    with pytest.raises(OnnxError, match=r"needs 16 bytes at 4, but 'w\.bin' has 16"):
        from_onnx(path)


def test_external_data_of_bytes():
    with pytest.raises(OnnxError, match="give the model's path"):
        from_onnx(external("w.bin").SerializeToString())


@pytest.mark.parametrize("shape", [[2**40, 2**40], [-1], [2**62]])
def test_absurd_constants_are_refused(shape):
    constant = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape)
    model = make_model([node("Add", "x w", "y")], ["x"], ["y"])
    model.graph.initializer.append(constant)
    with pytest.raises(OnnxError, match="the tensor 'w' cannot have the shape"):
        from_onnx(model)


HUGE = np.array([2**20, 2**20])


@pytest.mark.parametrize(
    "nodes",
    [
        [node("ConstantOfShape", "huge", "y")],
        [node("Expand", "x huge", "y")],
        [node("Tile", "x huge", "y")],
        [node("Pad", "x pads", "y")],
        [node("Resize", "x none none huge", "y")],
    ],
)
def test_absurd_sizes_are_refused_before_they_are_allocated(nodes):
    constants = {"huge": HUGE, "pads": np.repeat(HUGE, 2), "none": np.zeros(0, np.float32)}
    model = from_onnx(make_model(nodes, [tensor("x", [1, 1])], ["y"], constants))
    with pytest.raises(OnnxError, match="no array can have the shape"):
        model(np.zeros((1, 1), np.float32))


# --- inputs


@pytest.fixture(scope="module")
def model():
    return from_onnx(convnet())


IMAGES = np.zeros((2, 3, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), r"the model has 1 inputs \(images\), got 0"),
        ((IMAGES, IMAGES), "got 2"),
        ((IMAGES[0],), r"input images: float32 \[N, 3, 8, 8\] cannot be of the shape \[3, 8, 8\]"),
        ((IMAGES[:, :2],), r"cannot be of the shape \[2, 2, 8, 8\]"),
        ((np.int8(IMAGES),), r"the input images: .* cannot be of the type int8"),
    ],
)
def test_inputs_that_do_not_fit(model, inputs, message):
    with pytest.raises(OnnxError, match=message):
        model(*inputs)
    with pytest.raises(OnnxError, match=message):
        model.apply(model.variables, *inputs)


def test_sides_of_one_name_are_equal():
    infos = [tensor("a", ["N", 2]), tensor("b", ["N", 2])]
    model = from_onnx(make_model([node("Add", "a b", "y")], infos, ["y"]))
    message = "the side 'N' is 3 in 'a', and 1 in 'b'"
    with pytest.raises(OnnxError, match=message):
        model(np.zeros((3, 2), np.float32), np.zeros((1, 2), np.float32))


def test_sides_that_have_no_name_may_differ():
    """Some exporters call each of them "?", or write −1."""
    info = tensor("x", ["?", "?", 1])
    info.type.tensor_type.shape.dim[2].dim_value = -1
    model = from_onnx(make_model([RELU], [info], ["y"]))
    assert model.inputs[0].shape == (None, None, None)
    assert model(np.zeros((2, 3, 4), np.float32)).shape == (2, 3, 4)


def test_missing_variables(model):
    with pytest.raises(OnnxError, match="the variables have no 'params/"):
        model.apply({"params": {}}, IMAGES)


def test_inputs_that_do_not_fit_an_operator():
    model = from_onnx(make_model([node("MatMul", "a b", "y")], ["a", "b"], ["y"]))
    with pytest.raises(OnnxError, match=r"MatMul 'MatMul/y': inputs float32\[2, 3\], float32\[2"):
        model(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))


# --- mutated files


def flip(content, random):
    for _ in range(random.integers(1, 4)):
        content[random.integers(len(content))] ^= 1 << random.integers(8)
    return bytes(content)


def overwrite(content, random):
    at, count = random.integers(len(content) - 8), random.integers(1, 7)
    content[at : at + count] = random.bytes(random.integers(0, 7))
    return bytes(content)


def swap_edges(content, random):
    model = onnx.load_from_string(bytes(content))
    a, b = (model.graph.node[i] for i in random.integers(len(model.graph.node), size=2))
    names = [name for each in model.graph.node for name in (*each.input, *each.output)]
    a.input[random.integers(len(a.input))] = names[random.integers(len(names))]
    b.output[0] = names[random.integers(len(names))] if random.random() < 0.3 else b.output[0]
    return model.SerializeToString()


def distort(content, random):
    """Hostile numbers in attributes and shapes."""
    model = onnx.load_from_string(bytes(content))
    numbers = (-1, 0, 7, 1000, 2**31, 2**62)
    number = numbers[random.integers(len(numbers))]
    if random.random() < 0.5:
        attributes = [each for node in model.graph.node for each in node.attribute]
        chosen = attributes[random.integers(len(attributes))]
        if chosen.ints:
            chosen.ints[random.integers(len(chosen.ints))] = number
        else:
            chosen.i = number
    else:
        chosen = model.graph.initializer[random.integers(len(model.graph.initializer))]
        if chosen.dims:
            chosen.dims[random.integers(len(chosen.dims))] = number
    return model.SerializeToString()


@pytest.mark.parametrize("mutate", [flip, overwrite, swap_edges, distort])
def test_mutated_files_load_or_give_our_error(mutate):
    """None crashes, hangs or takes memory without end."""
    content, random = convnet().SerializeToString(), np.random.default_rng(0)
    loaded = 0
    for _ in range(150):
        with contextlib.suppress(OnnxError):
            model = from_onnx(mutate(bytearray(content), random))
            loaded += 1
            model.apply(model.variables, IMAGES)
    assert loaded > 10  # or the mutations say nothing of what is computed
