"""Layers of a model by their paths: which there are, their outputs, and gradients there."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

import zoo_kernels as kernels
from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.models.suggest import suggest
from zoo.surgery.intercept import Call, intercept
from zoo_pretrained.printable import OneLineError
from zoo_pretrained.spelling import choose

Variables = Mapping[str, Any]

# Images that are computed at a time.
BATCH_SIZE = 16


class LayerError(OneLineError, ValueError):
    """A model has no such layer, or a method cannot use it; the message lists the nearest."""


def list_layers(model: ModelWithWeights, size: int | None = None) -> dict[str, tuple[int, ...]]:
    """The paths of a model's layers, with the shapes of their outputs for one image.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name.
      size: the images' height and width in pixels; by default the model's own.

    Returns:
      {path: [H, W, C] or [C]}, in the order of computation.
    """
    return layer_shapes(as_trained(model), size)


def layer_shapes(trained: Trained, size: int | None = None) -> dict[str, tuple[int, ...]]:
    """{path: shape of the output for one image, [H, W, C] or [C]}, in the order of computation.

    Args:
      trained: the model.
      size: the images' height and width; by default the model's own.
    """
    size = size or trained.info.preprocessing.size
    check_size(trained, size)
    # A model whose first layer is no convolution takes what its preprocessing makes.
    channels = trained.channels or len(trained.info.preprocessing.mean)
    return dict(_layer_shapes(trained.model.clone(remat=False), size, channels))


def check_size(trained: Trained, size: int) -> None:
    """Raises LayerError for images that are too small for the model's layers."""
    least = trained.model.min_size
    if size < least:
        raise LayerError(
            f"{trained.model.title} takes images of at least {least}x{least} pixels, got "
            f"size={size}"
        )


@functools.lru_cache(maxsize=64)
def _layer_shapes(module: Model, size: int, channels: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def note(call: Call) -> Any:
        y = call.run()
        if call.path and hasattr(y, "shape"):  # the heads of a detector give several arrays
            shapes[call.path] = tuple(jnp.shape(y)[1:])
        return y

    x = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    with intercept(note):
        jax.eval_shape(lambda v, x: module.apply(v, x), variables, x)
    return shapes


def find_layer(
    trained: Trained, layer: str | None, *, spatial: bool, size: int | None = None
) -> str:
    """The path of a layer of a model, checked.

    Args:
      trained: the model.
      layer: a module path such as "stage4/block2/conv1"; None for the last feature map before the
        classifier.
      spatial: whether the layer must have an output [H, W, C] of more than one position.
      size: the images' height and width; by default the model's own.

    Raises:
      LayerError: the model has no such layer, or it has no spatial extent.
    """
    shapes, model = layer_shapes(trained, size), trained.model
    maps = list(list_feature_maps(trained, size))
    if layer is None and not maps:
        raise LayerError(
            f"{model.title} has no feature map of more than one position for images of "
            f"{size or trained.info.preprocessing.size} pixels; take larger images"
        )
    layer = maps[-1] if layer is None else layer
    if layer not in shapes:
        hint = suggest(layer, shapes, cutoff=0.4) or choose(
            python="zoo.visualize.list_layers(model) lists them",
            shell="zoo visualize --list lists them",
        )
        raise LayerError(f"{model.title} has no layer {layer!r}; {hint}")
    if spatial and not _has_extent(shapes[layer]):
        hint = f", such as {maps[-1]!r}" if maps else ""
        raise LayerError(
            f"layer {layer!r} of {model.title} has no spatial extent: its output is "
            f"{list(shapes[layer])}; a feature map [H, W, C] is needed{hint}"
        )
    return layer


def list_feature_maps(trained: Trained, size: int | None = None) -> dict[str, tuple[int, ...]]:
    """{path: [H, W, C]} of the layers before the classifier that have more than one position.

    They are in the order of computation; the arguments are those of `layer_shapes`.
    """
    behind = (*trained.model.classifier, "dropout")
    return {
        path: shape
        for path, shape in layer_shapes(trained, size).items()
        if path.split("/")[0] not in behind and _has_extent(shape)
    }


def _has_extent(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] * shape[1] > 1


def apply_changed(
    module: Model, variables: Variables, x: jax.Array, layer: str, change: Callable[[Any], Any]
) -> Any:
    """The logits, where a layer's output y is replaced by change(y)."""

    def replace(call: Call) -> Any:
        y = call.run()
        return change(y) if call.path == layer else y

    with intercept(replace):
        return module.apply(variables, x)


@functools.lru_cache(maxsize=32)
def compiled_layer_gradient(module: Model, layer: str) -> Callable[..., Any]:
    """(variables, x, targets [N]) → a layer's output A, and the gradient of the target's logit.

    Both are [N, h, w, C]; only what comes after the layer is differentiated.
    """
    module = module.clone(remat=False)

    @kernels.jit
    def run(variables: Variables, x: jax.Array, targets: jax.Array) -> Any:
        def score(added: jax.Array) -> Any:
            outputs: list[jax.Array] = []

            def change(y: jax.Array) -> jax.Array:
                outputs.append(y)
                return y + added

            logits = apply_changed(module, variables, x, layer, change)
            return select_targets(logits, targets).sum(), outputs[0]

        shape = _output_shape(module, variables, x, layer)
        gradient, activations = jax.grad(score, has_aux=True)(jnp.zeros(shape.shape, shape.dtype))
        return activations.astype(jnp.float32), gradient.astype(jnp.float32)

    return run


def _output_shape(module: Model, variables: Variables, x: jax.Array, layer: str) -> Any:
    def run(variables: Variables, x: jax.Array) -> Any:
        outputs: list[Any] = []

        def note(y: Any) -> Any:
            outputs.append(y)
            return y

        apply_changed(module, variables, x, layer, note)
        return outputs[0]

    return jax.eval_shape(run, variables, x)


def select_targets(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Logits [N, num_classes] and class indices [N] → each image's logit of its class, [N]."""
    return jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]


def run_batches(function: Callable[..., Any], *arrays: Any) -> Any:
    """Applies a function to arrays [N, ...], `BATCH_SIZE` rows at a time, and joins the results.

    So many photos need no more memory than a few.
    """
    starts = range(0, len(arrays[0]), BATCH_SIZE)
    parts = [function(*(array[i : i + BATCH_SIZE] for array in arrays)) for i in starts]
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *p: jnp.concatenate(p), *parts)


def map_batches(
    function: Callable[[jax.Array], jax.Array], items: jax.Array, batch_size: int
) -> jax.Array:
    """Applies a function to batches of items and joins the results: [K, ...] → [K, ...].

    It is traced once: the last batch is filled with the first items, whose results are dropped.
    """
    count = len(items)
    batch_size = min(batch_size, count)
    batches = -(-count // batch_size)
    rows = jnp.arange(batches * batch_size) % count
    batched = items[rows].reshape(batches, batch_size, *items.shape[1:])
    results: jax.Array = jax.lax.map(function, batched)
    return results.reshape(-1, *results.shape[2:])[:count]
