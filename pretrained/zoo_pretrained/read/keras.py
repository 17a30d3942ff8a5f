"""Weights that Keras has saved: .h5 of Keras 1 to 3, .weights.h5 and .keras of Keras 3.

An array's name is "<layer>/<variable>", as in "conv1_bn/gamma"; below a nested model or a layer
inside another it is "<outer>/<layer>/<variable>". `keras_names` says what variables are called.
What lies in an attribute of a subclassed model goes by the attribute's name. The states of
optimizers, metrics and random generators are left out. Kernels that Keras computed with Theano are
turned by 180 degrees, as Keras itself does.

Configurations are read as JSON and nothing more; no layer is built, and no Lambda run.
"""

import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo_pretrained.read import keras_names
from zoo_pretrained.read.archive import Archive
from zoo_pretrained.read.files import TEXT_LIMIT, Allowance, UnreadableError
from zoo_pretrained.read.hdf5 import DEPTH, Store

WEIGHTS, CONFIG = "model.weights.h5", "config.json"  # in a .keras
# Groups that hold layers and have no name of their own, in Keras 3 and in TensorFlow's Keras 2.
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
_TOP = "top_level_model_weights"  # of a model's own variables, in an .h5
_NO_LAYERS = ("optimizer", "metrics", "_metrics", "_loss_tracker", "seed_generator")


def from_zip(archive: Archive, allowance: Allowance) -> dict[str, np.ndarray]:
    """The arrays of a .keras, in the order of its layers."""
    config = {}
    if CONFIG in archive.members:
        config = json.loads(archive.read(CONFIG, limit=TEXT_LIMIT).tobytes()).get("config", {})
    with Store(archive.read(WEIGHTS), allowance) as store:
        return _Walk(store).arrays(config)


def from_store(store: Store) -> dict[str, np.ndarray]:
    """The arrays of an .h5 in the order of its layers, of a .weights.h5 in that of its groups."""
    root = store.root
    for group in (root, _below(store, root, "model_weights")):
        if (names := _listed(store.texts(group), "layer_names")) is not None:
            return _legacy(store, group, names)
    return _Walk(store).arrays(None)


def _legacy(store: Store, group: Any, layers: list[str]) -> dict[str, np.ndarray]:
    """The arrays of an .h5, whose attributes list layers and weights."""
    text = "".join(store.texts(store.root).get("model_config", []))
    kinds = keras_names.kinds(json.loads(text).get("config", {})) if text else {}
    # Theano's kernels are for convolution: Keras too turned them when another backend loaded them.
    told = store.texts(group).get("backend") or store.texts(store.root).get("backend", [])
    theano = "".join(told) == "theano"
    tells_depthwise = not "".join(store.texts(group).get("keras_version", [])).startswith("3")
    found: dict[str, np.ndarray] = {}
    if store.has(group, _TOP) and _TOP not in layers:
        layers = [*layers, _TOP]
    for layer in layers:
        held = store.child(group, layer)
        weights = _listed(store.texts(held), "weight_names") or []
        modules = {weight: weight.rpartition("/")[0] for weight in weights}
        nested = len(set(modules.values())) > 1
        arrays: dict[str, dict[str, np.ndarray]] = {}
        for weight, module in modules.items():
            path = _legacy_path(layer, module, nested)
            variable = keras_names.spelled(weight.rpartition("/")[2], path.rpartition("/")[2])
            array = store.array(store.child(held, weight))
            if array is None or variable in arrays.setdefault(path, {}):
                raise UnreadableError(f"has no numbers, or two arrays, for {path}/{variable}")
            arrays[path][variable] = array[::-1, ::-1] if theano and array.ndim == 4 else array
        for path, variables in arrays.items():
            kind = _kind(path, kinds) or ("conv2d" if tells_depthwise else "")
            for variable, array in variables.items():
                if variable == "kernel" and keras_names.is_depthwise(
                    kind, array, variables.get("bias")
                ):
                    variable = "depthwise_kernel"
                _keep(found, f"{path}/{variable}", array)
    return found


def _legacy_path(layer: str, module: str, nested: bool) -> str:
    """A layer's path from where its weight lies in the group of `layer`.

    Keras 3 has the layer's name in it, perhaps behind the whole model's, and Keras 2 does not; a
    name that was taken already has been numbered there.
    """
    _, known, below = f"/{module}/".partition(f"/{layer}/")
    if known or not module:
        return f"{layer}/{below}".rstrip("/")
    renamed = not nested and re.fullmatch(re.escape(layer) + r"_\d+", module)
    return layer if renamed else f"{layer}/{module}"


