"""The outputs of a model's inner modules, and the feature maps of its stages."""

import contextlib
import functools
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import zoo_kernels as kernels
from zoo.checkpoints.load import ModelWithWeights, find_definition, unpack
from zoo.models.base import Model
from zoo.models.suggest import suggest
from zoo.surgery.intercept import Call, intercept


def features(
    model: ModelWithWeights, x: jax.Array, paths: str | Sequence[str]
) -> dict[str, jax.Array]:
    """The outputs of a model's modules, by their paths.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name.
      x: normalised images, [N, H, W, C].
      paths: module paths such as "stage3" or "stage4/block2/expand", as in the parameters. In a
        pattern "*" stands for any text without a slash and "**" for any text: "stage*",
        "stage4/*/expand", "stage4/**".

    Returns:
      {path: output}, in the order of `paths`; those of a pattern in the order of computation. What
      no output depends on is not computed.

    Raises:
      ValueError: a path that the model does not have; the message lists the nearest.
      TypeError: `model` has no variables.
    """
    module, variables = unpack(model)
    patterns = (paths,) if isinstance(paths, str) else tuple(paths)
    # Values inside a block that is recomputed cannot be taken out of it.
    return dict(_compiled(module.clone(remat=False), patterns)(variables, x))


@functools.lru_cache(maxsize=64)
def _compiled(
    module: Model, patterns: tuple[str, ...]
) -> Callable[..., OrderedDict[str, jax.Array]]:
    @kernels.jit
    def run(variables: Mapping[str, Any], x: jax.Array) -> OrderedDict[str, jax.Array]:
        outputs: dict[str, jax.Array] = {}
        completed, missing = _complete_classifier(module, variables)
        with _collect_outputs(outputs):
            module.apply(completed, x)
        outputs = {path: y for path, y in outputs.items() if path.split("/")[0] not in missing}
        selected = [path for pattern in patterns for path in _select(module, pattern, outputs)]
        return OrderedDict((path, outputs[path]) for path in selected)  # jit would sort a dict

    return run


def _complete_classifier(
    module: Model, variables: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Collection[str]]:
    """Variables with zeros for the classifier's modules that they lack, and those modules' names.

    To be called while tracing: what the zeros go into is dropped before anything is computed.
    """
    if module.classifier[-1] in variables["params"]:
        return variables, ()
    shapes = module.variable_shapes()["params"]
    missing = [
        name for name in module.classifier if name in shapes and name not in variables["params"]
    ]
    zeros = {
        name: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[name])
        for name in missing
    }
    return {**variables, "params": {**variables["params"], **zeros}}, missing


@contextlib.contextmanager
def _collect_outputs(
    outputs: dict[str, Any], inside: tuple[str, ...] = (), last: str | None = None
) -> Iterator[None]:
    """Enters the outputs of all modules inside one, by path, in the order of computation.

    Leaves the `with` block after the module at path `last`.
    """

    def collect(call: Call) -> Any:
        output = call.run()
        if call.path:
            outputs[call.path] = output
            if call.path == last:
                call.stop()
        return output

    with intercept(collect, inside):
        yield


def _select(model: Model, pattern: str, paths: Collection[str]) -> list[str]:
    """The paths that a path or a pattern stands for."""
    if pattern in paths:
        return [pattern]
    stars = {"**": ".*", "*": "[^/]*"}
    regex = "".join(stars.get(part) or re.escape(part) for part in re.split(r"(\*+)", pattern))
    selected = [path for path in paths if re.fullmatch(regex, path)] if "*" in pattern else []
    if not selected:
        hint = suggest(pattern, paths, cutoff=0.4) or "zoo.describe lists those with parameters"
        raise ValueError(f"{model.title} has no module {pattern!r}; {hint}")
    return selected


class Backbone(nn.Module):
    """The feature maps of a model's stages; see `backbone`.

    Args:
      model: the model.
      paths: (stride, path) pairs of the modules whose outputs are the maps, in order.
    """

    model: Model
    paths: tuple[tuple[int, str], ...]

    init = Model.init

    def setup(self) -> None:
        """Gives the variables the same paths as in the model."""
        nn.share_scope(self, self.model)

    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        """Images [N, H, W, C] → {stride: map [N, H / stride, W / stride, channels]}."""
        outputs: dict[str, jax.Array] = {}
        with _collect_outputs(outputs, self.path, last=self.paths[-1][1]):
            self.model(x, train)
        return {stride: outputs[path] for stride, path in self.paths}


def backbone(model: ModelWithWeights | Model) -> Backbone:
    """The feature maps at strides 4 to 32, for detection, segmentation and the like.

    The map of a stride is the last module's output that has it, before the classifier and the
    convolution that widens the features for it; nothing later is computed.

    Args:
      model: a definition such as `zoo.ResNet50()`, what `zoo.trained` returns, a pair (model,
        variables), or a model's name.

    Returns:
      A module that is initialised and applied as the model is, and takes its variables:
      `backbone(model).apply(variables, x)` → {4: map, 8: map, 16: map, 32: map}. It may be part of
      a larger module. In training it needs the rng "dropout" only for stochastic depth and for the
      dropout of DenseNet's layers.

    Raises:
      TypeError: `model` is something else.
      ValueError: the model was imported.
    """
    model = find_definition(model)
    if model.is_imported:
        raise ValueError(
            "zoo.backbone takes models that are made of the zoo's layers, and no imported ones; "
            "zoo.features gives the outputs of their nodes"
        )
    model = model.clone(**model.backbone_options)
    return Backbone(model, find_stages(model))


@functools.lru_cache(maxsize=64)
def find_stages(model: Model) -> tuple[tuple[int, str], ...]:
    """The (stride, path) of the maps that `backbone` gives of a model, fine to coarse."""
    excluded = {*model.classifier, *model.backbone_excludes}
    size, shapes = 256, {}

    def run(x: jax.Array) -> Any:
        outputs: dict[str, Any] = {}
        with _collect_outputs(outputs):
            variables = nn.Module.init(model.clone(remat=False), jax.random.key(0), x)
        # The heads of a detector give several arrays.
        arrays = {path: y for path, y in outputs.items() if hasattr(y, "shape")}
        shapes.update({path: y.shape for path, y in arrays.items()})
        return variables

    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    # In a thread of its own: who intercepts the caller's modules must not see these.
    with ThreadPoolExecutor(1) as thread:
        variables = thread.submit(jax.eval_shape, run, images).result()
    by_stride = {
        2 ** round(math.log2(size / shape[1])): path
        for path, shape in shapes.items()
        if path in variables["params"] and path not in excluded and len(shape) == 4
    }
    return tuple((stride, path) for stride, path in by_stride.items() if stride >= 4)
