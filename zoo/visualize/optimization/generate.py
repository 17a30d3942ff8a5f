"""Feature visualisation: pictures that a channel, a neuron, a direction or a class responds to."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.trained import Trained
from zoo.runtime.checks import check_count, check_number
from zoo.runtime.progress import Progress, shift_progress
from zoo.visualize.inputs import Target, find_class
from zoo.visualize.layers import find_layer, layer_shapes
from zoo.visualize.optimization import scores
from zoo.visualize.optimization.ascent import Setup, ascend
from zoo.visualize.optimization.objectives import LOGITS, Objective, parse_all, resolve
from zoo.visualize.optimization.parametrize import NAMES, Parametrization
from zoo.visualize.optimization.transforms import Movements, find_movements
from zoo.visualize.optimization.visualization import Visualization, check_size, show
from zoo.visualize.pictures import PictureError

SIZE, STEPS, RATE = 160, 256, 0.05
BLUR = 1.5


def feature(
    model: ModelWithWeights,
    what: str | Objective | Sequence[str | Objective],
    *,
    size: int = SIZE,
    steps: int = STEPS,
    rate: float = RATE,
    parametrization: str = "fourier",
    decorrelate: bool = True,
    decay: float | None = None,
    transforms: bool | Movements = True,
    count: int = 1,
    diversity: float = 0.0,
    aligned: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Visualization:
    """Generates pictures to which parts of a model respond most (Olah et al. 2017, distill.pub).

    zoo.visualize.feature(model, ["stage4:12", "stage5:3", class_logit("tabby")]).save("seen.png")

    Each picture starts from the same small noise. Objectives of the same layers share one compiled
    program, and so do later calls.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name.
      what: a layer and a channel such as "stage4:12"; an objective made by `channel`, `neuron`,
        `direction`, `class_logit` or `interpolate`; or several of these, with a picture each.
      size: the pictures' height and width in pixels. The larger the part of a photo that a layer
        sees, the larger should it be.
      steps: of the gradient ascent.
      rate: Adam's learning rate.
      parametrization: "fourier" for frequencies with the weight that they have in photos, or
        "pixels", which gives noise.
      decorrelate: uses colours that are independent in photos.
      decay: frequencies f have the weight f ** -decay. More makes smoother pictures: by default 1,
        but 1.5 for classes and other outputs without spatial extent, which 1 leaves grainy.
      transforms: shifts, scales and turns the pictures in each step, so that they do not show what
        depends on single pixels; or how far, as `Movements`.
      count: of pictures of each objective.
      diversity: how strongly pictures of the same objective are to differ in texture, where `count`
        is above 1; 0.5 to 2 change much.
      aligned: pulls all pictures the same way, so that those of `interpolate` change gradually.
      seed: of the noise and the movements.
      progress: called after each step with (done, steps).

    Returns:
      The pictures, in the order of `what`; those of the same objective follow each other.

    Raises:
      LayerError: a text is no objective, or the model lacks the layer or the channel.
      TargetError: the model has no such class.
      ArgumentError: an argument has another type or range.
      PictureError: no parametrisation has that name, there is diversity of single pictures, or the
        model does not take pictures.
      ValueError: a class is asked for, and the weights have no classifier.
    """
    trained = as_trained(model)
    objectives = parse_all(what)
    size, count = check_size(trained, size), check_count("count", count)
    steps = check_count("steps", steps)
    rate, diversity = (
        check_number("rate", rate, included=False),
        check_number("diversity", diversity),
    )
    if diversity and count == 1:
        raise PictureError(f"diversity needs a count above 1, got diversity={diversity}, count=1")
    if parametrization not in NAMES:
        names = ", ".join(NAMES)
        raise PictureError(f"parametrization must be one of {names}, got {parametrization!r}")
    movements = find_movements(transforms)
    groups: dict[tuple[str, ...], list[int]] = {}
    rows = [[resolve(trained, term, size) for term in item.terms] for item in objectives]
    for number, row in enumerate(rows):
        groups.setdefault(tuple(term.layer for term in row), []).append(number)

    results: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    total, finished = steps * len(groups), 0
    for layers, numbers in groups.items():
        compared = (_comparable(trained, layers[0], size),) if diversity else ()
        parameters = Parametrization(
            parametrization,
            size,
            trained.channels,
            decorrelate,
            _decay(trained, layers, size)
            if decay is None
            else check_number("decay", decay, included=False),
        )
        setup = Setup(
            parameters,
            trained.info.preprocessing,
            (*layers, *compared),
            _score(count if diversity else 1),
            movements,
        )
        chosen = [rows[number] for number in numbers for _ in range(count)]
        wishes = scores.Wishes(scores.make_goals(chosen), jnp.float32(diversity))
        result = ascend(
            trained,
            setup,
            make_noise(parameters, seed, len(numbers), count),
            wishes,
            steps=steps,
            rate=rate,
            seed=seed,
            aligned=aligned,
            progress=shift_progress(progress, finished, total),
        )
        finished += steps
        shown = show(result.pixels)
        for position, number in enumerate(numbers):
            part = slice(position * count, (position + 1) * count)
            results[number] = shown[part], result.values[part]
    ordered = [results[number] for number in range(len(objectives))]
    return Visualization(
        np.concatenate([pixels for pixels, _ in ordered]),
        [objective.title for objective in objectives for _ in range(count)],
        count if count > 1 else min(len(ordered), 6),
        np.concatenate([values for _, values in ordered]),
    )


def class_image(
    model: ModelWithWeights,
    target: Target | Sequence[Target],
    *,
    size: int | None = None,
    steps: int = 150,
    rate: float = 3.0,
    regularization: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Visualization:
    """Generates images of classes by gradient ascent on the pixels (Simonyan et al. 2013).

    It raises the logit, before the softmax, less regularization × the mean square of the normalised
    image, which starts as zero: the mean colour. Each step goes along the gradient, scaled; the
    image is shifted by a few pixels at random before. `feature` with `class_logit` looks better.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name.
      target: the label or the index of a class, or several, with an image each.
      size: the images' height and width; by default the model's own.
      steps: of the gradient ascent.
      rate: how far a step goes on average, in units of 1/255 of the range from black to white.
      regularization: the weight of the mean square.
      seed: of the shifts.
      progress: called after each step with (done, steps).

    Raises:
      TargetError: the model has no such class.
      ArgumentError: a number has another type or range.
      PictureError: no class is named, or the model does not take pictures.
      ValueError: the weights have no classifier.
    """
    trained = as_trained(model)
    trained.require_head()
    regularization = check_number("regularization", regularization)
    preprocessing = trained.info.preprocessing
    size = check_size(trained, preprocessing.size if size is None else size)
    wanted = (
        list(target) if isinstance(target, Iterable) and not isinstance(target, str) else [target]
    )
    targets = [find_class(trained, item) for item in wanted]
    if not targets:
        raise PictureError("class_image needs a class at least, got none")
    parametrization = Parametrization("linear", size, trained.channels, blur=BLUR)
    setup = Setup(
        parametrization,
        preprocessing,
        (LOGITS,),
        scores.score_class,
        Movements((8.0, 8.0), (1.0, 1.0), 0.0),
        optimizer="plain",
    )
    colors = jnp.asarray(preprocessing.mean)[:: -1 if preprocessing.channels == "BGR" else 1]
    start = jnp.broadcast_to(colors, (len(targets), size, size, trained.channels))
    result = ascend(
        trained,
        setup,
        start,
        (jnp.asarray(targets, jnp.int32), jnp.float32(regularization)),
        steps=steps,
        rate=check_number("rate", rate, included=False) / 255,
        seed=seed,
        progress=progress,
    )
    titles = [trained.labels[number] for number in targets]
    return Visualization(show(result.pixels), titles, None, result.values)


def _decay(trained: Trained, layers: tuple[str, ...], size: int) -> float:
    shapes = layer_shapes(trained, size)
    return 1.5 if any(len(shapes.get(layer, ())) != 3 for layer in layers) else 1.0


def make_noise(parametrization: Parametrization, seed: int, groups: int, count: int) -> jax.Array:
    """The noise that pictures start from: of the n-th of each objective the same."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), count)
    return jnp.concatenate([jax.vmap(parametrization.init)(keys)] * groups)


@functools.lru_cache(maxsize=32)
def _score(count: int) -> Any:
    """One function for each count, so that programs are found again."""
    return functools.partial(scores.score_goals, count=count)


def _comparable(trained: Trained, layer: str, size: int) -> str:
    """The layer whose textures are compared: the objective's, or the last feature map."""
    shape = layer_shapes(trained, size).get(layer, ())
    return layer if len(shape) == 3 else find_layer(trained, None, spatial=True, size=size)
