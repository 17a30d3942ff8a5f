"""What a dream makes larger: the outputs of layers, or their likeness to a guide's."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import zoo_kernels as kernels
from zoo.inference.images import ImageSource
from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.surgery.features import features
from zoo.surgery.intercept import Call, intercept
from zoo.visualize.layers import LayerError, find_layer, layer_shapes, list_feature_maps

# A layer's path, several, or {path: weight}.
Layers = str | Sequence[str] | Mapping[str, float]


class Objective:
    """The weighted sum, over layers, of how strong a layer's output is for an image.

    Without a guide that is the mean of the squares of the output. With a guide it is the mean, over
    positions, of the largest dot product of the position's features with those of any position
    of the guide.

    Args:
      trained: the model.
      layers: a layer's path, several, or {path: weight}; None for `default_layer`.
      guide: an image whose features the dream is to show; it is cropped to a square, as for
        classification.
      size: height and width of the images, in pixels.

    Raises:
      LayerError: the model has no such layer, it has no spatial extent or no weights, or a weight
        is not a finite number.
      ImageError: the guide is not an image.
    """

    def __init__(
        self, trained: Trained, layers: Layers | None, guide: ImageSource | None, size: int
    ) -> None:
        weights = find_layers(trained, layers, size)
        self.paths = tuple(weights)
        self._weights = tuple(weights.values())
        self._variables = trained.variables
        self._targets: tuple[jax.Array, ...] | None = None
        if guide is not None:
            outputs = features(trained, jnp.asarray(trained.preprocess(guide)), self.paths)
            self._targets = tuple(
                outputs[path].reshape(-1, outputs[path].shape[-1]) for path in self.paths
            )
        # The pass ends at the last layer: what comes after it is not even traced.
        order = list(layer_shapes(trained, size))
        last = max(self.paths, key=order.index)
        self._run = _compiled(trained.model.clone(remat=False), self.paths, last)

    def __call__(self, x: Any) -> tuple[jax.Array, jax.Array]:
        """Normalised images [N, H, W, C] → the objective, and its gradient [N, H, W, C]."""
        value, gradient = self._run(self._variables, x, self._weights, self._targets)
        return value, gradient


def find_layers(trained: Trained, layers: Layers | None, size: int) -> dict[str, float]:
    """{path: weight} of the layers of an objective; see `Objective`."""
    if layers is None:
        layers = default_layer(trained, size)
    if isinstance(layers, str):
        layers = (layers,)
    weights = dict(layers if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0))
    if not weights:
        raise LayerError("layers must name at least one layer, got none")
    for path, weight in weights.items():
        find_layer(trained, path, spatial=True, size=size)
        top = path.split("/")[0]
        if top in trained.model.classifier and top not in trained.variables["params"]:
            raise LayerError(
                f"the weights {trained.info.weights!r} of {trained.info.model} have nothing for "
                f"layer {path!r}; take one before the classifier"
            )
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise LayerError(f"the weight of layer {path!r} must be a number, got {weight!r}")
        if not math.isfinite(weight) or weight == 0:
            raise LayerError(f"the weight of layer {path!r} must be finite and not 0, got {weight}")
    return {path: float(weight) for path, weight in weights.items()}


def default_layer(trained: Trained, size: int | None = None) -> str:
    """The path of the layer that a dream takes if none is named.

    It is the last of the outermost modules whose output has a sixteenth of the image's height: late
    enough for parts of things, early enough for many of them to fit into the picture.
    """
    least = trained.info.preprocessing.size // 16
    maps = [
        path
        for path, shape in list_feature_maps(trained).items()
        if "/" not in path and shape[0] >= least > 1
    ]
    return maps[-1] if maps else find_layer(trained, None, spatial=True, size=size)


@functools.lru_cache(maxsize=32)
def _compiled(module: Model, paths: tuple[str, ...], last: str) -> Callable[..., Any]:
    """(variables, x, weights, targets) → the objective, and its gradient with respect to x."""

    @kernels.jit
    def run(variables: Any, x: jax.Array, weights: Any, targets: Any) -> Any:
        def objective(x: jax.Array) -> Any:
            outputs = _collect(module, variables, x, paths, last)
            if targets is None:
                terms = [mean_square(outputs[path]) for path in paths]
            else:
                terms = [
                    best_match(outputs[path], target)
                    for path, target in zip(paths, targets, strict=True)
                ]
            return sum(weight * term for weight, term in zip(weights, terms, strict=True))

        return jax.value_and_grad(objective)(x)

    return run


def _collect(
    module: Model, variables: Any, x: jax.Array, paths: tuple[str, ...], last: str
) -> dict[str, jax.Array]:
    """The outputs of layers by path; the model is left after the one at `last`."""
    outputs: dict[str, jax.Array] = {}

    def read(call: Call) -> Any:
        y = call.run()
        if call.path in paths:
            outputs[call.path] = y
        if call.path == last:
            call.stop()
        return y

    with intercept(read):
        module.apply(variables, x)
    return outputs


def mean_square(y: jax.Array) -> jax.Array:
    """The mean of the squares of a layer's output, whose gradient is the output itself, scaled.

    Mordvintsev, Olah and Tyka, "Inceptionism: Going Deeper into Neural Networks", 2015.
    """
    return jnp.square(y.astype(jnp.float32)).mean()


def best_match(y: jax.Array, target: jax.Array) -> jax.Array:
    """The mean, over positions, of the largest dot product with any of the guide's features.

    Its gradient at a position is the guide's feature vector that matches best, scaled: the guided
    objective of google/deepdream.

    Args:
      y: a layer's output, [N, H, W, C].
      target: the guide's features, [positions, C].
    """
    y, target = y.astype(jnp.float32), target.astype(jnp.float32)
    rows = y.reshape(-1, *y.shape[2:])

    # Row by row, since all products of an early layer would fill gigabytes.
    best = jax.lax.map(lambda row: (row @ target.T).argmax(-1), jax.lax.stop_gradient(rows))
    return (rows * target[best]).sum(-1).mean()