def _kind(path: str, kinds: Mapping[str, str]) -> str:
    """A layer's kind by its path, of which a file may lack the models between."""
    parts = path.split("/")
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    found = next((kinds[end] for end in ends if end in kinds), "")
    if found:
        return found
    named = {kind for known, kind in kinds.items() if known.endswith(f"/{parts[-1]}")}
    return named.pop() if len(named) == 1 else ""


class _Walk:
    """Goes through the groups that Keras 3 makes of a model's objects."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[str, np.ndarray] = {}

    def arrays(self, config: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
        """All arrays.

        Args:
          config: the model's settings; None where the file has none.
        """
        self._object(self._store.root, "", "", config, 0)
        return self._found

    def _object(
        self, group: Any, path: str, kind: str, config: Mapping[str, Any] | None, depth: int
    ) -> None:
        """A layer or a model: its variables, and the objects that it holds."""
        if depth > DEPTH:
            raise UnreadableError(f"is nested deeper than {DEPTH}, at {path[:80]!r}")
        store, variables, plain = self._store, [], {}
        for name, child in store.children(group):
            if store.is_dataset(child):
                plain[name] = child
            elif name == "vars" and store.is_group(child):
                variables = [held for _, held in store.children(child) if store.is_dataset(held)]
            elif store.is_group(child) and name not in _NO_LAYERS:
                self._child(child, path, name, config, depth)
        arrays = [array for held in variables if (array := store.array(held)) is not None]
        if arrays:
            names = keras_names.numbered(kind, arrays, config)
            for name, array in zip(names, arrays, strict=True):
                _keep(self._found, _join(path, name), array)
        for name, held in plain.items():  # another program's HDF5, of which the groups are layers
            array = store.array(held)
            if array is not None:
                _keep(self._found, _join(path, keras_names.spelled(name, "")), array)

    def _child(
        self, group: Any, path: str, name: str, config: Mapping[str, Any] | None, depth: int
    ) -> None:
        """An attribute: one object, or a container of objects that are named by their classes."""
        store, contains = self._store, name in _CONTAINERS
        inner = path if contains else _join(path, name)
        if not contains and any(
            n == "vars" or store.is_dataset(c) for n, c in store.children(group)
        ):
            kind = re.sub(r"_\d+$", "", self._name(group))
            self._object(group, inner, kind, None, depth + 1)
            return
        held = self._named(group, config if contains else None)
        for layer, child in held:
            self._object(child, _join(inner, layer.name), layer.kind, layer.config, depth + 1)

    def _named(
        self, container: Any, config: Mapping[str, Any] | None
    ) -> list[tuple[keras_names.Layer, Any]]:
        """The layers in a container, by their own names where the file tells these."""
        groups = {n: g for n, g in self._store.children(container) if self._store.is_group(g)}
        told: dict[str, keras_names.Layer] = {}
        counts: dict[str, int] = {}
        for layer in keras_names.layers(config):
            number = counts[layer.kind] = counts.get(layer.kind, -1) + 1
            told[f"{layer.kind}_{number}" if number else layer.kind] = layer
            told.setdefault(layer.name, layer)
        order = [name for name in told if name in groups]
        order += [name for name in groups if name not in told]
        held = []
        for name in order:
            own = told[name].name if name in told else self._name(groups[name]) or name
            kind = told[name].kind if name in told else re.sub(r"_\d+$", "", name)
            settings = told[name].config if name in told else None
            held.append((keras_names.Layer(own, kind, settings), groups[name]))
        if len({layer.name for layer, _ in held}) < len(held):  # then only the groups' are unique
            held = [
                (one._replace(name=name), g) for name, (one, g) in zip(order, held, strict=True)
            ]
        return held

    def _name(self, group: Any) -> str:
        """What a layer calls itself."""
        variables = _below(self._store, group, "vars")
        return (
            "".join(self._store.texts(variables).get("name", [])) if variables is not group else ""
        )


def _listed(texts: Mapping[str, list[str]], name: str) -> list[str] | None:
    """A list among a group's attributes, in one piece or in several; None without it."""
    if name in texts:
        return texts[name]
    pieces = itertools.takewhile(texts.__contains__, (f"{name}{n}" for n in itertools.count()))
    found = [text for piece in pieces for text in texts[piece]]
    return found or None


def _below(store: Store, group: Any, name: str) -> Any:
    """A member of a group, or the group itself where it has none of that name."""
    return store.child(group, name) if store.has(group, name) else group


def _keep(found: dict[str, np.ndarray], name: str, array: np.ndarray) -> None:
    if name in found:
        raise UnreadableError(f"has two arrays of the name {name!r}")
    found[name] = array


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
