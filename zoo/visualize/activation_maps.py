"""Feature maps of an image through a model."""

import dataclasses
import re
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.images import ImageSource
from zoo.inference.trained import Trained
from zoo.runtime.checks import check_count
from zoo.surgery.features import features
from zoo.visualize.layers import LayerError, find_layer, list_feature_maps
from zoo.visualize.pictures import (
    Gallery,
    Picture,
    PictureError,
    color,
    grid,
    resize,
    stretch,
)

TILE = 112
HEADING_HEIGHT = 26


@dataclasses.dataclass(frozen=True, eq=False)
class LayerGallery(Gallery):
    """Pictures in rows, a row for each layer, with the layers' names above.

    Args:
      pixels, titles, columns: as of `Gallery`.
      headings: one for each row.
    """

    headings: Sequence[str] = ()

    @property
    def picture(self) -> Picture:
        """All rows, one below the other."""
        columns, parts = self.columns or len(self), []
        for row, heading in enumerate(self.headings):
            tiles = slice(row * columns, (row + 1) * columns)
            sheet = grid(self.pixels[tiles], self.titles[tiles], columns=columns)
            parts += [_write(heading, sheet.shape[1]), sheet]
        return Picture(np.concatenate(parts))


def activations(
    model: ModelWithWeights,
    image: ImageSource,
    layers: str | Sequence[str] | None = None,
    *,
    channels: int = 8,
    mean: bool = False,
    size: int | None = None,
    colors: str = "heat",
) -> LayerGallery:
    """Feature maps of an image through a model: a row for each layer, in one forward pass.

    Of each layer the channels are shown that vary most over the image, the first one first: a
    channel that is the same everywhere shows nothing. Each map is scaled to its own range.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name. Weights
        without a classifier do.
      image: an image of any kind.
      layers: module paths such as "stage4/block2/expand"; None for the stem and every stage.
      channels: how many are shown of each layer; fewer where a layer has fewer.
      mean: begins each row with the mean over all of the layer's channels.
      size: the image's height and width in pixels; by default the model's own.
      colors: "heat", "grey" or "signed".

    Returns:
      A picture for each map; its title is the channel's number.

    Raises:
      ImageError: `image` is not an image.
      LayerError: the model has no such layer, or it has no spatial extent.
      ArgumentError: `channels` is no integer of at least 1.
      PictureError: it is more than one image, or no colours have that name.
    """
    trained = as_trained(model)
    channels = check_count("channels", channels)
    batch = trained.preprocess(image, size=size)
    if len(batch) != 1:
        raise PictureError(f"the picture is of one image, got {len(batch)}")
    paths = _find_layers(trained, layers, batch.shape[1])
    outputs = features(trained, jnp.asarray(batch), paths)
    maps = {path: np.asarray(y[0], np.float32) for path, y in outputs.items()}
    count = min(channels, *(y.shape[-1] for y in maps.values()))
    tiles, titles, headings = [], [], []
    for path, y in maps.items():
        if not np.isfinite(y).all():
            raise FloatingPointError(f"the output of {path!r} is not finite: damaged weights?")
        shown = strongest_channels(y, count)
        rows = [y[..., channel] for channel in shown]
        titles += ["mean"] * mean + [str(channel) for channel in shown]
        rows = [y.mean(axis=-1)] * mean + rows
        tiles += [resize(tile, TILE) for tile in color(stretch(np.stack(rows)), colors)]
        height, width, total = y.shape
        headings.append(f"{path}   {height}x{width}, {total} channels")
    return LayerGallery(np.stack(tiles), titles, count + mean, headings)


def strongest_channels(maps: np.ndarray, count: int) -> list[int]:
    """[H, W, C] → the numbers of the channels that vary most over the positions, in order."""
    order = np.argsort(-maps.std(axis=(0, 1)), kind="stable")
    return [int(channel) for channel in order[:count]]


def _find_layers(trained: Trained, layers: str | Sequence[str] | None, size: int) -> list[str]:
    if layers is None:
        return find_stages(trained, size)
    paths = [layers] if isinstance(layers, str) else list(dict.fromkeys(layers))
    if not paths:
        raise LayerError("layers must name at least one layer, got none; None is every stage")
    return [find_layer(trained, path, spatial=True, size=size) for path in paths]


def find_stages(trained: Trained, size: int | None = None) -> list[str]:
    """The paths of the stem and of every stage that has more than one position.

    Of a model without them, all of its outermost modules before the classifier.

    Raises:
      LayerError: there are none for images of that size.
    """
    find_layer(trained, None, spatial=True, size=size)  # or it says why there is none
    outer = [path for path in list_feature_maps(trained, size) if "/" not in path]
    return [path for path in outer if re.fullmatch(r"stem|stage\d+", path)] or outer


def _write(text: str, width: int) -> np.ndarray:
    """A line of text on white, [H, width, 3]."""
    line = Image.new("RGB", (width, HEADING_HEIGHT), "white")
    ImageDraw.Draw(line).text((2, 7), text, "black", ImageFont.load_default(15))
    return np.asarray(line)
