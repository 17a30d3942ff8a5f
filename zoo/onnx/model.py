"""Imported models: `from_onnx`."""

import collections
import dataclasses
import functools
import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zoo_kernels as kernels
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Trained
from zoo.onnx.errors import OnnxError, UnsupportedError
from zoo.onnx.graph import Graph, TensorInfo
from zoo.onnx.interpret import find_known, run_graph
from zoo.onnx.load import Loader, read_proto
from zoo.onnx.parameters import (
    HWIO,
    OIHW,
    ParameterPath,
    find_kernels,
    find_parameters,
    gather_variables,
    pick_parameters,
)
from zoo.onnx.registry import Kernel, find_missing
from zoo.onnx.structure import decode, empty_parameters, encode, fill_parameters
from zoo_pretrained import checkpoint
from zoo_pretrained.printable import printable

# Programs that are kept, one for each set of inputs whose values are part of it.
MAX_PROGRAMS = 16


def from_onnx(source: Any) -> "OnnxModel":
    """Imports a model from ONNX: a pure function, and its weights as plain arrays.

        model = zoo.from_onnx("resnet18.onnx")
        logits = model(images)                          # images: [N, C, H, W], as in the file
        logits = model.apply(model.variables, images)   # jit, grad and vmap go through it

    Args:
      source: the path of a file, whose external data may lie beside it; its bytes; an
        `onnx.ModelProto`; or the folder that `OnnxModel.save` made.

    Raises:
      MissingExtraError: the package onnx is not installed (the extra `onnx`).
      FileNotFoundError: there is no such file.
      CheckpointError: the folder is no checkpoint, or is damaged.
      OnnxError: it is no ONNX model, or the model contradicts itself.
      UnsupportedError: it has operators that are not there; the message lists all of them.
    """
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        return _restore(Path(source))
    proto, folder = read_proto(source)
    loader = Loader(proto, folder)
    graph = loader.load()
    for name in sorted(loader.emptied):
        raise OnnxError(f"the tensor {name!r} lies in a file that the model does not name")
    model = _make_model(graph, proto)
    variables = jax.tree.map(jnp.asarray, gather_variables(graph, model.paths, model.kernels))
    empty_parameters(proto, model.paths, loader.tensor)
    return dataclasses.replace(model, variables=variables)


def _make_model(graph: Graph, proto: Any) -> "OnnxModel":
    """The model of a graph, without variables."""
    if missing := find_missing(graph.all_nodes()):
        raise UnsupportedError(
            f"the model needs operators that are not there: {', '.join(missing)}"
        )
    paths = find_parameters(graph)
    kernels = find_kernels(graph, paths)
    parameters = {}
    for name in paths:
        array = graph.constants[name]
        shape = [array.shape[side] for side in HWIO] if name in kernels else array.shape
        parameters[name] = jax.ShapeDtypeStruct(shape, array.dtype)
    constants = {name: array for name, array in graph.constants.items() if name not in paths}
    graph = dataclasses.replace(graph, constants=constants)
    return OnnxModel(graph, {}, paths, parameters, kernels, proto)


def from_structure(structure: str) -> "OnnxModel":
    """The model that a text stands for, without variables; see `OnnxModel.structure`."""
    proto = decode(structure)
    loader = Loader(proto)
    model = _make_model(loader.load(), proto)
    for name in sorted(loader.emptied - model.paths.keys()):
        raise OnnxError(f"the graph of an imported model has no values of {name!r}")
    return model


