"""What the methods return: maps of how much each pixel matters to a class."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from zoo.visualize import pictures
from zoo.visualize.inputs import Inputs
from zoo.visualize.pictures import PictureError

# Of a gradient, the share of pixels below full brightness, in per cent (Smilkov et al. 2017).
GRADIENT_PERCENTILE = 99.0
COLUMNS = ("photo", "heat", "overlay", "grey", "color", "signed")


@dataclasses.dataclass(frozen=True, eq=False)
class Attribution:
    """How much each pixel of one or several images matters to a class, by one method.

    It is a sequence of the attributions of its images, and shows itself in a notebook.

    Args:
      method: the method's name, such as "grad-cam".
      maps: [N, H, W], or [N, H, W, C] for methods that tell channels apart; of any scale.
      targets: class indices, [N].
      labels: their names.
      probabilities: what the model gives these classes, [N].
      photos: the images as the model saw them, [N, H, W, 3], uint8.
      settings: the method's arguments.
      channels: "BGR" where the channels of the maps are in that order, as the model takes them.
    """

    method: str
    maps: np.ndarray
    targets: np.ndarray
    labels: tuple[str, ...]
    probabilities: np.ndarray
    photos: np.ndarray = dataclasses.field(repr=False)
    settings: Mapping[str, Any]
    channels: str = "RGB"

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: int | slice) -> Self:
        if isinstance(index, slice):
            rows = index
        else:
            row = range(len(self))[index]  # raises IndexError, which ends an iteration
            rows = slice(row, row + 1)
        return dataclasses.replace(
            self,
            maps=self.maps[rows],
            targets=self.targets[rows],
            labels=self.labels[rows],
            probabilities=self.probabilities[rows],
            photos=self.photos[rows],
        )

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{label!r} {probability:.1%}"
            for label, probability in zip(self.labels, self.probabilities, strict=True)
        )
        return f"Attribution({self.method}, {shown}, maps {list(self.maps.shape)})"

    @property
    def heat_maps(self) -> np.ndarray:
        """[N, H, W] from 0 to 1: what speaks for the class; for gradients, what matters at all.

        Maps of one channel are what is above 0, scaled to a largest value of 1. Of maps with
        several channels the absolute values are summed.
        """
        if self.maps.ndim == 3:
            positive = np.maximum(self.maps, 0)
            largest = positive.max((1, 2), keepdims=True)
            return positive / np.where(largest > 0, largest, 1)
        return pictures.stretch(np.abs(self.maps).sum(-1), GRADIENT_PERCENTILE)

    def render(self, column: str = "overlay", opacity: float = 0.5) -> np.ndarray:
        """Pictures of all images, [N, H, W, 3], uint8.

        Args:
          column: "photo"; "heat", the heat map; "overlay", the heat map over the photo; "grey", the
            heat map in grey; "color", a gradient's channels as colours, where 0 is mid-grey;
            "signed", what speaks for the class in red and against it in blue.
          opacity: of the heat map over the photo.

        Raises:
          PictureError: no column has that name.
        """
        if column not in COLUMNS:
            raise PictureError(f"column must be one of {', '.join(COLUMNS)}, got {column!r}")
        if column == "photo":
            return self.photos
        if column in ("heat", "grey"):
            return pictures.color(self.heat_maps, column)
        if column == "overlay":
            pairs = zip(self.photos, self.heat_maps, strict=True)
            return np.stack([pictures.overlay(photo, heat, opacity) for photo, heat in pairs])
        axes = tuple(range(1, self.maps.ndim if column == "color" else 3))
        maps = self.maps
        if column == "signed" and maps.ndim == 4:
            maps = maps.sum(-1)
        limit = np.percentile(np.abs(maps), GRADIENT_PERCENTILE, axes, keepdims=True)
        limit = np.where(limit > 0, limit, np.abs(maps).max(axes, keepdims=True))
        centered = 0.5 + 0.5 * np.clip(maps / np.where(limit > 0, limit, 1), -1, 1)
        if column == "signed":
            return pictures.color(centered, "signed")
        channels = centered[..., None] if centered.ndim == 3 else centered
        bands = [0, 1, 2] if channels.shape[-1] >= 3 else [0, 0, 0]
        bands = bands[::-1] if self.channels == "BGR" else bands
        return pictures.to_uint8(channels[..., bands])

    def picture(
        self, columns: str | Sequence[str] = ("photo", "heat", "overlay"), opacity: float = 0.5
    ) -> pictures.Picture:
        """A row for each image, with titles.

        Args:
          columns: what stands side by side; see `render`.
          opacity: of the heat map over the photo.

        Raises:
          PictureError: no column has that name.
        """
        tiles, titles, count = self._tiles(columns, opacity)
        return pictures.Picture(pictures.grid(tiles, titles, columns=count))

    def figure(
        self, columns: str | Sequence[str] = ("photo", "heat", "overlay"), opacity: float = 0.5
    ) -> Any:
        """The same as a matplotlib figure; needs the extra `visualize`."""
        return pictures.make_figure(*self._tiles(columns, opacity))

    def _tiles(
        self, columns: str | Sequence[str], opacity: float
    ) -> tuple[list[np.ndarray], list[str], int]:
        names = [columns] if isinstance(columns, str) else list(columns)
        if not names:
            raise PictureError("columns must name at least one column, got none")
        by_column = [self.render(name, opacity) for name in names]
        tiles = [pixels[row] for row in range(len(self)) for pixels in by_column]
        titles = []
        for label, probability in zip(self.labels, self.probabilities, strict=True):
            texts = [self.method] * len(names)
            texts[0] = f"{label} {probability:.0%}"
            if len(names) == 1:
                texts[0] = f"{self.method}: {texts[0]}"
            titles += texts
        return tiles, titles, len(names)

    def save(
        self,
        path: str | os.PathLike[str],
        columns: str | Sequence[str] = ("photo", "heat", "overlay"),
        opacity: float = 0.5,
    ) -> None:
        """Saves the picture as PNG, JPEG or WebP, by the path's ending.

        Raises:
          PictureError: the path has another ending, or no column has that name.
        """
        pictures.check_ending(path)
        self.picture(columns, opacity).save(path)

    def _repr_jpeg_(self) -> bytes:
        return self.picture()._repr_jpeg_()


def make_attribution(
    method: str, inputs: Inputs, maps: jax.Array | np.ndarray, **settings: Any
) -> Attribution:
    """An attribution whose maps are brought to the images' size.

    Args:
      method: its name.
      inputs: the images and targets.
      maps: [N, h, w] of any size, or [N, H, W, C].
      **settings: the method's arguments.

    Raises:
      FloatingPointError: the maps are not finite.
    """
    if maps.ndim == 3:
        maps = resize_maps(maps, inputs.x.shape[1:3])
    array = np.asarray(maps, np.float32)
    if not np.isfinite(array).all():
        raise FloatingPointError(
            f"the maps of {method} are not finite: the weights may be damaged, or gradients too "
            f"large for their dtype"
        )
    return Attribution(
        method,
        array,
        np.asarray(inputs.targets),
        inputs.labels,
        inputs.probabilities,
        inputs.photos,
        settings,
        inputs.trained.info.preprocessing.channels,
    )


def compare(
    attributions: Sequence[Attribution], columns: Sequence[str] | None = None
) -> pictures.Picture:
    """Attributions of the same images side by side: a row for each image, a column for each.

    Args:
      attributions: by different methods, or of different layers.
      columns: how each is shown; see `Attribution.render`. By default maps are laid over the photo,
        and gradients shown in grey.

    Raises:
      PictureError: there are none, or they are of different images or classes.
    """
    if not attributions:
        raise PictureError("attributions must be at least one, got none")
    first = attributions[0]
    if any(a.labels != first.labels or a.photos.shape != first.photos.shape for a in attributions):
        raise PictureError("attributions to compare must be of the same images and classes")
    if columns is None:
        columns = ["overlay" if a.maps.ndim == 3 else "grey" for a in attributions]
    rendered = [a.render(column) for a, column in zip(attributions, columns, strict=True)]
    names = [_describe(a, attributions) for a in attributions]
    tiles, titles = [], []
    for row, (label, probability) in enumerate(zip(first.labels, first.probabilities, strict=True)):
        tiles += [first.photos[row], *(pixels[row] for pixels in rendered)]
        titles += [f"{label} {probability:.0%}", *names]
    return pictures.Picture(pictures.grid(tiles, titles, columns=len(attributions) + 1))


def _describe(attribution: Attribution, others: Sequence[Attribution]) -> str:
    """The method's name, and the layer where the same method stands there for several."""
    same = [other for other in others if other.method == attribution.method]
    layer = attribution.settings.get("layer")
    return f"{attribution.method}, {layer}" if len(same) > 1 and layer else attribution.method


def resize_maps(maps: jax.Array | np.ndarray, size: tuple[int, ...]) -> jax.Array:
    """Maps [N, h, w] → [N, H, W], bilinear between the centres of the old positions."""
    shape = (maps.shape[0], *size)
    return jnp.asarray(maps) if maps.shape == shape else _resize(jnp.asarray(maps), shape)


@functools.partial(jax.jit, static_argnames="shape")
def _resize(maps: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.image.resize(maps, shape, "linear", antialias=False)
