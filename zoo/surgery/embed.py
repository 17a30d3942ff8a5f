"""Images as vectors: a model's pooled features, for search and maps of photos."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

import zoo_kernels as kernels
from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.batches import list_sources, load_batches, name_source, warn_skipped
from zoo.inference.images import ImageError, ImageSource
from zoo.inference.native_layers import run_natively
from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.runtime.checks import check_count
from zoo.runtime.progress import Progress
from zoo.surgery.features import features
from zoo.surgery.intercept import Call, intercept
from zoo_pretrained.printable import OneLineError


class EmbeddingError(OneLineError, ValueError):
    """Embeddings cannot be made or read, or are another model's; the message says which."""


def embed(
    model: ModelWithWeights,
    images: ImageSource | Iterable[ImageSource],
    *,
    layer: str | None = None,
    batch_size: int = 32,
    normalize: bool = True,
    progress: Progress | None = None,
) -> np.ndarray:
    """Images as vectors: the features before the classifier, averaged over positions.

    Similar images have similar vectors. The dot product of two normalised ones is the cosine of
    their angle, 1 for the same image.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name. Weights
        without a classifier do.
      images: a folder, an image of any kind, or several; of a folder all photos below it, sorted by
        name. They are read in batches.
      layer: the path of a module whose output is averaged; None for the last feature map before the
        classifier. For VGG "fc7" and for MobileNetV3 "fc" are the hidden layers of the classifier.
      batch_size: the number of images that are computed together.
      normalize: divides each vector by its length.
      progress: called after each batch with the number of images that were read, and of all.

    Returns:
      [N, C], float32, a row for each image.

    Raises:
      ImageError: there are no images, or something is not an image. `embed_folder` leaves out what
        cannot be read, and says which image a row is of.
      EmbeddingError: the model has no such layer.
      ArgumentError: `batch_size` is no integer of at least 1.
      FloatingPointError: the features are not finite.
    """
    sources = list_sources(images)
    found = embed_sources(
        as_trained(model), sources, layer, batch_size, normalize, progress, strict=True
    )
    return found.vectors


