"""Methods that differentiate a class's logit with respect to the pixels.

All return maps [N, H, W, C], a value for each channel of each pixel of the normalised images.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import zoo_kernels as kernels
from zoo.checkpoints.load import ModelWithWeights
from zoo.models.base import Model
from zoo.runtime.checks import ArgumentError, check_count, check_number
from zoo.visualize.attribution import Attribution, make_attribution
from zoo.visualize.inputs import Images, Inputs, Targets, normalize, prepare_inputs
from zoo.visualize.layers import Variables, run_batches, select_targets
from zoo.visualize.rules import Rule, backward_rule

Statistic = Literal["mean", "square", "variance"]
Baseline = str | float | np.ndarray


def gradient(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """The gradient of the class's logit (Simonyan et al. 2013, arXiv 1312.6034).

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name.
      images: an image of any kind, or several.
      target: a class by index or label, for all images; or a sequence with a class for each, of
        which a single image may have several. None is the predicted class.
      top: the number of likeliest classes of each image, in place of `target`.
      size: the images' height and width in pixels; by default the model's own.

    Returns:
      An attribution; every method of this package takes these arguments and returns one.

    Raises:
      ImageError: something is not an image.
      TargetError: a class that the model does not have.
      ValueError: the weights have no classifier.
    """
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    return make_attribution("gradient", inputs, _gradient(inputs))


def input_x_gradient(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """The gradient times the normalised image (Shrikumar et al. 2016, arXiv 1605.01713).

    The arguments are those of `gradient`.
    """
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    return make_attribution("input-x-gradient", inputs, inputs.x * _gradient(inputs))


def positive_saliency(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """The positive part of the gradient: pixels that raise the logit when they get brighter.

    The arguments are those of `gradient`.
    """
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    return make_attribution("positive-saliency", inputs, jnp.maximum(_gradient(inputs), 0))


def negative_saliency(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """The size of the gradient's negative part: pixels that raise the logit when they get darker.

    The arguments are those of `gradient`.
    """
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    return make_attribution("negative-saliency", inputs, jnp.maximum(-_gradient(inputs), 0))


def guided_backprop(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """Guided backpropagation (Springenberg et al. 2014, arXiv 1412.6806).

    On its way back, the gradient passes a rectifier only where it is positive; see
    `zoo.visualize.rules`. The arguments are those of `gradient`.
    """
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    return make_attribution("guided-backprop", inputs, _gradient(inputs, "guided"))


def deconvnet(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
) -> Attribution:
    """The deconvolutional network's reconstruction (Zeiler and Fergus 2013, arXiv 1311.2901).

    On its way back, the gradient is rectified itself, in place of the rectifier's own gradient; see
    `zoo.visualize.rules`. The arguments are those of `gradient`.
    """
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    return make_attribution("deconvnet", inputs, _gradient(inputs, "deconvnet"))


def smooth_grad(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
    samples: int = 50,
    noise: float = 0.15,
    statistic: Statistic = "mean",
    batch_size: int = 10,
    seed: int = 0,
) -> Attribution:
    """Gradients of noisy copies of the image, averaged (Smilkov et al. 2017, arXiv 1706.03825).

    Args:
      model, images, target, top, size: as for `gradient`.
      samples: the number of noisy copies.
      noise: the standard deviation of the noise, as a share of the range of the image's values.
      statistic: "mean"; "square", the mean of squares (SmoothGrad², Hooker et al. 2018, arXiv
        1806.10758); or "variance" (VarGrad, Adebayo et al. 2018, arXiv 1810.03307).
      batch_size: the number of copies that are computed at a time.
      seed: of the noise.

    Raises:
      ArgumentError: `samples`, `noise`, `statistic` or `batch_size` has another type or range.
    """
    names = {"mean": "smooth-grad", "square": "smooth-grad-squared", "variance": "var-grad"}
    if statistic not in names:
        raise ArgumentError(f"statistic must be one of {', '.join(names)}, got {statistic!r}")
    samples, batch_size = check_count("samples", samples), check_count("batch_size", batch_size)
    noise = check_number("noise", noise, included=False)
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    run = _compiled_moments(inputs.trained.model)
    weights = np.full(samples, 1 / samples, inputs.x.dtype)
    moments = []
    for row, x in enumerate(inputs.x):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), row), samples)
        known = (inputs.trained.variables, x, inputs.targets[row], noise * jnp.ptp(x))
        moments.append(_sum_batches(run, known, keys, weights, batch_size))
    mean, square = (jnp.stack(moment) for moment in zip(*moments, strict=True))
    variance = jnp.maximum(square - mean**2, 0)
    maps = {"mean": mean, "square": square, "variance": variance}[statistic]
    settings = {"samples": samples, "noise": noise, "seed": seed}
    return make_attribution(names[statistic], inputs, maps, **settings)


def integrated_gradients(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
    steps: int = 50,
    baselines: Baseline | Sequence[Baseline] = "black",
    batch_size: int = 10,
    seed: int = 0,
) -> Attribution:
    """Gradients along the way from a baseline to the image (Sundararajan et al. 2017, 1703.01365).

    The maps' sum over all pixels and channels is about the logit of the image less that of the
    baseline; more steps bring it closer.

    Args:
      model, images, target, top, size: as for `gradient`.
      steps: the points between baseline and image, of Gauss and Legendre's rule.
      baselines: where the way begins: "black", "white", "grey" (the mean of the training images),
        "blur" (the image, blurred), "noise" (uniform), a number (of normalised pixels) or a
        normalised image [H, W, C]. A sequence of several gives the mean over them.
      batch_size: the number of points that are computed at a time.
      seed: of the noise.

    Raises:
      ArgumentError: `steps`, `batch_size` or a baseline has another type or range.
    """
    steps, batch_size = check_count("steps", steps), check_count("batch_size", batch_size)
    several = isinstance(baselines, list | tuple)
    names: Any = list(baselines) if several else [baselines]  # type: ignore[arg-type]
    if not names:
        raise ArgumentError("baselines must name at least one baseline, got none")
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    points, weights = np.polynomial.legendre.leggauss(steps)
    # On 0 to 1, in place of −1 to 1.
    points, weights = (np.asarray(v, inputs.x.dtype) for v in ((points + 1) / 2, weights / 2))
    run = _compiled_path(inputs.trained.model)
    maps = []
    for row, x in enumerate(inputs.x):
        starts = [make_baseline(inputs, row, name, seed) for name in names]
        known = (inputs.trained.variables, x, inputs.targets[row])
        paths = [
            (x - start) * _sum_batches(run, (*known, start), points, weights, batch_size)
            for start in starts
        ]
        maps.append(sum(paths) / len(paths))
    shown = [describe_baseline(name) for name in names]
    settings = {"steps": steps, "baselines": shown, "seed": seed}
    return make_attribution("integrated-gradients", inputs, jnp.stack(maps), **settings)


def make_baseline(inputs: Inputs, row: int, baseline: Any, seed: int) -> jax.Array:
    """A normalised image [H, W, C] to begin from; see `integrated_gradients`."""
    x, preprocessing = inputs.x[row], inputs.trained.info.preprocessing
    if isinstance(baseline, str):
        match baseline:
            case "black" | "white":
                pixels = jnp.full(x.shape, float(baseline == "white"))
                return jnp.asarray(normalize(preprocessing, pixels))
            case "grey":
                return jnp.zeros_like(x)
            case "noise":
                pixels = jax.random.uniform(jax.random.key(seed), x.shape)
                return jnp.asarray(normalize(preprocessing, pixels))
            case "blur":
                return blur(x, max(x.shape[:2]) / 20)
        got = repr(baseline)
    else:
        try:
            array = np.asarray(baseline)
        except ValueError:  # nested lists of different lengths
            array = np.empty((0,))
        fits = array.shape in ((), x.shape)
        if fits and array.dtype.kind in "iuf" and np.isfinite(array).all():
            return jnp.broadcast_to(jnp.asarray(array, x.dtype), x.shape)
        got = repr(baseline) if array.ndim == 0 else f"an array of shape {array.shape}"
    raise ArgumentError(
        f"a baseline must be black, white, grey, blur, noise, a number or a normalised image of "
        f"shape {list(x.shape)}, got {got}"
    )


def describe_baseline(baseline: Any) -> Any:
    """A baseline as an attribution's settings have it: its name, its number, or "array"."""
    if isinstance(baseline, str):
        return baseline
    return np.asarray(baseline).item() if np.ndim(baseline) == 0 else "array"


