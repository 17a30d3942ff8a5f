"""Gradient ascent on images: one compiled step for a model, its layers and a way to score them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zoo_kernels as kernels
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.runtime.checks import check_count
from zoo.runtime.progress import Progress
from zoo.surgery.intercept import Call, intercept
from zoo.visualize.inputs import normalize
from zoo.visualize.layers import Variables
from zoo.visualize.optimization.objectives import LOGITS
from zoo.visualize.optimization.parametrize import Parametrization
from zoo.visualize.optimization.scores import Observed
from zoo.visualize.optimization.transforms import Movements, move
from zoo.visualize.rules import backward_rule

# (wishes, what the model makes of the pictures) → what is to rise, and what is reported; each [N].
Score = Callable[[Any, Observed], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a compiled step depends on.

    Args:
      parametrization: of the images.
      preprocessing: of the model.
      layers: whose outputs are scored: paths, or "" for the logits.
      score: of the pictures; the same function for the same program.
      movements: of the pictures before the model gets them; None for none.
      optimizer: "adam", or "plain": along the gradient, scaled to a mean square of 1.
    """

    parametrization: Parametrization
    preprocessing: Preprocessing
    layers: tuple[str, ...]
    score: Score
    movements: Movements | None = None
    optimizer: str = "adam"


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of it.

    Args:
      pixels: in RGB or grey from 0 to 1, [N, size, size, channels].
      values: of the objective by step, [N, steps].
    """

    pixels: np.ndarray
    values: np.ndarray


def ascend(
    trained: Trained,
    setup: Setup,
    params: jax.Array,
    wishes: Any,
    *,
    steps: int,
    rate: float,
    seed: int = 0,
    aligned: bool = False,
    reference: jax.Array | None = None,
    progress: Progress | None = None,
) -> Result:
    """Changes images in steps, so that the score rises.

    The pictures do not depend on each other, but for what the score makes of them.

    Args:
      trained: the model.
      setup: what is compiled.
      params: of the images that it starts from, [N, ...].
      wishes: what the score gets.
      steps: their number.
      rate: how far a step goes.
      seed: of the movements, which are the same for all pictures.
      aligned: adds the mean gradient of all pictures to that of each, so that they stay alike.
      reference: pixels in RGB or grey, [N, size, size, channels], with whose outputs the score
        compares.
      progress: called after each step with (done, steps).

    Raises:
      ArgumentError: `steps` is no integer of at least 1.
      FloatingPointError: the objective is not finite.
    """
    program = _compile(trained.model.clone(remat=False), setup)
    start, key = program.start(params), jax.random.key(seed)
    state, references, values = (params, start), (), []
    for number in range(check_count("steps", steps, 1)):
        step_key = jax.random.fold_in(key, number)
        if reference is not None and (number == 0 or setup.movements is not None):
            references = program.read(trained.variables, reference, step_key)
        state, value = program.step(
            trained.variables, state, wishes, references, step_key, rate, float(aligned)
        )
        values.append(value)
        if progress is not None:
            progress(number + 1, steps)
    history = np.stack(jax.device_get(values), axis=1)
    if not np.isfinite(history).all():
        raise FloatingPointError(
            "the objective is not finite: the weights may be damaged, or the rate too large"
        )
    return Result(np.asarray(program.show(state[0])), history)


@dataclasses.dataclass(frozen=True)
class _Program:
    start: Callable[..., Any]
    step: Callable[..., Any]
    read: Callable[..., Any]
    show: Callable[..., Any]


@functools.lru_cache(maxsize=32)
def _compile(module: Model, setup: Setup) -> _Program:
    to_pixels = jax.vmap(setup.parametrization.to_pixels)
    optimizer = optax.scale_by_adam() if setup.optimizer == "adam" else optax.stateless(_scale)

    def observe(
        variables: Variables, pixels: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        moved, movements = pixels, setup.movements
        if movements is not None:
            moved = jax.vmap(lambda image: move(image, key, movements))(pixels)
        if setup.preprocessing.channels == "BGR":
            moved = moved[..., ::-1]
        images = normalize(setup.preprocessing, moved)
        return images, read_layers(module, variables, images, setup.layers)

    def score(
        params: jax.Array, variables: Variables, wishes: Any, references: Any, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        pixels = to_pixels(params)
        images, outputs = observe(variables, pixels, key)
        wanted, values = setup.score(wishes, Observed(outputs, references, pixels, images))
        return wanted.sum(), values

    def step(
        variables: Variables,
        state: Any,
        wishes: Any,
        references: Any,
        key: jax.Array,
        rate: jax.Array,
        aligned: jax.Array,
    ) -> Any:
        params, memory = state
        gradient, values = jax.grad(score, has_aux=True)(params, variables, wishes, references, key)
        gradient += aligned * gradient.mean(0, keepdims=True)
        update, memory = optimizer.update(gradient, memory)
        return (params + rate * update, memory), values

    def read(variables: Variables, pixels: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
        return observe(variables, pixels, key)[1]

    return _Program(optimizer.init, kernels.jit(step), kernels.jit(read), kernels.jit(to_pixels))


def _scale(gradient: jax.Array, _: Any) -> jax.Array:
    square = jnp.square(gradient).mean(tuple(range(1, gradient.ndim)), keepdims=True)
    return gradient / jnp.sqrt(square + 1e-20)


def read_layers(
    module: Model, variables: Variables, images: jax.Array, layers: tuple[str, ...]
) -> tuple[jax.Array, ...]:
    """The outputs of layers, in float32; nothing after the last of them is computed.

    The gradient passes through the last rectifier of a layer even where all of it is 0: an
    objective could never wake a dead channel otherwise.
    """
    outputs: dict[str, Any] = {}
    inner = {layer for layer in layers if layer != LOGITS}

    def collect(call: Call) -> Any:
        output = call.run()
        if call.path in inner:
            outputs[call.path] = output
            if LOGITS not in layers and outputs.keys() == inner:
                call.stop()
        return output

    # The handler that is entered first is called first, and so gets what the rule makes.
    ends = {module.classifier[-1]} if LOGITS in layers else set()
    with intercept(collect), backward_rule("revive", inner | ends):
        outputs[LOGITS] = module.apply(variables, images)
    return tuple(outputs[layer].astype(jnp.float32) for layer in layers)
