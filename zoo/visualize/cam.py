"""Class activation maps: a layer's feature maps, weighed by how much each speaks for a class.

All return maps [N, H, W] of the images' size. A is the layer's output [h, w, C] and G the gradient
of the class's logit with respect to it. What speaks against the class is cut off: max(·, 0).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import zoo_kernels as kernels
from zoo.checkpoints.load import ModelWithWeights
from zoo.models.base import Model
from zoo.runtime.checks import check_count
from zoo.visualize.attribution import Attribution, make_attribution, resize_maps
from zoo.visualize.gradients import guided_backprop
from zoo.visualize.inputs import Images, Inputs, Targets, prepare_inputs
from zoo.visualize.layers import (
    Variables,
    apply_changed,
    compiled_layer_gradient,
    find_layer,
    map_batches,
    run_batches,
)

EPS = 1e-7


def grad_cam(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    layer: str | None = None,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """Grad-CAM: channels weighed by the mean of their gradient (Selvaraju et al. 2017, 1610.02391).

    Args:
      model, images, target, top, size: as for `zoo.visualize.gradient`.
      layer: the path of a layer with an output [h, w, C], such as "stage4"; by default the last
        before the classifier.

    Returns:
      An attribution; every class activation map takes these arguments and returns one.

    Raises:
      LayerError: the model has no such layer, or it has no spatial extent.
      ImageError, TargetError, ValueError: as for `zoo.visualize.gradient`.
    """

    def combine(a: jax.Array, g: jax.Array) -> jax.Array:
        return jnp.einsum("nhwc,nc->nhw", a, g.mean((1, 2)))

    return _combine("grad-cam", combine, model, images, target, layer, top, size)


def grad_cam_plus_plus(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    layer: str | None = None,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """Grad-CAM++: positions weighed by higher derivatives (Chattopadhay et al. 2018, 1710.11063).

    For several occurrences of the class in one image. The arguments are those of `grad_cam`.
    """

    def combine(a: jax.Array, g: jax.Array) -> jax.Array:
        # Equation 19, for the exponential of the logit. The small number is pytorch-grad-cam's, so
        # that the maps are equal; where gradients are small it counts.
        g2 = g * g
        sums = a.sum((1, 2), keepdims=True)
        denominator = 2 * g2 + sums * g2 * g
        alpha = jnp.where(g != 0, g2 / (denominator + 1e-6), 0)
        weights = (jnp.maximum(g, 0) * alpha).sum((1, 2))
        return jnp.einsum("nhwc,nc->nhw", a, weights)

    return _combine("grad-cam++", combine, model, images, target, layer, top, size)


def x_grad_cam(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    layer: str | None = None,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """XGrad-CAM: gradients weighed by the activations' shares (Fu et al. 2020, arXiv 2008.02312).

    The arguments are those of `grad_cam`.
    """

    def combine(a: jax.Array, g: jax.Array) -> jax.Array:
        weights = (g * a).sum((1, 2)) / (a.sum((1, 2)) + EPS)
        return jnp.einsum("nhwc,nc->nhw", a, weights)

    return _combine("xgrad-cam", combine, model, images, target, layer, top, size)


def hires_cam(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    layer: str | None = None,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """HiRes-CAM: gradient times activation at each position (Draelos and Carin 2020, 2011.08891).

    The arguments are those of `grad_cam`.
    """

    def combine(a: jax.Array, g: jax.Array) -> jax.Array:
        return (a * g).sum(-1)

    return _combine("hires-cam", combine, model, images, target, layer, top, size)


def layer_cam(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    layer: str | None = None,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """Layer-CAM: positive gradients times activations, for early layers too (Jiang et al. 2021).

    IEEE Transactions on Image Processing 30, 5875. The arguments are those of `grad_cam`.
    """

    def combine(a: jax.Array, g: jax.Array) -> jax.Array:
        return (a * jnp.maximum(g, 0)).sum(-1)

    return _combine("layer-cam", combine, model, images, target, layer, top, size)


def eigen_cam(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    layer: str | None = None,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """Eigen-CAM: the feature maps' first principal component (Muhammad and Yeasin 2020).

    arXiv 2008.00299. It does not depend on the class. The component's sign is the one in which
    positions with larger activations are positive. The arguments are those of `grad_cam`.
    """

    def combine(a: jax.Array, g: jax.Array) -> jax.Array:
        n, h, w, c = a.shape
        rows = a.reshape(n, h * w, c)
        energy = jnp.linalg.norm(rows, axis=-1)
        rows = rows - rows.mean(1, keepdims=True)
        # Of positions or of channels, whichever are fewer.
        if h * w <= c:
            values, vectors = jnp.linalg.eigh(rows @ rows.transpose(0, 2, 1))
            projection = vectors[..., -1] * jnp.sqrt(jnp.maximum(values[:, -1:], 0))
        else:
            _, vectors = jnp.linalg.eigh(rows.transpose(0, 2, 1) @ rows)
            projection = jnp.einsum("npc,nc->np", rows, vectors[..., -1])
        agrees = (projection * (energy - energy.mean(1, keepdims=True))).sum(1, keepdims=True)
        return (jnp.where(agrees < 0, -1, 1) * projection).reshape(n, h, w)

    return _combine("eigen-cam", combine, model, images, target, layer, top, size)


def score_cam(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    layer: str | None = None,
    top: int | None = None,
    size: int | None = None,
    batch_size: int = 16,
) -> Attribution:
    """Score-CAM: each feature map masks the image; the class's logit weighs it (1910.01279).

    Wang et al. 2020. The weights are the softmax of the logits over all channels. It needs no
    gradient, but a forward pass for each channel.

    Args:
      model, images, target, layer, top, size: as for `grad_cam`.
      batch_size: the number of masked images that are computed at a time.
    """
    batch_size = check_count("batch_size", batch_size)
    inputs, path, activations, _ = _layer_values(model, images, target, layer, top, size)
    model, variables = inputs.trained.fused
    run = _compiled_masked(model, batch_size)
    maps = []
    for row, a in enumerate(activations):
        scores = run(variables, inputs.x[row], a, inputs.targets[row])
        maps.append(jnp.einsum("hwc,c->hw", a, jax.nn.softmax(scores)))
    maps = [jnp.maximum(m, 0) for m in maps]
    return make_attribution("score-cam", inputs, jnp.stack(maps), layer=path)


def ablation_cam(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    layer: str | None = None,
    top: int | None = None,
    size: int | None = None,
    batch_size: int = 16,
) -> Attribution:
    """Ablation-CAM: channels weighed by how much the logit falls without each (Desai 2020).

    Desai and Ramaswamy, WACV 2020, who divide the weights by the logit, which turns the map around
    where that is negative: here they are not divided. What comes after the layer is computed once
    for each channel.

    Args:
      model, images, target, layer, top, size: as for `grad_cam`.
      batch_size: the number of channels that are left out at a time.
    """
    batch_size = check_count("batch_size", batch_size)
    inputs, path, activations, _ = _layer_values(model, images, target, layer, top, size)
    run = _compiled_ablation(inputs.trained.model, path, batch_size)
    maps = []
    for row, a in enumerate(activations):
        target_of_row = inputs.targets[row]
        full, without = run(inputs.trained.variables, inputs.x[row], a, target_of_row)
        maps.append(jnp.einsum("hwc,c->hw", a, full - without))
    maps = [jnp.maximum(m, 0) for m in maps]
    return make_attribution("ablation-cam", inputs, jnp.stack(maps), layer=path)


def guided_grad_cam(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    layer: str | None = None,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """Guided backpropagation times Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391).

    The maps are [N, H, W, C]. The arguments are those of `grad_cam`.
    """
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    cam = grad_cam(inputs.trained, inputs, layer=layer)
    guided = guided_backprop(inputs.trained, inputs)
    maps = guided.maps * cam.maps[..., None]
    return make_attribution("guided-grad-cam", inputs, maps, **cam.settings)


def _layer_values(
    model: ModelWithWeights,
    images: Images,
    target: Targets,
    layer: str | None,
    top: int | None,
    size: int | None,
) -> tuple[Inputs, str, jax.Array, jax.Array]:
    """The inputs, the layer's path, its outputs A and their gradients G, [N, h, w, C]."""
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    path = find_layer(inputs.trained, layer, spatial=True, size=inputs.x.shape[1])
    run = functools.partial(
        compiled_layer_gradient(inputs.trained.model, path), inputs.trained.variables
    )
    activations, gradient = run_batches(run, inputs.x, inputs.targets)
    return inputs, path, activations, gradient


