"""What a layer keeps of an image: images with the same features, and exaggerated ones."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.images import ImageSource
from zoo.inference.trained import Trained
from zoo.runtime.checks import check_count, check_number
from zoo.runtime.progress import Progress, shift_progress
from zoo.visualize.inputs import denormalize
from zoo.visualize.optimization import scores
from zoo.visualize.optimization.ascent import Setup, ascend
from zoo.visualize.optimization.objectives import require_layer
from zoo.visualize.optimization.parametrize import Parametrization
from zoo.visualize.optimization.transforms import Movements, find_movements
from zoo.visualize.optimization.visualization import Visualization, check_size, show
from zoo.visualize.pictures import PictureError

STARTS = ("noise", "image")


def invert(
    model: ModelWithWeights,
    images: ImageSource | Iterable[ImageSource],
    layer: str | Iterable[str],
    *,
    size: int | None = None,
    steps: int = 256,
    rate: float = 0.05,
    variation: float = 0.1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Visualization:
    """Generates images that a layer cannot tell from given ones (Mahendran and Vedaldi 2015).

    It lowers ‖y − r‖² / ‖r‖² + variation × total variation, with the layer's outputs y and r of the
    generated image and of the given one. What differs from the given image is what the layer has
    forgotten.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name.
      images: an image of any kind, or several.
      layer: a module path, or several; each gives a picture of every image.
      size: the images' height and width; by default the model's own.
      steps: of Adam, on the image's frequencies.
      rate: Adam's learning rate.
      variation: the weight of the mean absolute difference between neighbours, of pixels from 0
        to 1.
      seed: of the noise that it starts from.
      progress: called after each step with the steps done and those of all layers.

    Returns:
      The images of the first layer, then those of the next; `values` are −‖y − r‖² / ‖r‖².

    Raises:
      ImageError: something is not an image.
      LayerError: the model has no such layer.
      ArgumentError: a number has another type or range.
      PictureError: no layer is named, or the model does not take pictures.
    """
    return _reconstruct(
        model,
        images,
        layer,
        scores.score_match,
        check_number("variation", variation),
        movements=None,
        size=size,
        steps=steps,
        rate=rate,
        start="noise",
        seed=seed,
        progress=progress,
    )


def caricature(
    model: ModelWithWeights,
    images: ImageSource | Iterable[ImageSource],
    layer: str | Iterable[str],
    *,
    size: int | None = None,
    steps: int = 256,
    rate: float = 0.05,
    cosine_power: float = 1.0,
    start: str = "noise",
    transforms: bool | Movements = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Visualization:
    """Generates images that exaggerate what a layer sees in given ones (lucid, "caricatures").

    It raises y · r / ‖r‖ × max(0.1, cos(y, r)) ** cosine_power, with the layer's outputs y and r
    over all positions of the generated image and of the given one.

    Args:
      model, images, layer, size, steps, rate, seed, progress: as for `invert`.
      cosine_power: the larger, the less may be added that is not in the given image.
      start: "noise", or "image".
      transforms: as for `feature`; both images are moved the same way.

    Returns:
      The images of the first layer, then those of the next.

    Raises:
      ImageError: something is not an image.
      LayerError: the model has no such layer.
      ArgumentError: an argument has another type or range.
      PictureError: `start` is another word, no layer is named, or the model does not take pictures.
    """
    if start not in STARTS:
        raise PictureError(f"start must be one of {', '.join(STARTS)}, got {start!r}")
    return _reconstruct(
        model,
        images,
        layer,
        scores.score_caricature,
        check_number("cosine_power", cosine_power),
        movements=find_movements(transforms),
        size=size,
        steps=steps,
        rate=rate,
        start=start,
        seed=seed,
        progress=progress,
    )


def _reconstruct(
    model: ModelWithWeights,
    images: ImageSource | Iterable[ImageSource],
    layer: str | Iterable[str],
    score: Callable[..., Any],
    parameter: float,
    *,
    movements: Movements | None,
    size: int | None,
    steps: int,
    rate: float,
    start: str,
    seed: int,
    progress: Progress | None,
) -> Visualization:
    trained = as_trained(model)
    preprocessing = trained.info.preprocessing
    size = check_size(trained, preprocessing.size if size is None else size)
    steps, rate = check_count("steps", steps), check_number("rate", rate, included=False)
    layers = [layer] if isinstance(layer, str) else list(layer)
    if not layers:
        raise PictureError("layer must name a layer at least, got none")
    for path in layers:
        require_layer(trained, path, size)
    reference = prepare_pixels(trained, images, size)
    parametrization = Parametrization("fourier", size, trained.channels)
    if start == "image":
        params = jnp.stack([parametrization.from_pixels(pixels) for pixels in reference])
    else:
        noise = parametrization.init(jax.random.key(seed))
        params = jnp.stack([noise] * len(reference))
    results = [
        ascend(
            trained,
            Setup(parametrization, preprocessing, (path,), score, movements),
            params,
            jnp.float32(parameter),
            steps=steps,
            rate=rate,
            seed=seed,
            reference=reference,
            progress=shift_progress(progress, number * steps, len(layers) * steps),
        )
        for number, path in enumerate(layers)
    ]
    return Visualization(
        np.concatenate([show(result.pixels) for result in results]),
        [path for path in layers for _ in range(len(reference))],
        len(reference) if len(reference) > 1 and len(layers) > 1 else None,
        np.concatenate([result.values for result in results]),
    )


def prepare_pixels(
    trained: Trained, images: ImageSource | Iterable[ImageSource], size: int
) -> jax.Array:
    """Images as a model gets them, in RGB or grey from 0 to 1, [N, size, size, channels]."""
    preprocessing = trained.info.preprocessing
    pixels = jnp.asarray(denormalize(preprocessing, trained.preprocess(images, size=size)))
    pixels = pixels[..., ::-1] if preprocessing.channels == "BGR" else pixels
    return jnp.clip(pixels, 0, 1)