def embed_folder(
    model: ModelWithWeights,
    images: ImageSource | Iterable[ImageSource],
    *,
    layer: str | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> "Embeddings":
    """The normalised vectors of a folder's photos with their paths, to be kept and searched.

    embeddings = zoo.embed_folder(lite, "photos/")
    embeddings.save("photos.npz")
    embeddings.nearest(zoo.embed(lite, "cat.jpg"), 5)      # [(path, similarity), …]

    Args:
      model, images, layer, batch_size, progress: as for `embed`.

    Returns:
      `Embeddings`. Photos that cannot be read are left out, with a warning; `skipped` lists them.

    Raises:
      ImageError: there are no photos that can be read.
      EmbeddingError, ArgumentError, FloatingPointError: as for `embed`.
    """
    trained, sources = as_trained(model), list_sources(images)
    found = embed_sources(trained, sources, layer, batch_size, True, progress)
    warn_skipped(found.skipped, len(sources))
    return make_embeddings(trained, sources, found, layer)


@dataclasses.dataclass(frozen=True, eq=False)
class Embeddings:
    """Photos and their vectors.

    Args:
      names: the photos' paths, as they were given.
      vectors: [N, C], float32, of length 1.
      model, weights: the names of the model and of its weights.
      layer: the path of the module whose output was averaged; None for the last feature map.
      skipped: a message for each photo that could not be read.
    """

    names: tuple[str, ...] = dataclasses.field(repr=False)
    vectors: np.ndarray = dataclasses.field(repr=False)
    model: str
    weights: str
    layer: str | None = None
    skipped: tuple[str, ...] = dataclasses.field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def nearest(self, vector: Any, count: int = 8) -> list[tuple[str, float]]:
        """The photos that are most similar to a vector, the most similar first.

        Args:
          vector: [C] or [1, C], as `embed` gives it.
          count: how many; all, if there are fewer.

        Returns:
          [(path, similarity), …]; the similarity is the cosine of the angle, from -1 to 1.

        Raises:
          EmbeddingError: the vector has another length than these.
          ArgumentError: `count` is no integer of at least 1.
        """
        rows, similarities = self.rank(vector, count)
        return [
            (self.names[row], float(value)) for row, value in zip(rows, similarities, strict=True)
        ]

    def rank(self, vector: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows that are most similar to a vector, and their similarities; see `nearest`."""
        count = check_count("count", count)
        query = np.asarray(vector, np.float32).reshape(-1)
        if query.shape != self.vectors.shape[1:]:
            raise EmbeddingError(
                f"vector must have {self.vectors.shape[1]} numbers as these embeddings do, got "
                f"shape {list(np.shape(vector))}; zoo.embed makes it of one image"
            )
        similarities = self.vectors @ _normalize(query[None])[0]
        similarities = np.clip(similarities, -1, 1)  # of rounding
        rows = np.argsort(-similarities, kind="stable")[:count]
        return rows, similarities[rows]

    def check_model(self, trained: Trained) -> None:
        """Raises EmbeddingError unless these were made with that model and those weights."""
        info = trained.info
        if (self.model, self.weights) != (info.model, info.weights):
            raise EmbeddingError(
                f"these embeddings are of {self.model} with the weights {self.weights!r}, the "
                f"model is {info.model} with {info.weights!r}: vectors of different models "
                f"cannot be compared"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves them as an .npz file, which appears complete or not at all.

        Raises:
          EmbeddingError: the path has another ending.
          OSError: the file cannot be written.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise EmbeddingError(f"{path} must end in .npz, got {path.suffix!r}")
        beside = path.with_name(f".{path.stem}.{os.getpid()}.npz")
        try:
            np.savez(
                beside,
                names=np.array(self.names),
                vectors=self.vectors,
                facts=np.array([self.model, self.weights, self.layer or ""]),
                skipped=np.array(self.skipped, str),
            )
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Loads what `save` wrote.

        Raises:
          EmbeddingError: the file cannot be read, or holds something else.
        """
        try:
            # Opened here, for numpy leaves a damaged file open.
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                names, vectors, skipped = (arrays[key] for key in ("names", "vectors", "skipped"))
                model, weights, layer = map(str, arrays["facts"])
        except Exception as error:  # zipfile, zlib and numpy raise errors of their own
            raise EmbeddingError(f"{path} cannot be read as embeddings: {error}") from error
        if vectors.ndim != 2 or names.shape != vectors.shape[:1] or vectors.dtype != np.float32:
            raise EmbeddingError(
                f"{path} holds {names.size} names and {vectors.dtype} vectors of shape "
                f"{list(vectors.shape)}; embeddings have a row of float32 for each name"
            )
        names, skipped = names.tolist(), skipped.tolist()
        return cls(tuple(names), vectors, model, weights, layer or None, tuple(skipped))


class Embedded(NamedTuple):
    """What `embed_sources` gives.

    Args:
      numbers: the places in the list of sources of the images that could be read.
      vectors: of those, [N, C].
      skipped: a message for each of the others.
    """

    numbers: list[int]
    vectors: np.ndarray
    skipped: tuple[str, ...]


def embed_sources(
    trained: Trained,
    sources: list[ImageSource],
    layer: str | None,
    batch_size: int,
    normalize: bool = True,
    progress: Progress | None = None,
    *,
    strict: bool = False,
) -> Embedded:
    """The vectors of all images that can be read; see `embed`.

    Args:
      trained: the model.
      sources: images of any kind.
      layer, batch_size, normalize, progress: as for `embed`.
      strict: raises the error of an image that cannot be read.
    """
    run = _choose_pool(trained, layer)
    numbers: list[int] = []
    vectors: list[np.ndarray] = []
    errors: list[ImageError] = []
    for batch in load_batches(trained, sources, batch_size, progress):
        if strict and batch.errors:
            raise batch.errors[0]
        numbers += batch.numbers
        errors += batch.errors
        if batch.x is not None:
            vectors.append(np.asarray(run(batch.x))[: len(batch.numbers)])
    matrix = np.concatenate(vectors)
    if not np.isfinite(matrix).all():
        raise FloatingPointError(
            "the model's features are not finite: its weights or an image may be damaged"
        )
    return Embedded(numbers, _normalize(matrix) if normalize else matrix, tuple(map(str, errors)))


def make_embeddings(
    trained: Trained, sources: list[ImageSource], found: Embedded, layer: str | None
) -> Embeddings:
    """What was computed of images, with their names."""
    names = tuple(name_source(sources[number], number) for number in found.numbers)
    info = trained.info
    return Embeddings(names, found.vectors, info.model, info.weights, layer, found.skipped)


def _normalize(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _choose_pool(trained: Trained, layer: str | None) -> Callable[[jax.Array], jax.Array]:
    """A function of x: a layer's output, averaged over positions, [N, C], float32."""
    if layer is None:
        pool = run_natively(trained, lambda model: functools.partial(_pool_last_map, model))
        if pool is not None:
            return pool
    model, variables = trained
    return functools.partial(_compiled_pool(model.clone(remat=False), layer), variables)


def _pool_last_map(model: Model, variables: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """The last feature map before the classifier, averaged over positions."""
    maps: list[jax.Array] = []

    def keep(call: Call) -> Any:
        if call.path in {*model.classifier, "dropout"}:
            call.stop()
        y = call.run()
        if call.path and "/" not in call.path and getattr(y, "ndim", 0) == 4:
            maps.append(y)
        return y

    with intercept(keep):
        model.apply(variables, x)
    if not maps:
        raise _no_map(model)
    return maps[-1].mean(axis=(1, 2))


def _no_map(model: Model) -> "EmbeddingError":
    return EmbeddingError(f"{model.title} has no feature map before its classifier; name a layer")


@functools.lru_cache(maxsize=32)
def _compiled_pool(module: Model, layer: str | None) -> Callable[..., jax.Array]:
    """(variables, x) → a layer's output, averaged over positions, [N, C], float32."""

    @kernels.jit
    def run(variables: Mapping[str, Any], x: jax.Array) -> jax.Array:
        y = _find_output(module, variables, x, layer).astype(jnp.float32)
        return y.mean(axis=tuple(range(1, y.ndim - 1)))

    return run


def _find_output(
    module: Model, variables: Mapping[str, Any], x: jax.Array, layer: str | None
) -> jax.Array:
    """The output of a layer, or the last feature map before the classifier."""
    if layer is not None:
        try:
            outputs = features((module, variables), x, layer)
        except ValueError as error:
            raise EmbeddingError(str(error)) from error
        if len(outputs) != 1:
            raise EmbeddingError(
                f"layer must be one module, but {layer!r} are {', '.join(outputs)}"
            )
        return next(iter(outputs.values()))
    excluded = {*module.classifier, "dropout"}
    maps = [
        y
        for path, y in features((module, variables), x, "*").items()
        if y.ndim == 4 and path not in excluded
    ]
    if not maps:
        raise _no_map(module)
    return maps[-1]
