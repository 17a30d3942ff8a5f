"""Dreams: images that are changed until a model sees in them more of what it looks for."""

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import numpy as np
from PIL import Image

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.deep_dream.objectives import Layers, Objective
from zoo.deep_dream.octaves import MIN_SIDE, Settings, ascend, dream_octaves
from zoo.inference.images import ImageSource, load_image
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Trained
from zoo.runtime.checks import check_count
from zoo.runtime.progress import Progress, shift_progress
from zoo.visualize.inputs import normalize
from zoo.visualize.layers import LayerError
from zoo.visualize.pictures import Gallery, Picture, PictureError, to_uint8

# The longer side, in pixels, of what is dreamt.
SIZE = 512
# Of the noise that a dream without an image begins with, around mid-grey.
NOISE = 0.02


class DreamOptions(TypedDict, total=False):
    """The arguments that `dream` has beside model, image and layers; see there."""

    guide: ImageSource | None
    octaves: int
    scale: float
    steps: int
    step_size: float
    jitter: int
    total_variation: float
    tile: int
    size: int | None
    seed: int
    progress: Progress | None


def dream(
    model: ModelWithWeights,
    image: ImageSource | None = None,
    *,
    layers: Layers | None = None,
    guide: ImageSource | None = None,
    octaves: int = Settings.octaves,
    scale: float = Settings.scale,
    steps: int = Settings.steps,
    step_size: float = Settings.step_size,
    jitter: int = Settings.jitter,
    total_variation: float = Settings.total_variation,
    tile: int = Settings.tile,
    size: int | None = SIZE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Picture:
    """Changes an image so that a layer of a model answers to it more strongly: DeepDream.

    Each step of gradient ascent raises the mean of the squares of the layer's output; or, with a
    guide, the likeness of each position's features to the guide's best-matching ones. It goes
    through several octaves, from a small image to a large one, so that patterns of all sizes
    appear.

    Mordvintsev, Olah and Tyka, "Inceptionism: Going Deeper into Neural Networks", 2015.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name. It needs no
        classifier.
      image: an image of any kind; None begins with noise.
      layers: a module path such as "stage5/block2", several, or {path: weight}; by default one in
        the later half of the model. Early layers draw strokes and textures, late ones parts of
        things.
      guide: an image whose features the dream takes up.
      octaves: the number of sizes.
      scale: the ratio of one octave's size to the one before, above 1.
      steps: of gradient ascent in each octave.
      step_size: by how much a step changes a pixel on average, where black is 0 and white is 1.
      jitter: by how many pixels at most the image is moved at random at each step.
      total_variation: how strongly neighbouring pixels are drawn together; 0.1 to 0.5 smooth.
      tile: the largest side of the tiles of which the gradient is computed, a multiple of 32.
        Memory grows with its square, and not with the image.
      size: the longer side of the result in pixels: a larger image is reduced to it, in its own
        aspect. None keeps the image's size. Noise is a square of it.
      seed: of the random movements and of the noise. The same seed gives the same dream.
      progress: called after each step with the number of steps done and of all.

    Returns:
      A picture of the whole image, in its own aspect.

    Raises:
      LayerError: the model has no such layer, or it has no spatial extent.
      ArgumentError: a number has another type or range.
      PictureError: the image is too small for an octave, `tile` is no multiple of 32, or the model
        does not take pictures.
      ImageError: something is not an image.
    """
    settings = Settings(octaves, scale, steps, step_size, jitter, total_variation, tile)
    dreamer = Dreamer(model, image, layers, guide, settings, size, seed)
    return dreamer.to_picture(dreamer.run(dreamer.image, progress))


def dream_layers(
    model: ModelWithWeights,
    image: ImageSource | None,
    layers: Sequence[str],
    **options: Unpack[DreamOptions],
) -> Gallery:
    """A dream of one image for each of several layers.

    Args:
      model: as of `dream`.
      image: as of `dream`.
      layers: the paths of the layers.
      **options: further arguments of `dream`. Of `progress` the steps of all layers are counted.

    Raises:
      LayerError: there are none, or as `dream`.
      ArgumentError, PictureError, ImageError: as `dream`.
    """
    paths = [layers] if isinstance(layers, str) else list(layers)
    if not paths:
        raise LayerError("layers must name at least one layer, got none")
    trained = as_trained(model)
    progress = options.pop("progress", None)
    # Loaded once, since a stream may be read only once.
    image = None if image is None else load_image(image)
    if (guide := options.get("guide")) is not None:
        options["guide"] = load_image(guide)
    dreamers = [make_dreamer(trained, image, path, options) for path in paths]
    total, pictures = sum(dreamer.settings.total_steps for dreamer in dreamers), []
    for number, dreamer in enumerate(dreamers):
        advance = shift_progress(progress, number * dreamer.settings.total_steps, total)
        pictures.append(dreamer.to_picture(dreamer.run(dreamer.image, advance)).pixels)
    return Gallery(np.stack(pictures), paths)


def make_dreamer(
    model: ModelWithWeights,
    image: ImageSource | None,
    layers: Layers | None,
    options: DreamOptions,
) -> "Dreamer":
    """A `Dreamer` of the arguments of `dream`."""
    given: dict[str, Any] = dict(options)
    guide, size, seed = (
        given.pop(name, default) for name, default in (("guide", None), ("size", SIZE), ("seed", 0))
    )
    return Dreamer(model, image, layers, guide, Settings(**given), size, seed)


class Dreamer:
    """A model, an objective and settings, ready to dream of images of one size.

    Args:
      model, image, layers, guide: as of `dream`.
      settings: how it is computed.
      size, seed: as of `dream`.
    """

    def __init__(
        self,
        model: ModelWithWeights,
        image: ImageSource | None,
        layers: Layers | None,
        guide: ImageSource | None,
        settings: Settings,
        size: int | None = SIZE,
        seed: int = 0,
    ) -> None:
        trained = as_trained(model)
        self.settings = settings
        self._preprocessing = trained.info.preprocessing
        self._random = np.random.default_rng(check_count("seed", seed, 0))
        self.image = self._begin(trained, image, size)
        height, width, _ = self.image.shape
        self._sizes = settings.sizes(height, width, max(MIN_SIDE, trained.model.min_size))
        self._tile = settings.fit_tile(height, width)
        self._objective = Objective(trained, layers, guide, self._tile)
        self._std = np.asarray(self._preprocessing.std, np.float32)

    def _begin(self, trained: Trained, image: ImageSource | None, size: int | None) -> np.ndarray:
        if size is not None:
            check_count("size", size, MIN_SIDE)
        channels = self._preprocessing.channels
        if channels == "bands":
            raise PictureError(
                f"{trained.info.model} takes images of {trained.channels} bands, which are no "
                f"picture; a dream needs a model of RGB or grey images"
            )
        if image is not None:
            return load_pixels(self._preprocessing, image, size)
        if size is None:
            raise PictureError("a dream of noise needs a size, got None")
        noise = self._random.normal(0.5, NOISE, (size, size, trained.channels))
        return np.clip(noise, 0, 1).astype(np.float32)

    def run(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """A dream of an image [H, W, C] from 0 to 1, in the model's channels, of the first's size.

        Args:
          image: where it begins.
          progress: called after each step with the number of steps done and of all.
        """
        done, total = 0, self.settings.total_steps

        def advance() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, total)

        def change(octave: np.ndarray) -> np.ndarray:
            return ascend(self._gradient, octave, self.settings, self._tile, self._random, advance)

        return dream_octaves(image, self._sizes, change)

    def _gradient(self, tile: np.ndarray) -> tuple[Any, np.ndarray]:
        """The objective and its gradient by the pixels of a tile [1, T, T, C] from 0 to 1."""
        value, gradient = self._objective(normalize(self._preprocessing, tile))
        return value, np.asarray(gradient, np.float32) / self._std

    def to_picture(self, image: np.ndarray) -> Picture:
        """An image [H, W, C] from 0 to 1, in the model's channels, as it is shown."""
        pixels = image[..., ::-1] if self._preprocessing.channels == "BGR" else image
        return Picture(
            to_uint8(np.broadcast_to(pixels, (*pixels.shape[:2], 3))),
            f"dream of {', '.join(self._objective.paths)}",
        )


def load_pixels(preprocessing: Preprocessing, image: ImageSource, size: int | None) -> np.ndarray:
    """A whole image in its own aspect, [H, W, C] from 0 to 1, in the model's order of channels.

    Args:
      preprocessing: of the model.
      image: of any kind.
      size: the longer side of a larger image is reduced to it; None keeps the size.
    """
    loaded = load_image(image)
    if size is not None and max(loaded.size) > size:
        factor = size / max(loaded.size)
        reduced = [max(1, round(side * factor)) for side in loaded.size]
        loaded = loaded.resize((reduced[0], reduced[1]), Image.Resampling.LANCZOS)
    if preprocessing.channels == "grey":
        loaded = loaded.convert("L")
    pixels = np.atleast_3d(np.asarray(loaded, np.float32) / 255)
    return pixels[..., ::-1] if preprocessing.channels == "BGR" else pixels