def _combine(
    method: str,
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    model: ModelWithWeights,
    images: Images,
    target: Targets,
    layer: str | None,
    top: int | None,
    size: int | None,
) -> Attribution:
    """The attribution of max(combine(A, G), 0)."""
    inputs, path, activations, gradient = _layer_values(model, images, target, layer, top, size)
    maps = jnp.maximum(combine(activations, gradient), 0)
    return make_attribution(method, inputs, maps, layer=path)


@functools.lru_cache(maxsize=32)
def _compiled_masked(module: Model, batch_size: int) -> Callable[..., jax.Array]:
    """(variables, x [H, W, C], a [h, w, K], target) → logits of x, masked by each map of a, [K]."""

    @kernels.jit
    def run(variables: Variables, x: jax.Array, a: jax.Array, target: jax.Array) -> jax.Array:
        def logits(maps: jax.Array) -> jax.Array:
            masks = resize_maps(maps, x.shape[:2])
            low = masks.min((1, 2), keepdims=True)
            span = masks.max((1, 2), keepdims=True) - low
            masks = (masks - low) / (span + EPS)
            batch: Any = module.apply(variables, x * masks[..., None])
            return batch[:, target]

        return map_batches(logits, a.transpose(2, 0, 1), batch_size)

    return run


@functools.lru_cache(maxsize=32)
def _compiled_ablation(module: Model, layer: str, batch_size: int) -> Callable[..., Any]:
    """(variables, x [H, W, C], a [h, w, K], target) → the logit, and those without channels, [K].

    x gives the images' shape alone.
    """
    module = module.clone(remat=False)

    @kernels.jit
    def run(variables: Variables, x: jax.Array, a: jax.Array, target: jax.Array) -> Any:
        def logits(outputs: jax.Array) -> jax.Array:
            images = jnp.broadcast_to(x, (len(outputs), *x.shape))
            changed = apply_changed(module, variables, images, layer, lambda _: outputs)
            return changed[:, target]

        def without(channels: jax.Array) -> jax.Array:
            kept = channels[:, None] != jnp.arange(a.shape[-1])
            return logits(jnp.where(kept[:, None, None], a, 0))

        return logits(a[None])[0], map_batches(without, jnp.arange(a.shape[-1]), batch_size)

    return run