def blur(x: jax.Array, radius: float) -> jax.Array:
    """An image [H, W, C] blurred by a Gaussian of that standard deviation, in pixels.

    At the border, the weights of the pixels that there are sum to 1.
    """

    def weights(side: int) -> np.ndarray:
        distance = np.subtract.outer(np.arange(side), np.arange(side)) / radius
        rows = np.exp(-(distance**2) / 2)
        return (rows / rows.sum(1, keepdims=True)).astype(np.float32)

    return jnp.einsum("ih,jw,hwc->ijc", weights(x.shape[0]), weights(x.shape[1]), x)


def _gradient(inputs: Inputs, rule: Rule | None = None) -> jax.Array:
    run = functools.partial(
        _compiled_gradient(inputs.trained.model, rule), inputs.trained.variables
    )
    result: jax.Array = run_batches(run, inputs.x, inputs.targets)
    return result


@functools.lru_cache(maxsize=32)
def _compiled_gradient(module: Model, rule: Rule | None) -> Callable[..., jax.Array]:
    """(variables, x, targets [N]) → the gradient of each image's logit, [N, H, W, C]."""
    return kernels.jit(functools.partial(input_gradient, module, rule=rule))


def input_gradient(
    module: Model,
    variables: Variables,
    x: jax.Array,
    targets: jax.Array,
    rule: Rule | None = None,
) -> jax.Array:
    """The gradient of each image's target logit, by a rule for rectifiers; [N, H, W, C]."""

    def score(x: jax.Array) -> jax.Array:
        with backward_rule(rule):
            logits: Any = module.apply(variables, x)
        return select_targets(logits, targets).sum()

    return jax.grad(score)(x)


