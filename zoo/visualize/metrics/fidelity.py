"""Infidelity and completeness: whether maps account for how the logit changes."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zoo_kernels as kernels
from zoo.checkpoints.load import ModelWithWeights
from zoo.models.base import Model
from zoo.runtime.checks import ArgumentError, check_count, check_number
from zoo.visualize.attribution import Attribution
from zoo.visualize.gradients import Baseline, make_baseline
from zoo.visualize.layers import Variables
from zoo.visualize.metrics.common import restore_inputs
from zoo.visualize.perturbation import split_evenly

# (key, x [H, W, C]) → the perturbation I [H, W, C], and the perturbed image.
Perturb = Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]]


def infidelity(
    model: ModelWithWeights,
    attribution: Attribution,
    *,
    samples: int = 100,
    noise: float = 0.1,
    perturb: Perturb | None = None,
    normalize: bool = False,
    batch_size: int = 16,
    seed: int = 0,
) -> np.ndarray:
    """How badly maps Φ predict changes of the logit f (Yeh et al. 2019, arXiv 1901.09392).

    The mean of (I·Φ − (f(x) − f(x − I)))² over random perturbations I, in squared logits; a map
    that predicts all changes has 0.

    Args:
      model: that the attribution was made with.
      attribution: what a method of `zoo.visualize` returns. Gaussian noise suits gradients. A map
        of one channel counts for all channels of a pixel.
      samples: the number of perturbations.
      noise: the standard deviation of Gaussian noise on the normalised images.
      perturb: another kind of perturbation: a function of jax arrays (key, x) → (I, perturbed x).
        For maps that sum to a change of the logit, such as integrated gradients, I is the share of
        each pixel that is taken away.
      normalize: scales each map by the factor for which its infidelity is smallest, so that maps of
        different scales can be compared.
      batch_size: the number of perturbed images that are computed at a time.
      seed: of the perturbations.

    Returns:
      [N], float64.

    Raises:
      ArgumentError: `samples`, `noise` or `batch_size` has another type or range.
      TargetError: the model does not have the attribution's classes.
      ValueError: the weights have no classifier, or images that photos do not show.
    """
    samples, batch_size = check_count("samples", samples), check_count("batch_size", batch_size)
    noise = check_number("noise", noise, included=False)
    inputs = restore_inputs(model, attribution)
    fused, variables = inputs.trained.fused
    run = _compiled_predictions(fused, perturb)
    results = []
    for row, x in enumerate(inputs.x):
        phi = attribution.maps[row]
        phi = np.broadcast_to(phi if phi.ndim == 3 else phi[..., None], x.shape)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), row), samples)
        parts = [
            run(variables, x, phi, keys[batch], noise, inputs.targets[row])
            for batch in split_evenly(samples, batch_size)
        ]
        predicted, changes = np.concatenate(parts, axis=1)[:, :samples].astype(np.float64)
        if normalize:
            square = (predicted**2).sum()
            predicted = predicted * ((predicted * changes).sum() / square if square else 1.0)
        results.append(((predicted - changes) ** 2).mean())
    return np.array(results)


def remove_square(side: int, fill: float = 0.0) -> Perturb:
    """A perturbation for `infidelity`: a random square of the image is covered.

    I is 1 in the square and 0 elsewhere, which suits maps that sum to the change of the logit from
    an image of `fill`.

    Args:
      side: of the square, in pixels.
      fill: what covers it, a normalised value.
    """
    return _remove_square(side, fill)


@functools.lru_cache(maxsize=32)
def _remove_square(side: int, fill: float) -> Perturb:
    """Cached, as a compiled program belongs to one function."""

    def perturb(key: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        limits = jnp.array([max(1, x.shape[0] - side + 1), max(1, x.shape[1] - side + 1)])
        top, left = jax.random.randint(key, (2,), 0, limits)
        rows, columns = jnp.arange(x.shape[0]) - top, jnp.arange(x.shape[1]) - left
        inside = ((rows >= 0) & (rows < side))[:, None] & ((columns >= 0) & (columns < side))
        taken = jnp.broadcast_to(inside[..., None], x.shape).astype(x.dtype)
        return taken, jnp.where(inside[..., None], fill, x)

    return perturb


@functools.lru_cache(maxsize=32)
def _compiled_predictions(module: Model, perturb: Perturb | None) -> Callable[..., jax.Array]:
    """(variables, x, phi [H, W, C], keys [B], noise, target) → I·Φ and f(x) − f(x − I), [2, B]."""

    @kernels.jit
    def run(
        variables: Variables,
        x: jax.Array,
        phi: jax.Array,
        keys: Any,
        noise: jax.Array,
        target: jax.Array,
    ) -> jax.Array:
        def draw(key: Any) -> tuple[jax.Array, jax.Array]:
            if perturb is not None:
                return perturb(key, x)
            change = noise * jax.random.normal(key, x.shape, x.dtype)
            return change, x - change

        changes, images = jax.vmap(draw)(keys)
        logits: Any = module.apply(variables, jnp.concatenate([x[None], images]))
        scores = logits[:, target]
        return jnp.stack([jnp.tensordot(changes, phi, 3), scores[0] - scores[1:]])

    return run


def completeness(
    model: ModelWithWeights,
    attribution: Attribution,
    *,
    baselines: Baseline | Sequence[Baseline] | None = None,
) -> np.ndarray:
    """How far a map's sum is from the change of the logit, relative to that change.

    |ΣΦ − (f(x) − f(baseline))| / |f(x) − f(baseline)|, where f(baseline) is the mean over several.
    Integrated gradients are complete (Sundararajan et al. 2017, arXiv 1703.01365), but for an error
    that falls with the number of steps.

    Args:
      model: that the attribution was made with.
      attribution: of `integrated_gradients`.
      baselines: those of the method, if they were arrays; else they are known.

    Returns:
      [N], float64.

    Raises:
      ArgumentError: the baselines are unknown.
      TargetError: the model does not have the attribution's classes.
      ValueError: the weights have no classifier, or images that photos do not show.
    """
    given = attribution.settings.get("baselines") if baselines is None else baselines
    names: Any = given if isinstance(given, list | tuple) else [given]
    if given is None or "array" in [name for name in names if isinstance(name, str)]:
        raise ArgumentError(
            f"the baselines of this {attribution.method} are unknown: give baselines, those that "
            f"integrated_gradients was called with"
        )
    inputs = restore_inputs(model, attribution)
    seed = attribution.settings.get("seed", 0)
    errors = []
    for row, x in enumerate(inputs.x):
        starts = [make_baseline(inputs, row, name, seed) for name in names]
        logits = np.asarray(inputs.trained(jnp.stack([x, *starts])), np.float64)
        scores = logits[:, int(inputs.targets[row])]
        change = scores[0] - scores[1:].mean()
        errors.append(abs(attribution.maps[row].sum(dtype=np.float64) - change) / abs(change))
    return np.array(errors)
