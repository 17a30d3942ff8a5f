"""A map of many photos, on which similar ones lie together."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.images import ImageSource
from zoo.inference.preprocessing import Preprocessing
from zoo.runtime.checks import check_count, check_number
from zoo.runtime.extras import require
from zoo.runtime.progress import Progress
from zoo.surgery.embed import Embeddings
from zoo.visualize.folders import check_word, embed_images
from zoo.visualize.inputs import to_photos
from zoo.visualize.pictures import Picture, PictureError

METHODS = ("tsne", "pca")
MIN_PHOTOS = 4
# The sides of thumbnails in pixels, and the share of the sheet that they cover without a grid.
MIN_THUMBNAIL, MAX_THUMBNAIL, COVERED = 16, 128, 0.4
# A grid's assignment takes memory and time by the square of their number and more.
MAX_GRID = 3000


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddingMap(Picture):
    """Thumbnails of photos at their positions; shows itself in a notebook.

    Args:
      pixels, title: as of `Picture`.
      positions: [N, 2], x to the right and y downwards, from 0 to 1, before any grid.
      names: the photos' paths.
      skipped: a message for each photo that could not be read.
    """

    positions: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2), np.float32))
    names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def embedding_map(
    model: ModelWithWeights,
    images: ImageSource | Iterable[ImageSource] | Embeddings,
    *,
    method: str = "tsne",
    grid: bool = False,
    size: int = 1000,
    perplexity: float | None = None,
    layer: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> EmbeddingMap:
    """A map of a folder: thumbnails, of which similar ones lie together.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name. Weights
        without a classifier do.
      images: a folder, or several images; or what `zoo.embed_folder` returns.
      method: "tsne" (van der Maaten and Hinton 2008) keeps neighbours together and needs
        scikit-learn, of the extra `visualize`; "pca" keeps large distances, and needs nothing.
      grid: moves the thumbnails to the cells of a grid, so that none covers another, with as small
        moves as possible (the sum of squared distances).
      size: the sheet's larger side in pixels.
      perplexity: of t-SNE, about the number of neighbours that count; by default 30, or a third of
        the other photos if that is less.
      layer: the path of the module whose averaged output is compared; None for the last feature map
        before the classifier. Embeddings have their own.
      batch_size: the number of photos that are computed together.
      seed: of t-SNE. The same seed gives the same map.
      progress: called after each batch with the number of photos that were read, and of all.

    Returns:
      The picture, with the positions and the photos' names. Photos that cannot be read are left
      out, with a warning.

    Raises:
      PictureError: there are fewer than 4 photos that can be read, more than 3,000 for a grid, or a
        sheet that is too small for them; or no method has that name.
      ArgumentError: a number has another type or range.
      ImageError: there are no photos, or none that can be read.
      EmbeddingError: the model has no such layer; or the embeddings are of another model, or of
        images without files, which cannot be shown.
      MissingExtraError: scikit-learn is not installed.
    """
    check_word("method", method, METHODS)
    size, seed = check_count("size", size), check_count("seed", seed, 0)
    if perplexity is not None:
        check_number("perplexity", perplexity, 1)
    if method == "tsne":
        require("sklearn.manifold", "visualize")  # before a large folder is read
    trained = as_trained(model)
    embeddings, sources = embed_images(trained, images, layer, batch_size, progress)
    count = len(embeddings)
    if count < MIN_PHOTOS:
        raise PictureError(f"a map needs at least {MIN_PHOTOS} photos, got {count}")
    if grid and count > MAX_GRID:
        raise PictureError(f"a grid has at most {MAX_GRID} photos, got {count}; use grid=False")
    positions = find_positions(embeddings.vectors, method, perplexity=perplexity, seed=seed)
    corners, side, shape = (_place_in_grid if grid else _place_freely)(positions, size)
    sheet = np.full((*shape, 3), 255, np.uint8)
    for source, (left, top) in zip(sources, corners, strict=True):
        sheet[top : top + side, left : left + side] = _thumbnail(
            trained.info.preprocessing, source, side
        )
    return EmbeddingMap(
        sheet,
        f"{count} photos by {method}",
        positions=positions,
        names=embeddings.names,
        skipped=embeddings.skipped,
    )


def find_positions(
    vectors: np.ndarray, method: str, *, perplexity: float | None = None, seed: int = 0
) -> np.ndarray:
    """Vectors [N, C] → positions [N, 2] from 0 to 1; both axes have the same scale.

    Args:
      vectors: of at least 4 photos.
      method, perplexity, seed: as for `embedding_map`.

    Raises:
      ArgumentError: the perplexity is not from 1 to the number of photos less 1.
    """
    points = _pca(vectors) if method == "pca" else _tsne(vectors, perplexity, seed)
    low, high = points.min(axis=0), points.max(axis=0)
    span = (high - low).max()
    positions = 0.5 + (points - (low + high) / 2) / (span or 1)
    return positions.astype(np.float32)


def _pca(vectors: np.ndarray) -> np.ndarray:
    """The first two principal components, [N, 2]."""
    centered = np.float64(vectors - vectors.mean(axis=0))
    left, scale, right = np.linalg.svd(centered, full_matrices=False)
    # A component's sign is arbitrary: its largest weight is made positive.
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    points = (left * scale * signs)[:, :2]
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def _tsne(vectors: np.ndarray, perplexity: float | None, seed: int) -> np.ndarray:
    count = len(vectors)
    if perplexity is None:
        perplexity = min(30.0, (count - 1) / 3)
    perplexity = check_number(f"perplexity of {count} photos", perplexity, 1, count - 1)
    # Of photos that are all equal there are no principal components to begin with.
    init = "pca" if np.ptp(vectors, axis=0).max() > 0 and vectors.shape[1] > 1 else "random"
    manifold = require("sklearn.manifold", "visualize")
    tsne = manifold.TSNE(2, perplexity=perplexity, init=init, random_state=seed)
    # With several threads sums are added in any order, and the maps of one seed differ.
    with require("threadpoolctl", "visualize").threadpool_limits(1):
        return np.asarray(tsne.fit_transform(vectors), np.float64)


def _place_freely(positions: np.ndarray, size: int) -> tuple[np.ndarray, int, tuple[int, int]]:
    """The thumbnails' corners [N, 2] (left, top), their side, and the sheet's height and width."""
    side = round(size * math.sqrt(COVERED / len(positions)))
    side = min(max(side, MIN_THUMBNAIL), MAX_THUMBNAIL)
    spans = np.ptp(positions, axis=0)
    free = size - side
    _check_size(free, size)
    width, height = (int(free * span) + side for span in spans)
    corners = (free * (positions - positions.min(axis=0))).astype(int)
    return corners, side, (height, width)


def _place_in_grid(positions: np.ndarray, size: int) -> tuple[np.ndarray, int, tuple[int, int]]:
    """The same in the cells of a grid."""
    optimize = require("scipy.optimize", "visualize")
    columns = math.ceil(math.sqrt(len(positions)))
    rows = math.ceil(len(positions) / columns)
    cell = size // columns
    _check_size(cell - MIN_THUMBNAIL, size)
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    spans = np.ptp(positions, axis=0)
    spread = (positions - positions.min(axis=0)) / np.where(spans > 0, spans, 1)
    wanted = spread * [columns - 1, rows - 1]
    cost = sum(np.subtract.outer(wanted[:, axis], cells[:, axis]) ** 2 for axis in (0, 1))
    _, chosen = optimize.linear_sum_assignment(cost)
    gap = 1 if cell > MIN_THUMBNAIL else 0
    return cells[chosen] * cell, cell - gap, (rows * cell - gap, columns * cell - gap)


def _check_size(room: int, size: Any) -> None:
    if room < 0:
        raise PictureError(f"size must be larger for so many photos, got {size}")


def _thumbnail(preprocessing: Preprocessing, source: ImageSource, side: int) -> np.ndarray:
    """An image, cropped as for the model, [side, side, 3], uint8."""
    small = preprocessing.resized(side)
    # A large JPEG is decoded at a fraction of its size.
    loaded = small.load(source, min_side=lambda width, height: 2 * small.resize)
    return to_photos(small, small.normalize(small.resize_and_crop(loaded)[None]))[0]
