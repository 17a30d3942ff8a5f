"""The preprocessing of a model's images: resize, crop the centre, normalise."""

import dataclasses
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from zoo.inference.images import (
    ImageError,
    ImageSource,
    MinSide,
    is_single_image,
    load_bands,
    load_image,
)
from zoo_pretrained.metadata import check_preprocessing

_INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of a model's images: resize, crop the centre, normalise.

    Args:
      size: height and width of the model's input, in pixels.
      resize: the length in pixels to which the image's shorter side is resized; the centre of the
        resized image is cropped.
      interpolation: "bilinear", "bicubic", "lanczos" or "nearest", antialiased.
      mean, std: of each channel, where black is 0 and white is 1: (pixel − mean) / std.
      channels: "RGB", "BGR", "grey" (one channel, to which photos are converted), or "bands": the
        channels of an array [H, W, C] as they are, of which there are as many as in `mean`.

    Raises:
      ValueError: a field has another type or range.
    """

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: str = "RGB"

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_preprocessing(dataclasses.asdict(self))

    @classmethod
    def from_metadata(cls, fields: Mapping[str, Any]) -> "Preprocessing":
        """Makes it from the JSON of a checkpoint's metadata; ValueError if that cannot be used."""
        check_preprocessing(fields)
        return cls(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})

    def resized(self, size: int) -> "Preprocessing":
        """The same for another size of the input, with the same share of the image cropped."""
        try:
            size = operator.index(size)
        except TypeError:
            raise ValueError(f"size must be an integer of at least 1, got {size!r}") from None
        resize = round(self.resize * size / self.size)
        return dataclasses.replace(self, size=size, resize=resize)

    def for_channels(self, count: int) -> "Preprocessing":
        """The same for images of another number of channels, as `zoo.adapt` changes kernels.

        One is grey, normalised by the mean of the channels' constants. For more, the channels'
        constants are repeated in turn.
        """
        if count == len(self.mean):
            return self
        if count == 3 and self.channels == "grey":
            return dataclasses.replace(self, mean=3 * self.mean, std=3 * self.std, channels="RGB")
        if count == 1:
            mean, std = float(np.mean(self.mean)), float(np.mean(self.std))
            return dataclasses.replace(self, mean=(mean,), std=(std,), channels="grey")
        bands = [band % len(self.mean) for band in range(count)]
        return dataclasses.replace(
            self,
            mean=tuple(self.mean[band] for band in bands),
            std=tuple(self.std[band] for band in bands),
            channels="bands",
        )

    def __call__(self, images: ImageSource | Iterable[ImageSource]) -> np.ndarray:
        """One image or several → [N, size, size, channels], float32, normalised.

        Raises:
          ImageError: there are no images, or something is not an image.
        """
        sources = _list_images(images)
        if not sources:
            raise ImageError("at least one image is needed, got no images")
        batch: np.ndarray = self.normalize(
            np.stack([self.resize_and_crop(self.load(source)) for source in sources])
        )
        return batch

    def normalize(self, batch: Any) -> Any:
        """[N, H, W, C], uint8, in RGB or grey or bands → what the model takes, float32.

        Of NumPy or of jax, also inside a jit.
        """
        batch = batch[..., ::-1] if self.channels == "BGR" else batch
        # The constants are scaled to the pixels in float64, so that 127/255 is 127 again.
        mean, std = (np.float32(255 * np.asarray(value)) for value in (self.mean, self.std))
        return (batch.astype(np.float32) - mean) / std

    def load(self, source: ImageSource, *, min_side: MinSide | None = None) -> list[Image.Image]:
        """An image in the channels of the model: an RGB image, a grey one, or one for each band.

        Args:
          source: an image of any kind, or an array of as many bands.
          min_side: as of `load_image`.
        """
        if self.channels == "bands":
            return load_bands(source, len(self.mean))
        image = load_image(source, min_side=min_side)
        return [image.convert("L") if self.channels == "grey" else image]

    def resize_and_crop(self, images: list[Image.Image]) -> np.ndarray:
        """What `load` gives → [size, size, channels], uint8: the centre, resized."""
        # The shorter side is resized and the centre cropped in one step, which computes no more.
        width, height = images[0].size
        resized = [side * self.resize // min(width, height) for side in (width, height)]
        # The corners of the centre, in the resized image and then in the original.
        corner = [round((side - self.size) / 2) for side in resized]
        ratio = [old / new for old, new in zip((width, height), resized, strict=True)]
        left, top = (c * r for c, r in zip(corner, ratio, strict=True))
        right, bottom = ((c + self.size) * r for c, r in zip(corner, ratio, strict=True))
        return self.crop(images, (left, top, min(right, width), min(bottom, height)))

    def crop(self, images: list[Image.Image], box: tuple[float, float, float, float]) -> np.ndarray:
        """What `load` gives → [size, size, channels], uint8: a part of it, resized.

        Args:
          images: of one size.
          box: the part's left, top, right and bottom, in pixels.
        """
        size, method = (self.size, self.size), _INTERPOLATIONS[self.interpolation]
        cropped = [np.asarray(image.resize(size, method, box)) for image in images]
        return np.concatenate([np.atleast_3d(band) for band in cropped], axis=-1)


def _list_images(images: Any) -> list[ImageSource]:
    return [images] if is_single_image(images) else list(images)
