"""Photos of a folder: which a channel responds to most, and which are similar to another."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import zoo_kernels as kernels
from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.batches import (
    has_file,
    list_sources,
    load_batches,
    name_source,
    short_name,
    warn_skipped,
)
from zoo.inference.images import ImageSource
from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.models.suggest import suggest
from zoo.runtime.checks import check_count
from zoo.runtime.progress import Progress
from zoo.surgery.embed import EmbeddingError, Embeddings, embed, embed_sources, make_embeddings
from zoo.surgery.features import features
from zoo.visualize.attribution import resize_maps
from zoo.visualize.inputs import to_photos
from zoo.visualize.optimization.objectives import check_channel, parse_channel, require_layer
from zoo.visualize.pictures import Gallery, PictureError, overlay, stretch

REDUCTIONS = ("max", "mean")
SHOWN = ("highlight", "overlay", "photo")
# How bright a photo is where the channel responds least.
DARKNESS = 0.35


@dataclasses.dataclass(frozen=True, eq=False)
class RankedPhotos(Gallery):
    """Photos in the order of a value, which shows itself in a notebook.

    Args:
      pixels, titles, columns: as of `Gallery`.
      names: the photos' paths, or "image 7" for one that has none.
      values: what they are ordered by, [N].
      skipped: a message for each photo that could not be read.
    """

    names: tuple[str, ...] = ()
    values: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    skipped: tuple[str, ...] = ()


def top_photos(
    model: ModelWithWeights,
    images: ImageSource | Iterable[ImageSource],
    feature: str,
    count: int = 9,
    *,
    reduce: str = "max",
    show: str = "highlight",
    batch_size: int = 32,
    progress: Progress | None = None,
) -> RankedPhotos:
    """The photos of a folder to which a channel responds most, the strongest first.

    The photos are read in batches: of a folder of any size only those of two batches and the best
    ones are in memory. The idea is of Zhou et al. 2015, "Object detectors emerge in deep scene
    CNNs".

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name.
      images: a folder, an image of any kind, or several.
      feature: a layer's path and the number of a channel of its output, such as "stage4:12"; or of
        a class, "head:281".
      count: how many photos; all, if there are fewer.
      reduce: a photo's value: "max", the channel's largest output over all positions, or "mean".
      show: "highlight" darkens the photo where the channel responds less; "overlay" is a heat map
        over the photo; "photo" is the photo alone, as is shown for a layer without positions.
      batch_size: the number of photos that are computed together.
      progress: called after each batch with the number of photos that were read, and of all.

    Returns:
      `RankedPhotos`; titles are the values and the files' names. Photos that cannot be read are
      left out, with a warning; `skipped` lists them.

    Raises:
      LayerError: the model has no such layer or channel, or `feature` has another form.
      PictureError: `reduce` or `show` is another word.
      ImageError: there are no photos that can be read.
      ArgumentError: `count` or `batch_size` is no integer of at least 1.
      ValueError: a class is asked for, and the weights have no classifier.
    """
    check_word("reduce", reduce, REDUCTIONS)
    check_word("show", show, SHOWN)
    check_count("count", count)
    trained, sources = as_trained(model), list_sources(images)
    layer, channel = parse_channel(feature)
    require_layer(trained, layer)
    check_channel(trained, layer, channel)
    run = _compiled_channel(trained.model.clone(remat=False), layer, reduce)
    best: list[_Candidate] = []
    skipped: list[str] = []
    for batch in load_batches(trained, sources, batch_size, progress):
        skipped += map(str, batch.errors)
        if batch.x is None:
            continue
        values, maps = map(np.asarray, run(trained.variables, batch.x, channel))
        values = values[: len(batch.numbers)]
        if not np.isfinite(values).all():
            raise FloatingPointError(f"the output of {layer!r} is not finite: damaged weights?")
        rows = np.argsort(-values, kind="stable")[:count]
        photos = to_photos(trained.info.preprocessing, np.asarray(batch.x)[rows])
        best += [
            _Candidate(float(values[row]), batch.numbers[row], photo, maps[row])
            for row, photo in zip(rows, photos, strict=True)
        ]
        # Of equal values the first photo is the better one, however the batches fall.
        best = sorted(best, key=lambda photo: (-photo.value, photo.number))[:count]
    warn_skipped(skipped, len(sources))
    names = [name_source(sources[photo.number], photo.number) for photo in best]
    return RankedPhotos(
        np.stack([_render(photo, show) for photo in best]),
        [f"{photo.value:.2f}  {short_name(name)}" for photo, name in zip(best, names, strict=True)],
        names=tuple(names),
        values=np.array([photo.value for photo in best], np.float32),
        skipped=tuple(skipped),
    )


def nearest(
    model: ModelWithWeights,
    image: ImageSource,
    images: ImageSource | Iterable[ImageSource] | Embeddings,
    *,
    count: int = 8,
    layer: str | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> RankedPhotos:
    """The photos of a folder that are most similar to an image, the most similar first.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name. Weights
        without a classifier do.
      image: an image of any kind.
      images: a folder, or several images; or what `zoo.embed_folder` returns, which embeds a large
        folder once.
      count: how many photos; all, if there are fewer.
      layer: the path of the module whose averaged output is compared; None for the last feature map
        before the classifier. Embeddings have their own.
      batch_size: the number of photos that are computed together.
      progress: called after each batch with the number of photos that were read, and of all.

    Returns:
      `RankedPhotos`, whose values are the cosines of the angles between the vectors, and are in the
      titles. Photos that cannot be read are left out, with a warning.

    Raises:
      ImageError: `image` is not an image, or there are no photos that can be read.
      EmbeddingError: the model has no such layer; or the embeddings are of another model, or of
        images without files, which cannot be shown.
      PictureError: `image` is more than one image, or a layer is given with embeddings.
      ArgumentError: `count` or `batch_size` is no integer of at least 1.
    """
    check_count("count", count)
    trained = as_trained(model)
    if isinstance(images, Embeddings) and layer not in (None, images.layer):
        raise PictureError(
            f"these embeddings are of the layer {images.layer!r}, which layer={layer!r} cannot "
            f"change"
        )
    layer = images.layer if isinstance(images, Embeddings) else layer
    query = embed(trained, image, layer=layer)
    if len(query) != 1:
        raise PictureError(f"photos are compared with one image, got {len(query)}")
    embeddings, sources = embed_images(trained, images, layer, batch_size, progress)
    rows, similarities = embeddings.rank(query, count)
    shown = trained.preprocess([sources[row] for row in rows])
    names = tuple(embeddings.names[row] for row in rows)
    return RankedPhotos(
        to_photos(trained.info.preprocessing, shown),
        [
            f"{value:.2f}  {short_name(name)}"
            for value, name in zip(similarities, names, strict=True)
        ],
        names=names,
        values=similarities,
        skipped=embeddings.skipped,
    )


def embed_images(
    trained: Trained,
    images: ImageSource | Iterable[ImageSource] | Embeddings,
    layer: str | None,
    batch_size: int,
    progress: Progress | None,
) -> tuple[Embeddings, list[ImageSource]]:
    """The embeddings of images, and the images that they are of.

    Args:
      trained: the model.
      images: a folder, an image or several; or embeddings, which are checked and given back.
      layer, batch_size, progress: as for `nearest`.
    """
    if isinstance(images, Embeddings):
        images.check_model(trained)
        unnamed = [name for name in images.names if not has_file(name)]
        if unnamed:
            raise EmbeddingError(
                f"these embeddings are of images without files, such as {unnamed[0]!r}, so that "
                f"the images cannot be shown; give the images, or embed files"
            )
        return images, list(images.names)
    sources = list_sources(images)
    found = embed_sources(trained, sources, layer, batch_size, progress=progress)
    warn_skipped(found.skipped, len(sources), stacklevel=4)
    embeddings = make_embeddings(trained, sources, found, layer)
    return embeddings, [sources[number] for number in found.numbers]


class _Candidate(NamedTuple):
    """A photo that may be shown: its value, place in the folder, [H, W, 3] and map [h, w]."""

    value: float
    number: int
    photo: np.ndarray
    map: np.ndarray


@functools.lru_cache(maxsize=32)
def _compiled_channel(module: Model, layer: str, reduce: str) -> Callable[..., Any]:
    """(variables, x, channel) → values [N], and the channel's maps [N, h, w] or [N]."""

    @kernels.jit
    def run(variables: Mapping[str, Any], x: jax.Array, channel: jax.Array) -> Any:
        (y,) = features((module, variables), x, layer).values()
        maps = jnp.take(y, channel, axis=-1).astype(jnp.float32)
        axes = tuple(range(1, maps.ndim))
        return maps.max(axes) if reduce == "max" else maps.mean(axes), maps

    return run


def _render(photo: _Candidate, show: str) -> np.ndarray:
    if show == "photo" or photo.map.size == 1:
        return photo.photo
    heat = np.asarray(resize_maps(stretch(photo.map[None]), photo.photo.shape[:2]))[0]
    if show == "overlay":
        return overlay(photo.photo, heat)
    brightness = DARKNESS + (1 - DARKNESS) * heat[..., None]
    return np.round(photo.photo * brightness).astype(np.uint8)


def check_word(name: str, value: Any, words: tuple[str, ...]) -> None:
    """Raises PictureError, which names the argument, unless the value is one of the words."""
    if value not in words:
        hint = suggest(str(value), words)
        raise PictureError(
            f"{name} must be one of {', '.join(words)}, got {value!r}{f'; {hint}' if hint else ''}"
        )
