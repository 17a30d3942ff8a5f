"""Small ONNX models, made node by node."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def tensor(name, shape=None, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def make_model(nodes, inputs, outputs, constants=(), opset=21, functions=(), domains=()):
    """A model.

    Args:
      nodes: protos of nodes.
      inputs, outputs: names, of which nothing else is said, or infos.
      constants: {name: array}.
      opset: the version of the operator set.
      functions: protos of local functions.
      domains: of operators beside the standard's.
    """
    infos = [[tensor(x) if isinstance(x, str) else x for x in each] for each in (inputs, outputs)]
    initializers = [numpy_helper.from_array(a, name) for name, a in dict(constants).items()]
    graph = helper.make_graph(nodes, "small", *infos, initializers)
    sets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=sets, functions=list(functions))


def node(op, inputs, outputs, **attributes):
    return helper.make_node(
        op, inputs.split(), outputs.split(), name=f"{op}/{outputs}", **attributes
    )


def convnet():
    """Images [N, 3, 8, 8] → logits [N, 5], with norms, a residual and a dense layer."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return np.float32(rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])))

    nodes = [
        node("Conv", "images conv1.weight", "a", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "a bn1.scale bn1.bias bn1.mean bn1.var", "b"),
        node("Relu", "b", "c"),
        node("Conv", "c onnx::Conv_7", "d", pads=[1, 1, 1, 1], group=4),
        node("Add", "c d", "e"),
        node("MaxPool", "e", "f", kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", "f", "shape"),
        node("Gather", "shape zero", "batch"),
        node("Concat", "batch minus_one", "target", axis=0),
        node("Reshape", "f target", "flat"),
        node("Gemm", "flat fc.weight fc.bias", "logits", transB=1),
    ]
    constants = {
        "conv1.weight": draw(4, 3, 3, 3),
        "bn1.scale": draw(4) + 1,
        "bn1.bias": draw(4),
        "bn1.mean": draw(4),
        "bn1.var": np.float32(rng.uniform(0.5, 2, 4)),
        "onnx::Conv_7": draw(4, 1, 3, 3),
        "zero": np.array([0]),
        "minus_one": np.array([-1]),
        "fc.weight": draw(5, 64),
        "fc.bias": draw(5),
    }
    inputs, outputs = [tensor("images", ["N", 3, 8, 8])], [tensor("logits", ["N", 5])]
    return make_model(nodes, inputs, outputs, constants)


def serialize(model):
    onnx.checker.check_model(model)
    return model.SerializeToString()