@functools.lru_cache(maxsize=32)
def _compiled_moments(module: Model) -> Callable[..., Any]:
    """(variables, x [H, W, C], target, std, keys [B], weights [B]) → Σ w·g and Σ w·g², [H, W, C].

    g is the gradient at the image with noise of a key.
    """

    @kernels.jit
    def run(
        variables: Variables,
        x: jax.Array,
        target: jax.Array,
        std: jax.Array,
        keys: Any,
        weights: jax.Array,
    ) -> Any:
        noise = jax.vmap(lambda key: jax.random.normal(key, x.shape, x.dtype))(keys)
        targets = jnp.broadcast_to(target, weights.shape)
        g = input_gradient(module, variables, x + std * noise, targets)
        return jnp.tensordot(weights, g, 1), jnp.tensordot(weights, g * g, 1)

    return run


@functools.lru_cache(maxsize=32)
def _compiled_path(module: Model) -> Callable[..., Any]:
    """(variables, x, target, start, points [B], weights [B]) → Σ w·g, [H, W, C].

    g is the gradient at a point from start (0) to x (1).
    """

    @kernels.jit
    def run(
        variables: Variables,
        x: jax.Array,
        target: jax.Array,
        start: jax.Array,
        points: jax.Array,
        weights: jax.Array,
    ) -> Any:
        way = start + points[:, None, None, None] * (x - start)
        g = input_gradient(module, variables, way, jnp.broadcast_to(target, points.shape))
        return jnp.tensordot(weights, g, 1)

    return run


def _sum_batches(
    run: Callable[..., Any], known: tuple[Any, ...], items: Any, weights: np.ndarray, limit: int
) -> Any:
    """The sum of run(*known, items, weights) over batches of one length, at most `limit`.

    The last is filled with weights of 0. Each batch is a call of its own: jaxlib 0.10 takes twice
    as long for a gradient inside a loop of a compiled program.
    """
    count = len(items)
    batches = -(-count // limit)
    rows = np.arange(batches * -(-count // batches))
    padded = np.where(rows < count, weights[rows % count], 0).astype(weights.dtype)
    total: Any = None
    for batch in rows.reshape(batches, -1):
        part = run(*known, items[batch % count], padded[batch])
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    return total
