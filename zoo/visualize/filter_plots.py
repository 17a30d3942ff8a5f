"""Kernels of convolutions as pictures."""

import math

import numpy as np

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.trained import Trained
from zoo.runtime.checks import check_count
from zoo.visualize.layers import LayerError, find_layer, layer_shapes
from zoo.visualize.pictures import (
    GAP,
    TITLE_HEIGHT,
    Gallery,
    color,
    resize,
    to_uint8,
)
from zoo_pretrained.checkpoint import flatten_variables

# Pixels of an enlarged kernel, about: alone, and as one of several slices.
TILE, SLICE = 56, 30
# The grey of the lines between slices: a white slice on a white sheet would not be seen.
LINE = 190


def filters(
    model: ModelWithWeights,
    layer: str | None = None,
    *,
    count: int | None = 64,
    slices: int = 8,
    colors: str = "grey",
) -> Gallery:
    """The kernels of a convolution, a picture for each filter, enlarged without blur.

    Those of the first convolution are in the colours of the images: a filter responds most to an
    image that looks like its picture. Of a later convolution's filters the slices for their
    strongest input channels stand side by side, the strongest first; a depthwise filter has one.
    Each filter is scaled by its own largest absolute value; grey is 0.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name.
      layer: the path of a convolution, or of a module that holds a single one; None for the first
        convolution of the model.
      count: how many filters are shown, the first ones; None for all.
      slices: the largest number of slices of a filter that are shown.
      colors: of slices: "grey", "signed" (blue below 0, red above) or "heat".

    Returns:
      A picture for each filter; its title is the filter's number, which is that of the channel of
      the layer's output.

    Raises:
      LayerError: the model has no such layer, it has no kernel of a convolution, or several.
      ArgumentError: `count` or `slices` is no integer of at least 1.
      PictureError: no colours have that name.
    """
    count = None if count is None else check_count("count", count)
    slices = check_count("slices", slices)
    trained = as_trained(model)
    path, kernel = find_kernel(trained, layer)
    kernel = np.moveaxis(kernel[..., :count].astype(np.float32), -1, 0)  # [filter, kh, kw, channel]
    if not np.isfinite(kernel).all():
        raise FloatingPointError(f"the kernels of {path!r} are not finite: they may be damaged")
    largest = np.abs(kernel).max((1, 2, 3), keepdims=True)
    scaled = 0.5 + 0.5 * kernel / np.where(largest > 0, largest, 1)
    order = trained.info.preprocessing.channels
    titles = [str(number) for number in range(len(kernel))]
    if path == trained.model.input_conv and order in ("RGB", "BGR"):
        scaled = scaled[..., ::-1] if order == "BGR" else scaled
        return Gallery(_enlarge(to_uint8(scaled), TILE), titles)
    norms = np.linalg.norm(kernel, axis=(1, 2))  # [filter, channel]
    strongest = np.argsort(-norms, axis=1, kind="stable")[:, :slices]
    chosen = np.take_along_axis(scaled, strongest[:, None, None, :], axis=-1)
    tiles = color(np.moveaxis(chosen, -1, 1), colors)  # [filter, slice, kh, kw, 3]
    strips = [_join(_enlarge(row, TILE if len(row) == 1 else SLICE)) for row in tiles]
    height, width, _ = strips[0].shape
    # About square as a whole.
    columns = max(1, round(math.sqrt(len(strips) * (height + TITLE_HEIGHT + GAP) / width)))
    return Gallery(np.stack(strips), titles, columns)


def find_kernel(trained: Trained, layer: str | None = None) -> tuple[str, np.ndarray]:
    """The path of a convolution, and its kernel [kh, kw, input channels, filters].

    Args:
      trained: the model.
      layer: the path of a convolution, or of a module that holds a single one; None for the first.

    Raises:
      LayerError: the model has no such layer, it has no kernel of a convolution, or several.
    """
    model, order = trained.model, list(layer_shapes(trained))
    arrays = dict(flatten_variables(trained.variables))
    found = {
        path: array
        for path in order
        if (array := arrays.get(f"params/{path}/kernel")) is not None and np.ndim(array) == 4
    }
    if not found:
        raise LayerError(f"{model.title} has no convolution")
    if layer is None:
        layer = model.input_conv if model.input_conv in found else next(iter(found))
    elif layer not in found:
        find_layer(trained, layer, spatial=False)
        inside = [path for path in found if path.startswith(f"{layer}/")]
        if len(inside) > 1:
            shown = ", ".join(map(repr, inside[:4])) + (", …" if len(inside) > 4 else "")
            raise LayerError(
                f"layer {layer!r} of {model.title} holds {len(inside)} convolutions; "
                f"name one of {shown}"
            )
        if not inside:
            place = order.index(layer)
            before = [path for path in found if order.index(path) < place]
            nearest = before[-1] if before else next(iter(found))
            raise LayerError(
                f"layer {layer!r} of {model.title} has no kernel of a convolution; the nearest "
                f"layer that has one is {nearest!r}"
            )
        layer = inside[0]
    return layer, np.asarray(found[layer])


def _enlarge(tiles: np.ndarray, target: int) -> np.ndarray:
    """[N, h, w, 3] → as many times larger, without blur, as comes nearest to so many pixels."""
    height, width = tiles.shape[1:3]
    zoom = max(1, round(target / max(height, width)))
    return np.stack([resize(tile, zoom * height, zoom * width) for tile in tiles])


def _join(tiles: np.ndarray) -> np.ndarray:
    """[N, h, w, 3] → [h, W, 3], side by side with a line around each; a single one as it is."""
    if len(tiles) == 1:
        return tiles[0]
    lined = np.pad(tiles, ((0, 0), (1, 1), (1, 0), (0, 0)), constant_values=LINE)
    row = np.concatenate(list(lined), axis=1)
    return np.pad(row, ((0, 0), (0, 1), (0, 0)), constant_values=LINE)
