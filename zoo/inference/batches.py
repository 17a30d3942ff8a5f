"""Many photos, read in batches while the device computes; what cannot be read is left out."""

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from zoo.inference.images import ImageError, ImageSource, find_photos, is_single_image
from zoo.inference.trained import Trained
from zoo.runtime.checks import check_count
from zoo.runtime.prefetch import prefetch
from zoo.runtime.progress import Progress
from zoo_pretrained.printable import printable

# How many of the photos that cannot be read a warning names.
NAMED_ERRORS = 3


class Batch(NamedTuple):
    """Photos that were read together.

    Args:
      x: normalised images on the device, [size, H, W, C]; the rows behind the photos are zeros, so
        that all batches have one shape. None where none of the photos could be read.
      numbers: the places in the list of sources of the photos in `x`, in order.
      errors: of those that could not be read.
    """

    x: jax.Array | None
    numbers: list[int]
    errors: list[ImageError]


def list_sources(images: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """Images one by one: in place of a folder come the photos anywhere below it, sorted by name.

    Args:
      images: a folder, an image of any kind, or several of either.

    Raises:
      ImageError: there are none.
    """
    several: list[Any] = [images] if is_single_image(images) else list(images)  # type: ignore[arg-type]
    sources: list[ImageSource] = []
    for source in several:
        is_path = isinstance(source, str | os.PathLike)
        sources += find_photos([source]) if is_path else [source]
    if not sources:
        raise ImageError("at least one image is needed, got no images")
    return sources


def name_source(source: ImageSource, number: int) -> str:
    """The path of an image, or "image 7" for one that has none."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    name = getattr(source, "filename", "") or getattr(source, "name", "")
    return name if isinstance(name, str) and name else f"image {number}"


def has_file(name: str) -> bool:
    """Whether a name that `name_source` gave is a path."""
    return not re.fullmatch(r"image \d+", name)


def short_name(name: str) -> str:
    """The last part of a path, for a title."""
    return printable(Path(name).name or name)


def load_batches(
    trained: Trained,
    sources: Sequence[ImageSource],
    batch_size: int,
    progress: Progress | None = None,
) -> Iterator[Batch]:
    """Reads and preprocesses images in another thread, at most two batches ahead.

    Args:
      trained: the model whose preprocessing is applied.
      sources: images of any kind.
      batch_size: the number of images in a batch. For fewer images it is the next power of two, so
        that few shapes are compiled.
      progress: called after each batch with the number of images that were read, and of all.

    Raises:
      ArgumentError: `batch_size` is no integer of at least 1.
      ImageError: none of the images can be read; raised behind the last batch.
    """
    size = min(check_count("batch_size", batch_size), 1 << (len(sources) - 1).bit_length())
    return _run_batches(trained, sources, size, progress)


def _run_batches(
    trained: Trained, sources: Sequence[ImageSource], size: int, progress: Progress | None
) -> Iterator[Batch]:
    done, errors = 0, []
    for batch in prefetch(_read_batches(trained, sources, size), buffer_size=1):
        yield batch
        done += len(batch.numbers) + len(batch.errors)
        errors += batch.errors
        if progress is not None:
            progress(done, len(sources))
    if len(errors) == len(sources):
        raise errors[0]


def _read_batches(trained: Trained, sources: Sequence[ImageSource], size: int) -> Iterator[Batch]:
    for start in range(0, len(sources), size):
        images, numbers, errors = [], [], []
        for number in range(start, min(start + size, len(sources))):
            try:
                images.append(trained.preprocess(sources[number])[0])
                numbers.append(number)
            except ImageError as error:
                errors.append(error)
        padding = [np.zeros_like(images[0])] * (size - len(images)) if images else []
        x = jax.device_put(np.stack(images + padding)) if images else None
        yield Batch(x, numbers, errors)


def warn_skipped(skipped: Sequence[str], total: int, stacklevel: int = 3) -> None:
    """Warns of photos that were left out because they cannot be read.

    Args:
      skipped: a message for each.
      total: the number of photos with them.
      stacklevel: of `warnings.warn`: by default it names the caller of this function's caller.
    """
    if not skipped:
        return
    named = "; ".join(skipped[:NAMED_ERRORS])
    more = f"; and {len(skipped) - NAMED_ERRORS} more" if len(skipped) > NAMED_ERRORS else ""
    warnings.warn(
        printable(f"{len(skipped)} of {total} photos are left out: {named}{more}", limit=1000),
        stacklevel=stacklevel,
    )
