"""Weights that Keras has saved: .h5 of Keras 1 to 3, .weights.h5 and .keras of Keras 3.

An array's name is "<layer>/<variable>", as in "conv1_bn/gamma"; in a nested model or a layer
inside another it is "<outer>/<layer>/<variable>". `keras_names` has the names of variables. A layer
that is an attribute of a subclassed model has the attribute's name. The states of optimizers,
metrics and random generators are left out. Kernels that Keras trained with Theano are flipped along
both spatial axes, as Keras itself does.

Configurations are only parsed as JSON; no layer is built, and no Lambda run.
"""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo_pretrained.bounded_json import MAX_BYTES, parse_json
from zoo_pretrained.read import keras_names
from zoo_pretrained.read.files import ByteBudget, UnreadableError, check_name
from zoo_pretrained.read.hdf5 import DEPTH, Hdf5File
from zoo_pretrained.read.zip_archive import ZipArchive

WEIGHTS, CONFIG = "model.weights.h5", "config.json"  # in a .keras
# Groups of layers that are no part of a layer's path, in Keras 3 and in TensorFlow's Keras 2.
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
_TOP = "top_level_model_weights"  # the group of a model's own variables, in an .h5
_NOT_LAYERS = ("optimizer", "metrics", "_metrics", "_loss_tracker", "seed_generator")


def from_zip(archive: ZipArchive, budget: ByteBudget) -> dict[str, np.ndarray]:
    """The arrays of a .keras, in the order of its layers."""
    config = config_of_zip(archive)
    with Hdf5File(archive.read(WEIGHTS), budget) as file:
        return _Walker(file).arrays(config)


def config_of_zip(archive: ZipArchive) -> dict[str, Any]:
    """The configuration of the model in a .keras; {} where there is none."""
    if CONFIG not in archive.members:
        return {}
    config: dict[str, Any] = parse_json(archive.read(CONFIG, limit=MAX_BYTES).data).get(
        "config", {}
    )
    return config


def config_of_hdf5(file: Hdf5File) -> dict[str, Any] | None:
    """The configuration of the model in an .h5; None in a file of weights alone."""
    text = "".join(file.text_attributes(file.root).get("model_config", []))
    return parse_json(text).get("config", {}) if text else None


def from_hdf5(file: Hdf5File) -> dict[str, np.ndarray]:
    """The arrays of an .h5 in the order of its layers, of a .weights.h5 in that of its groups."""
    root = file.root
    for group in (root, _member_or_self(file, root, "model_weights")):
        if (names := _read_list(file.text_attributes(group), "layer_names")) is not None:
            return _legacy(file, group, names)
    return _Walker(file).arrays(None)


def _legacy(file: Hdf5File, group: Any, layers: list[str]) -> dict[str, np.ndarray]:
    """The arrays of an .h5 whose attributes list layers and weights."""
    kinds = keras_names.Kinds(config_of_hdf5(file))
    # Theano's kernels are for convolution: Keras too flipped them when another backend loaded them.
    attributes = file.text_attributes(group)
    backend = attributes.get("backend") or file.text_attributes(file.root).get("backend", [])
    theano = "".join(backend) == "theano"
    names_depthwise = not "".join(attributes.get("keras_version", [])).startswith("3")
    found: dict[str, np.ndarray] = {}
    if file.has(group, _TOP) and _TOP not in layers:
        layers = [*layers, _TOP]
    for layer in layers:
        layer_group = file.child(group, layer)
        weights = _read_list(file.text_attributes(layer_group), "weight_names") or []
        modules = {weight: weight.rpartition("/")[0] for weight in weights}
        nested = len(set(modules.values())) > 1
        arrays: dict[str, dict[str, np.ndarray]] = {}
        for weight, module in modules.items():
            path = check_name(_legacy_path(layer, module, nested))
            variable = keras_names.normalize_name(
                weight.rpartition("/")[2], path.rpartition("/")[2]
            )
            array = file.array(file.child(layer_group, weight))
            if array is None or variable in arrays.setdefault(path, {}):
                raise UnreadableError(f"has no numbers, or two arrays, for {path}/{variable}")
            arrays[path][variable] = array[::-1, ::-1] if theano and array.ndim == 4 else array
        for path, variables in arrays.items():
            kind = kinds.find(path) or ("conv2d" if names_depthwise else "")
            for variable, array in variables.items():
                if variable == "kernel" and keras_names.is_depthwise(
                    kind, array, variables.get("bias")
                ):
                    variable = "depthwise_kernel"
                _add(found, f"{path}/{variable}", array)
    return found


