"""Paints one photo by optimisation of its pixels: slow, and what fast networks are judged by."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.images import ImageError, ImageSource
from zoo.runtime.checks import check_count, check_number
from zoo.runtime.progress import Progress
from zoo.style.apply import check_size
from zoo.style.losses import Grams, LossWeights, Maps, StyleLoss, make_style_loss
from zoo.style.pixels import load_pixels
from zoo.style.settings import MIN_SIZE
from zoo.style.train import LOSS_MODEL
from zoo.visualize.pictures import Picture, to_uint8
from zoo_kernels import jit

STEPS = 300
SIZE = 512
# Of L-BFGS: how many steps it remembers.
MEMORY = 10
# Of its line search (Nocedal and Wright 2006, algorithm 3.1): how much of the decrease that the
# gradient promises is enough, and how often the step is halved.
ENOUGH, HALVINGS = 1e-4, 12


def optimize(
    content: ImageSource,
    style: ImageSource,
    *,
    model: ModelWithWeights = LOSS_MODEL,
    size: int | None = SIZE,
    style_size: int | None = None,
    steps: int = STEPS,
    content_weight: float = LossWeights.content,
    style_weight: float = LossWeights.style,
    variation_weight: float = LossWeights.total_variation,
    content_layers: str | Iterable[str] | None = None,
    style_layers: str | Iterable[str] | None = None,
    progress: Progress | None = None,
) -> Picture:
    """Paints a photo in the style of any image, by optimisation of the photo's pixels.

    Gatys, Ecker and Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks", with
    the losses of `StyleLoss`. It takes minutes on a CPU for what a network paints in a fraction of
    a second, and needs no training.

    Args:
      content: an image of any kind.
      style: an image of any kind.
      model: the network that judges the picture, as `zoo.trained` takes it.
      size: the longer side of the result in pixels; None is the photo's.
      style_size: the shorter side to which the style is resized; by default as the picture's.
      steps: of L-BFGS.
      content_weight, style_weight, variation_weight: see `LossWeights`.
      content_layers, style_layers: of the model; by default the usual ones.
      progress: called after each step with the number of steps done, and of all.

    Returns:
      A picture in the photo's aspect.

    Raises:
      ImageError: something is no image, or has fewer than 32 pixels a side.
      ArgumentError: a value has another type or range, or the model has no such layer.
      NoWeightsError: there are no weights for the model.
      FloatingPointError: the loss is not finite.
    """
    check_count("steps", steps)
    for name, value in (("content", content_weight), ("style", style_weight)):
        check_number(f"{name}_weight", value)
    check_number("variation_weight", variation_weight)
    photo = load_pixels(content, check_size(size))
    if min(photo.shape[:2]) < MIN_SIZE:
        raise ImageError(
            f"the photo has {photo.shape[1]}x{photo.shape[0]} pixels; at least {MIN_SIZE} a side "
            f"are needed"
        )
    side = min(photo.shape[:2]) if style_size is None else check_count("style_size", style_size, 32)
    wanted = load_pixels(style, side, shorter=True)
    trained = as_trained(model)
    weights = LossWeights(content_weight, style_weight, variation_weight)
    loss = make_style_loss(trained, weights, content_layers, style_layers)
    x, reference = (jnp.asarray(pixels[None], jnp.float32) / 255 for pixels in (photo, wanted))
    maps = loss.maps(trained.variables, x, loss.content_layers)
    grams = loss.grams(trained.variables, reference)
    picture, _ = minimize(loss, trained.variables, x, maps, grams, steps, progress)
    return Picture(to_uint8(np.asarray(picture)[0]), "optimized")


def minimize(
    loss: StyleLoss,
    variables: Any,
    x: jax.Array,
    content: Maps,
    grams: Grams,
    steps: int,
    progress: Progress | None = None,
) -> tuple[jax.Array, float]:
    """Lowers the loss of a picture [1, H, W, 3] by L-BFGS; returns it and the total loss.

    The steps are a loop of Python: inside a loop of XLA's the gradients of convolutions take twice
    the time on a CPU.
    """
    value_and_grad, direct = _compile(loss)
    optimizer = optax.scale_by_lbfgs(memory_size=MEMORY)
    state = jax.jit(optimizer.init)(x)
    value, gradient = value_and_grad(x, variables, content, grams)
    for step in range(1, steps + 1):
        if not np.isfinite(float(value)):
            raise FloatingPointError(f"the loss is {float(value)} in step {step}")
        direction, slope, state = direct(gradient, state, x)
        if float(slope) <= 0:  # the memory misleads: begin anew, by the gradient
            state = jax.jit(optimizer.init)(x)
            direction, slope, state = direct(gradient, state, x)
        length, found = 1.0, None
        for _ in range(HALVINGS):
            candidate = jnp.clip(x - length * direction, 0, 1)
            found = value_and_grad(candidate, variables, content, grams)
            if float(found[0]) <= float(value) - ENOUGH * length * float(slope):
                break
            length /= 2
        else:
            break  # no step along the direction lowers the loss: this is as low as it gets
        x, (value, gradient) = candidate, found
        if progress is not None:
            progress(step, steps)
    if progress is not None:
        progress(steps, steps)
    return x, float(value)


@functools.lru_cache(maxsize=8)
def _compile(loss: StyleLoss) -> tuple[Callable[..., Any], Callable[..., Any]]:
    optimizer = optax.scale_by_lbfgs(memory_size=MEMORY)

    @jit
    def value_and_grad(x: jax.Array, variables: Any, content: Maps, grams: Grams) -> Any:
        return jax.value_and_grad(lambda x: loss(variables, x, content, grams)[0])(x)

    @jax.jit
    def direct(gradient: jax.Array, state: Any, x: jax.Array) -> Any:
        direction, state = optimizer.update(gradient, state, x)
        return direction, jnp.vdot(direction, gradient), state

    return value_and_grad, direct
