"""What a model computes on the way: the outputs of its modules, and the maps of its stages."""

import contextlib
import difflib
import functools
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.models.base import Model


def features(model: Any, x: jax.Array, paths: str | Sequence[str]) -> dict[str, jax.Array]:
    """The outputs of a model's modules, by their paths.

    Args:
      model: what `zoo.trained` returns, or a pair (model, variables).
      x: normalised images, [N, H, W, C].
      paths: module paths such as "stage3" or "stage4/block2/expand", as in the parameters. In a
        pattern "*" stands for anything within a name and "**" for anything: "stage*",
        "stage4/*/expand", "stage4/**".

    Returns:
      {path: output}, in the order of `paths`, a pattern's in the order of computation. What none
      of the outputs needs is not computed.

    Raises:
      ValueError: a path that the model does not have; the message lists the nearest.
    """
    module, variables = model if isinstance(model, tuple) else (model.model, model.variables)
    wanted = (paths,) if isinstance(paths, str) else tuple(paths)
    # Inside of what is computed twice, nothing can be taken out.
    return dict(_compiled(module.clone(remat=False), wanted)(variables, x))


@functools.lru_cache(maxsize=64)
def _compiled(module: Model, wanted: tuple[str, ...]) -> Callable[..., OrderedDict[str, jax.Array]]:
    @jax.jit
    def run(variables: Mapping[str, Any], x: jax.Array) -> OrderedDict[str, jax.Array]:
        outputs: dict[str, jax.Array] = {}
        whole, absent = _completed(module, variables)
        with _kept(outputs):
            module.apply(whole, x)
        outputs = {name: y for name, y in outputs.items() if name.split("/")[0] not in absent}
        names = [name for path in wanted for name in _matching(module, path, outputs)]
        return OrderedDict((name, outputs[name]) for name in names)  # jit would sort a dict

    return run


def _completed(
    module: Model, variables: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Collection[str]]:
    """Variables with zeros for a classifier that they lack, and what they lack of it.

    To be called while tracing: whatever the zeros go into is not computed.
    """
    if "head" in variables["params"]:
        return variables, ()
    params = module.variable_shapes()["params"]
    absent = [
        name for name in module.classifier if name in params and name not in variables["params"]
    ]
    zeros = {
        name: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params[name])
        for name in absent
    }
    return {**variables, "params": {**variables["params"], **zeros}}, absent


@contextlib.contextmanager
def _kept(
    outputs: dict[str, Any], inside: tuple[str, ...] = (), last: str | None = None
) -> Iterator[None]:
    """Keeps the outputs of the modules inside one, in the order of computation.

    Leaves after the module at path `last`; paths count from the outer module's.
    """

    def keep(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        output = call(*args, **kwargs)
        path = context.module.path
        if context.method_name == "__call__" and path[: len(inside)] == inside != path:
            name = "/".join(path[len(inside) :])
            outputs[name] = output
            if name == last:
                raise _Enough
        return output

    with contextlib.suppress(_Enough), nn.intercept_methods(keep):
        yield


class _Enough(Exception):  # noqa: N818 - no error, but the way out of a model
    """The last output that is wanted is there."""


def _matching(model: Model, pattern: str, names: Mapping[str, Any]) -> list[str]:
    """The names that a path or a pattern stands for."""
    if pattern in names:
        return [pattern]
    stars = {"**": ".*", "*": "[^/]*"}
    regex = "".join(stars.get(part) or re.escape(part) for part in re.split(r"(\*+)", pattern))
    matching = [name for name in names if re.fullmatch(regex, name)] if "*" in pattern else []
    if not matching:
        near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"{model.title} has no module {pattern!r}{hint}")
    return matching


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
        """The variables' paths are the model's own."""
        nn.share_scope(self, self.model)

    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        """Images [N, H, W, C] → {stride: map [N, H / stride, W / stride, channels]}."""
        outputs: dict[str, jax.Array] = {}
        with _kept(outputs, self.path, last=self.paths[-1][1]):
            self.model(x, train)
        return {stride: outputs[path] for stride, path in self.paths}


def backbone(model: Model) -> Backbone:
    """The feature maps at strides 4 to 32, for detection, segmentation and the like.

    At each stride that the model reaches it is the last module's output before the classifier and
    the convolution that widens for it; nothing later is computed.

    Args:
      model: a model's definition, such as `zoo.ResNet50()` or `trained.model`.

    Returns:
      A module that is initialised and applied as the model is, and takes its variables:
      `backbone(model).apply(variables, x)` → {4: map, 8: map, 16: map, 32: map}. It may be part of
      a larger module. In training only stochastic depth and the dropout of DenseNet's layers ask
      for the rng "dropout".

    Raises:
      TypeError: `model` is no definition.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model must be a definition, such as zoo.ResNet50(), got {model!r}")
    model = model.clone(**model.backbone_options)
    left_out = {*model.classifier, *model.backbone_excludes}
    size, shapes = 256, {}

    def run(x: jax.Array) -> Any:
        outputs: dict[str, Any] = {}
        with _kept(outputs):
            variables = nn.Module.init(model.clone(remat=False), jax.random.key(0), x)
        shapes.update({path: jnp.shape(output) for path, output in outputs.items()})
        return variables

    variables = jax.eval_shape(run, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    at = {
        2 ** round(math.log2(size / shape[1])): path
        for path, shape in shapes.items()
        if path in variables["params"] and path not in left_out and len(shape) == 4
    }
    return Backbone(model, tuple((stride, path) for stride, path in at.items() if stride >= 4))