def _legacy_path(layer: str, module: str, nested: bool) -> str:
    """A layer's path by the path of its weight's module in the group of `layer`.

    In Keras 3 the module contains the layer's name, perhaps after the model's; in Keras 2 it does
    not, and a name that was taken already has a number.
    """
    _, found, below = f"/{module}/".partition(f"/{layer}/")
    if found or not module:
        return f"{layer}/{below}".rstrip("/")
    renamed = not nested and re.fullmatch(re.escape(layer) + r"_\d+", module)
    return layer if renamed else f"{layer}/{module}"


class _Walker:
    """Walks through the groups in which Keras 3 saves a model's objects."""

    def __init__(self, file: Hdf5File) -> None:
        self._file = file
        self._found: dict[str, np.ndarray] = {}

    def arrays(self, config: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
        """All arrays.

        Args:
          config: the model's settings; None where the file has none.
        """
        self._object(self._file.root, "", "", config, 0)
        return self._found

    def _object(
        self, group: Any, path: str, kind: str, config: Mapping[str, Any] | None, depth: int
    ) -> None:
        """Adds the variables of a layer or a model, and of the objects inside it."""
        if depth > DEPTH:
            raise UnreadableError(f"is nested deeper than {DEPTH}, at {path[:80]!r}")
        check_name(path)
        file, variables, plain = self._file, [], {}
        for name, child in file.children(group):
            if file.is_dataset(child):
                plain[name] = child
            elif name == "vars" and file.is_group(child):
                variables = [v for _, v in file.children(child) if file.is_dataset(v)]
            elif file.is_group(child) and name not in _NOT_LAYERS:
                self._child(child, path, name, config, depth)
        arrays = [array for v in variables if (array := file.array(v)) is not None]
        if arrays:
            names = keras_names.name_variables(kind, arrays, config)
            for name, array in zip(names, arrays, strict=True):
                _add(self._found, _join(path, name), array)
        for name, dataset in plain.items():  # HDF5 of another program, whose groups are layers
            array = file.array(dataset)
            if array is not None:
                _add(self._found, _join(path, keras_names.normalize_name(name, "")), array)

    def _child(
        self, group: Any, path: str, name: str, config: Mapping[str, Any] | None, depth: int
    ) -> None:
        """Adds an attribute: one object, or a container of objects named by their classes."""
        file, contains = self._file, name in _CONTAINERS
        inner = path if contains else _join(path, name)
        if not contains and any(n == "vars" or file.is_dataset(c) for n, c in file.children(group)):
            kind = re.sub(r"_\d+$", "", self._name(group))
            self._object(group, inner, kind, None, depth + 1)
            return
        for layer, child in self._named_layers(group, config if contains else None):
            self._object(child, _join(inner, layer.name), layer.kind, layer.config, depth + 1)

    def _named_layers(
        self, container: Any, config: Mapping[str, Any] | None
    ) -> list[tuple[keras_names.Layer, Any]]:
        """The layers in a container with their groups, by their own names if the file has them."""
        groups = {n: g for n, g in self._file.children(container) if self._file.is_group(g)}
        layers: dict[str, keras_names.Layer] = {}
        counts: dict[str, int] = {}
        found_layers = list(keras_names.layers(config))
        self._file.count_objects(len(found_layers))
        for layer in found_layers:
            number = counts[layer.kind] = counts.get(layer.kind, -1) + 1
            layers[f"{layer.kind}_{number}" if number else layer.kind] = layer
            layers.setdefault(layer.name, layer)
        order = [name for name in layers if name in groups]
        order += [name for name in groups if name not in layers]
        found = []
        for name in order:
            layer = layers.get(name) or keras_names.Layer(
                self._name(groups[name]) or name, re.sub(r"_\d+$", "", name), None
            )
            found.append((layer, groups[name]))
        if len({layer.name for layer, _ in found}) < len(found):  # only the groups' are unique
            found = [
                (layer._replace(name=n), g) for n, (layer, g) in zip(order, found, strict=True)
            ]
        return found

    def _name(self, group: Any) -> str:
        """The name that a layer has saved; "" without one."""
        variables = _member_or_self(self._file, group, "vars")
        if variables is group:
            return ""
        return "".join(self._file.text_attributes(variables).get("name", []))


def _read_list(texts: Mapping[str, list[str]], name: str) -> list[str] | None:
    """A list among a group's attributes, whole or in numbered parts; None without it."""
    if name in texts:
        return texts[name]
    parts = itertools.takewhile(texts.__contains__, (f"{name}{n}" for n in itertools.count()))
    found = [text for part in parts for text in texts[part]]
    return found or None


def _member_or_self(file: Hdf5File, group: Any, name: str) -> Any:
    """A member of a group, or the group itself where it has no such member."""
    return file.child(group, name) if file.has(group, name) else group


def _add(found: dict[str, np.ndarray], name: str, array: np.ndarray) -> None:
    if name in found:
        raise UnreadableError(f"has two arrays of the name {name!r}")
    found[name] = array


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