def _restore(folder: Path) -> "OnnxModel":
    """The model that `OnnxModel.save` saved."""
    variables, metadata = checkpoint.restore(folder)
    if "model" in metadata:
        name = printable(metadata["model"])
        raise OnnxError(
            f"{folder} is a checkpoint of {name}: zoo.trained({name!r}, weights={str(folder)!r}) "
            f"loads it"
        )
    arguments = metadata.get("arguments")
    structure = arguments.get("graph") if isinstance(arguments, Mapping) else None
    if not isinstance(structure, str):
        raise OnnxError(f"{folder} is a checkpoint that has no graph of an imported model")
    model = from_structure(structure)
    found = {name: np.shape(array) for name, array in _pick(variables, model.paths).items()}
    for name, shape in found.items():
        if shape != model.parameters[name].shape:
            path, wanted = "/".join(model.paths[name]), model.parameters[name].shape
            raise OnnxError(f"{folder}: {path} has the shape {shape}, and the model needs {wanted}")
    return dataclasses.replace(model, variables=jax.device_put(variables))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class OnnxModel:
    """A model that was imported from ONNX.

    Args:
      graph: what is computed.
      variables: {"params": …, "batch_stats": …}, nested dicts of arrays.
      paths: where in the variables the arrays of the graph's parameters are, by their names.
      parameters: shapes and types of the arrays in the variables, by their names in the graph.
      kernels: names of those that are kernels of convolutions of images, which the variables have
        as [kh, kw, in / groups, out].
      proto: the `onnx.ModelProto`, whose parameters have no values.
    """

    graph: Graph
    variables: dict[str, Any]
    paths: Mapping[str, ParameterPath]
    parameters: Mapping[str, jax.ShapeDtypeStruct]
    kernels: Collection[str] = ()
    proto: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: no compiled programs."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __repr__(self) -> str:
        return f"OnnxModel({self.graph.name!r}, {self.size:,} parameters)"

    @property
    def size(self) -> int:
        """The number of elements of all parameters."""
        return sum(math.prod(each.shape) for each in self.parameters.values())

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """What it takes; sides that are free have a name or None."""
        return self.graph.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """What it gives."""
        return self.graph.outputs

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of the model: texts by name."""
        return {entry.key: entry.value for entry in self.proto.metadata_props}

    @functools.cached_property
    def structure(self) -> str:
        """The model without its weights, as a text: what a checkpoint has of it beside them.

        Raises:
          UnsupportedError: it is too long, such as that of a model with large tables of integers.
        """
        return encode(self.proto)

    @functools.cached_property
    def known_inputs(self) -> tuple[str, ...]:
        """Names of inputs whose values shape the program, as a size to reshape to does.

        Inside `jax.jit` and other transformations they must be NumPy's arrays.
        """
        known = find_known(self.graph)
        return tuple(info.name for info in self.inputs if info.name in known)

    def apply(self, variables: Mapping[str, Any], *inputs: Any) -> Any:
        """The output, or a tuple of all, as a pure function that jit, grad and vmap go through.

        Args:
          variables: like those of the model.
          *inputs: arrays of the model's types and shapes, in its order: images are [N, C, H, W] in
            most. Those that are NumPy's may be computed with while the program is traced.

        Raises:
          OnnxError: an input has another type or shape, or variables are missing.
        """
        self._check(inputs)
        arrays = _pick(variables, self.paths)
        outer = {name: self.as_value(name, array) for name, array in arrays.items()}
        outputs = run_graph(self.graph, inputs, outer)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def as_value(self, name: str, array: Any) -> Any:
        """What the graph gets for a parameter's array."""
        return Kernel(array) if name in self.kernels else array

    def __call__(self, *inputs: Any) -> Any:
        """The output, or a tuple of all, with the model's own variables; compiled.

        Sequences, texts and missing values, which jax knows nothing of, are computed with one by
        one.
        """
        self._check(inputs)
        if not all(map(_is_array, inputs)):
            return self.apply(self.variables, *inputs)
        known, traced = [], []
        for number, (info, value) in enumerate(zip(self.inputs, inputs, strict=True)):
            if info.name in self.known_inputs:
                array = np.asarray(value)
                known.append((number, array.tobytes(), array.dtype, array.shape))
            else:
                traced.append(jnp.asarray(value))
        return self._compile(tuple(known))(self.variables, *traced)

    @functools.cached_property
    def _compile(self) -> Any:
        @functools.lru_cache(maxsize=MAX_PROGRAMS)
        def compile_with(known: tuple[tuple[int, bytes, np.dtype, tuple[int, ...]], ...]) -> Any:
            arrays = {
                number: np.frombuffer(content, dtype).reshape(shape)
                for number, content, dtype, shape in known
            }

            def run(variables: Any, *traced: Any) -> Any:
                rest = iter(traced)
                count = len(self.inputs)
                inputs = [arrays[i] if i in arrays else next(rest) for i in range(count)]
                return self.apply(variables, *inputs)

            return kernels.jit(run)

        return compile_with

    def _check(self, inputs: tuple[Any, ...]) -> None:
        """Raises OnnxError unless the inputs have the types and shapes that the model says."""
        names = ", ".join(info.name for info in self.inputs)
        if len(inputs) != len(self.inputs):
            raise OnnxError(f"the model has {len(self.inputs)} inputs ({names}), got {len(inputs)}")
        sides: dict[str, tuple[int, str]] = {}
        for info, value in zip(self.inputs, inputs, strict=True):
            if info.shape is None or isinstance(value, list) or value is None:
                continue
            shape = np.shape(value)
            fits = len(shape) == len(info.shape) and all(
                wanted == given
                for wanted, given in zip(info.shape, shape, strict=True)
                if isinstance(wanted, int)
            )
            if not fits:
                raise OnnxError(f"the input {info} cannot be of the shape {list(shape)}")
            for name, side in zip(info.shape, shape, strict=True):
                if not isinstance(name, str):
                    continue
                before, input_name = sides.setdefault(name, (side, info.name))
                if before != side:
                    raise OnnxError(
                        f"the side {name!r} is {before} in {input_name!r}, and {side} in "
                        f"{info.name!r}"
                    )
            dtype = getattr(value, "dtype", None)
            if dtype is not None and info.dtype is not None and not _fits(dtype, info.dtype):
                raise OnnxError(f"the input {info} cannot be of the type {dtype}")

    def to_proto(self, variables: Mapping[str, Any] | None = None) -> Any:
        """The `onnx.ModelProto`, with the weights that variables have, by default the model's.

        Raises:
          OnnxError: variables are missing.
          UnsupportedError: weights lie inside a function of the model.
        """
        arrays = _pick(self.variables if variables is None else variables, self.paths)
        return self.fill({name: np.asarray(array) for name, array in arrays.items()})

    def fill(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """The `onnx.ModelProto` with weights by their names, kernels as in the variables."""
        proto = type(self.proto)()
        proto.CopyFrom(self.proto)
        as_stored = {
            name: array.transpose(OIHW) if name in self.kernels else array
            for name, array in arrays.items()
        }
        fill_parameters(proto, as_stored)
        return proto

    def save(
        self,
        path: str | os.PathLike[str],
        variables: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        """Saves a checkpoint, which `zoo.from_onnx` loads as the same model.

        Args:
          path: the folder to make; it appears complete or not at all.
          variables: in place of the model's own, as after a training.
          overwrite: replaces a checkpoint that is there.

        Raises:
          FileExistsError: the path exists, and `overwrite` is False or it is not a checkpoint.
          OnnxError: variables are missing.
          UnsupportedError: the graph is too large for a checkpoint, or there are no parameters.
        """
        structure = self.structure
        if not self.parameters:
            raise UnsupportedError("the model has no parameters, of which a checkpoint needs some")
        chosen = self.variables if variables is None else variables
        _pick(chosen, self.paths)
        metadata = {"arguments": {"graph": structure}, "weights": Path(path).name}
        checkpoint.save(path, chosen, metadata, overwrite=overwrite)

    def as_trained(
        self,
        *,
        labels: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        licence: str | None = None,
    ) -> Trained:
        """An imported classifier as what `zoo.trained` returns, for all that takes one.

            resnet = zoo.from_onnx("resnet18.onnx").as_trained()
            resnet.classify("cat.jpg")
            zoo.visualize.grad_cam(resnet, "cat.jpg", layer="layer4.layer4.1.relu_1.Relu")
            zoo.training.fit(zoo.adapt(resnet, labels=["cat", "dog"]), "photos/")

        Images are [N, H, W, C]. Modules are called as the nodes, with dots for slashes.

        Args:
          labels: the names of the classes; by default those that the file has, if `zoo.to_onnx`
            made it.
          preprocessing: of images; by default the file's, or else that of torchvision's models.
          licence: of the weights; by default the file's.

        Raises:
          UnsupportedError: it takes anything but images; its last layer is none that can be
            replaced (see `zoo.onnx.head`); or its graph is too large for a checkpoint.
          ArgumentError: there are more or fewer labels than classes, or the preprocessing gives
            images of another size or other channels.
        """
        from zoo.onnx.classifier import as_classifier

        return as_classifier(self, labels=labels, preprocessing=preprocessing, licence=licence)

    def describe(self) -> str:
        """Inputs, outputs, what the file says of the model, and how often each operator occurs."""
        counts = collections.Counter(node.op for node in self.graph.all_nodes())
        lines = [f"{self.graph.name or 'model'}: {self.size:,} parameters"]
        lines += [f"  input   {info}" for info in self.inputs]
        lines += [f"  output  {info}" for info in self.outputs]
        lines += [f"  {key}  {printable(text, 80)}" for key, text in self.metadata.items()]
        lines += [f"  {count:6} {op}" for op, count in counts.most_common()]
        return "\n".join(lines)


def _pick(variables: Mapping[str, Any], paths: Mapping[str, ParameterPath]) -> dict[str, Any]:
    """The parameters of a graph, by name; OnnxError if one is missing."""
    try:
        return dict(pick_parameters(variables, paths))
    except KeyError as error:
        raise OnnxError(f"the variables have no {error.args[0]!r}") from None


def _is_array(value: Any) -> bool:
    """Whether jax can compute with a value."""
    return value is not None and not isinstance(value, list) and np.asarray(value).dtype != object


def _fits(given: Any, wanted: np.dtype) -> bool:
    """Whether an array's type will do: jax has no 64 bits unless it is told to.

    Any of floating point will for another, as variables may be cast too.
    """
    given = np.dtype(given)
    if jnp.issubdtype(wanted, jnp.floating):
        return bool(jnp.issubdtype(given, jnp.floating))
    return given in (wanted, jax.dtypes.canonicalize_dtype(wanted))
