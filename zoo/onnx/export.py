"""Exports models to ONNX: `to_onnx`."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

import zoo
from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.trained import Trained
from zoo.onnx.classifier import OnnxClassifier
from zoo.onnx.emit import Emitter, Tensor, name_leaves
from zoo.onnx.equations import EQUATIONS
from zoo.onnx.errors import UnsupportedError
from zoo.onnx.export_imported import make_classifier_proto
from zoo.onnx.load import import_onnx
from zoo.onnx.model import OnnxModel
from zoo.onnx.trace import BATCH, trace_layers
from zoo.runtime.checks import ArgumentError, check_count
from zoo_pretrained.temporary import temporary_folder

OPSET = 17
# The oldest operator set with everything that is needed.
MIN_OPSET = 13
# The largest message of protobuf.
MAX_BYTES = (1 << 31) - (1 << 20)
INPUT, OUTPUT = "images", "logits"


def to_onnx(
    model: ModelWithWeights | OnnxModel,
    path: str | os.PathLike[str],
    *,
    size: int | None = None,
    opset: int | None = None,
    overwrite: bool = False,
) -> None:
    """Exports a model to ONNX.

        zoo.to_onnx(zoo.trained(zoo.EfficientNetLite0), "lite0.onnx")

    The graph has a node for each layer, named by its path, in [N, C, H, W], as other tools expect:
    Conv, BatchNormalization, Relu, Clip, Gemm … It takes any number of images of one size, in
    float32, normalised; how they are is in the metadata ("preprocessing", and "labels").

    A model that was imported has the graph of its file again, with the weights that it has now.

    Args:
      model: what `zoo.trained`, `zoo.adapt` or `zoo.fuse` returns, a pair (model, variables), a
        model's name, or what `zoo.from_onnx` returns. A fused model has no norms, and is faster
        everywhere.
      path: of the file; it appears complete or not at all.
      size: height and width of the images in pixels; by default the model's own.
      opset: the version of the operator set, from 13 on; by default 17.
      overwrite: replaces a file that is there.

    Raises:
      MissingExtraError: the package onnx is not installed (the extra `onnx`).
      FileExistsError: the file is there, and `overwrite` is False.
      FileNotFoundError: its folder is not there.
      ArgumentError: size or opset cannot be; an imported model takes neither.
      UnsupportedError: the model has something that ONNX has no operator for, or is too large.
    """
    target = Path(path)
    if not overwrite and os.path.lexists(target):
        raise FileExistsError(f"{target} is there already")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}")
    content = make_proto(model, size, opset).SerializeToString()
    with temporary_folder(target) as temporary:
        (temporary / "new").write_bytes(content)
        (temporary / "new").replace(target)


def make_proto(
    model: ModelWithWeights | OnnxModel, size: int | None = None, opset: int | None = None
) -> Any:
    """The `onnx.ModelProto` of a model; see `to_onnx`."""
    given = model if isinstance(model, OnnxModel) else as_trained(model)
    if sum(leaf.nbytes for leaf in jax.tree.leaves(given.variables)) > MAX_BYTES:
        raise UnsupportedError("a model of more than 2 GB does not fit into one file of ONNX")
    imported = isinstance(given, OnnxModel) or isinstance(given.model, OnnxClassifier)
    if imported and (size, opset) != (None, None):
        raise ArgumentError(
            f"an imported model keeps its size and its operator set: leave out size and opset, "
            f"got {size} and {opset}"
        )
    if isinstance(given, OnnxModel):
        return given.to_proto()
    given.require_head()
    info = given.info
    if imported:
        proto, preprocessing = make_classifier_proto(given), info.preprocessing
    else:
        side = info.preprocessing.size if size is None else size
        side = check_count("size", side, given.model.min_size)
        proto = _trace(given, side, OPSET if opset is None else opset)
        preprocessing = info.preprocessing.resized(side)
    facts = {
        "weights": info.weights,
        "source": info.source,
        "licence": info.licence,
        "preprocessing": json.dumps(dataclasses.asdict(preprocessing)),
        "labels": json.dumps(given.labels) if given.labels else "",
    }
    onnx = import_onnx()
    told = {entry.key: entry.value for entry in proto.metadata_props}  # by the imported file
    told |= {name: value for name, value in facts.items() if value}
    onnx.helper.set_model_props(proto, told)
    if not imported:  # files of others run that the checker does not like
        onnx.checker.check_model(proto)
    return proto


def _trace(trained: Trained, side: int, opset: int) -> Any:
    """The proto of a model that is made of the zoo's layers, for squares of a side in pixels."""
    emitter = Emitter(check_count("opset", opset, MIN_OPSET), EQUATIONS)
    onnx = emitter.onnx
    if opset > onnx.defs.onnx_opset_version():
        raise ArgumentError(
            f"opset must be at most {onnx.defs.onnx_opset_version()}, which the package onnx "
            f"{onnx.__version__} knows, got {opset}"
        )
    variables = jax.tree.map(np.asarray, trained.variables)
    shape = (side, side, trained.channels)
    model = trained.model.clone(dtype=np.float32)
    program = trace_layers(model, variables, shape)
    emitter.names = name_leaves(variables)
    images = Tensor(emitter.name(INPUT), (BATCH, *shape))
    (logits,) = emitter.run(program, [*jax.tree.leaves(variables), images])
    assert not isinstance(logits, np.ndarray)
    found = emitter.compute(logits)
    emitter.nodes[-1].output[0] = OUTPUT
    return _assemble(emitter, trained, shape, found)


def _assemble(emitter: Emitter, trained: Trained, shape: tuple[int, ...], logits: Tensor) -> Any:
    helper, float32 = emitter.onnx.helper, emitter.onnx.TensorProto.FLOAT
    height, width, channels = shape
    graph = helper.make_graph(
        emitter.nodes,
        trained.model.title,
        [helper.make_tensor_value_info(INPUT, float32, ["N", channels, height, width])],
        [helper.make_tensor_value_info(OUTPUT, float32, ["N", *logits.shape[1:]])],
        [
            emitter.onnx.numpy_helper.from_array(np.asarray(array), name)
            for name, array in emitter.initializers.items()
        ],
    )
    sets = [helper.make_opsetid("", emitter.opset)]
    return helper.make_model(
        graph,
        opset_imports=sets,
        ir_version=helper.find_min_ir_version_for(sets),
        producer_name="jax-zoo",
        producer_version=zoo.__version__,
    )
