"""`zoo classify`: names what photos show."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import zoo
from zoo.cli.output import MAX_COUNT, escape_unprintable, terminal_width
from zoo.inference import images
from zoo.runtime import compiler
from zoo.runtime.prefetch import prefetch
from zoo_pretrained import addresses
from zoo_pretrained.catalogue import Label
from zoo_pretrained.fetch import FetchError

# The progress bar of fewer photos would vanish before it is seen.
MIN_PHOTOS_FOR_BAR = 5


PIPE_WIDTH = 1 << 16

# A photo from the web is held in memory.
MAX_DOWNLOAD = 64 << 20


class Result(NamedTuple):
    """The likeliest classes of one photo, or the error if it cannot be read.

    Args:
      photo: a path, an address, or "-" for standard input.
      classes: labels and probabilities, the likeliest first.
      error: why it cannot be read.
    """

    photo: str
    classes: Sequence[tuple[Label, float]] = ()
    error: str | None = None


def classify(
    photos: Annotated[
        list[str],
        typer.Argument(
            help="Photos, folders to search for photos, addresses of photos (https://…), "
            "or - for standard input."
        ),
    ],
    model: Annotated[str, typer.Option(help="A model with trained weights.")] = "EfficientNetLite0",
    weights: Annotated[
        str | None, typer.Option(help="Weights: a name, a folder, an archive or its address.")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Number of classes to name.", show_default="5, or all if fewer"),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Number of photos in a batch.")
    ] = 32,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per photo, each on a line.")
    ] = False,
) -> None:
    """Name what photos show: the likeliest of a model's classes, with probabilities."""
    compiler.cache_compilations()
    trained = zoo.trained(model, weights=weights)
    if not trained.info.head:
        raise typer.BadParameter(f"{weights} have no classifier", param_hint="--weights")
    count = trained.count_top(top)
    if count > len(trained.info.labels):
        raise typer.BadParameter(
            f"{model} has {len(trained.info.labels)} classes", param_hint="--top"
        )
    files = list(_find_photos(photos))
    failed = False
    with _progress(len(files)) as (output, errors, advance):
        for result in _classify_files(trained, files, count, batch_size, advance):
            if result.error is not None:
                failed = True
                errors.print(Text(escape_unprintable(f"zoo: {result.error}")), soft_wrap=True)
            if as_json:
                output.print(Text(_as_json(trained, result)), soft_wrap=True)
            elif result.error is None:
                output.print(Text(escape_unprintable(result.photo), "bold"), soft_wrap=True)
                output.print(_table(result))
    if failed:
        raise typer.Exit(1)


def _find_photos(photos: list[str]) -> Iterator[str]:
    """Yields addresses and "-" as they are, files, and the photos of folders."""
    for photo in photos:
        if not photo:
            raise typer.BadParameter("a photo has no name", param_hint="PHOTOS")
        if photo == "-" or addresses.is_http(photo):
            yield photo
        else:
            yield from map(str, images.find_photos([photo]))


def _classify_files(
    trained: zoo.Trained,
    files: list[str],
    top: int,
    batch_size: int,
    advance: Callable[[], None],
) -> Iterator[Result]:
    """Yields results in the order of the files; calls `advance` for each file that was read.

    While one batch is computed, the next one is read.
    """
    # All batches have one shape, so that the model is compiled once. Fewer photos than batch_size
    # are padded to a power of two, so that the compilation cache sees few shapes.
    size = min(batch_size, 1 << max(len(files) - 1, 0).bit_length())
    batches = _load_batches(trained, files, size, advance)
    for results, photos in prefetch(batches, buffer_size=1):
        yield from _classify_batch(trained, results, photos, top)


def _load_batches(
    trained: zoo.Trained, files: list[str], size: int, advance: Callable[[], None]
) -> Iterator[tuple[list[Result], Any]]:
    """Yields results to fill in, and their photos on the device, padded to [size, H, W, C].

    Instead of photos it is None where none of the files could be read.
    """
    for start in range(0, len(files), size):
        loaded = []
        for file in files[start : start + size]:
            loaded.append(_load(trained, file))
            advance()
        photos = [photo for _, photo in loaded if photo is not None]
        padding = [np.zeros_like(photos[0])] * (size - len(photos)) if photos else []
        batch = jax.device_put(np.stack(photos + padding)) if photos else None
        yield [result for result, _ in loaded], batch


def _load(trained: zoo.Trained, photo: str) -> tuple[Result, np.ndarray | None]:
    source: Any = photo
    try:
        if photo == "-":
            source = sys.stdin.buffer
        elif addresses.is_http(photo):
            source = addresses.read_http(photo, MAX_DOWNLOAD)
        return Result(photo), trained.preprocess(source)[0]
    except zoo.ImageError as error:
        message = str(error).replace("the image", addresses.redact_address(photo), 1)
        return Result(photo, error=message), None
    except FetchError as error:
        return Result(photo, error=str(error)), None


def _classify_batch(
    trained: zoo.Trained, results: list[Result], photos: Any, top: int
) -> Iterator[Result]:
    """Fills in the classes of the photos that could be read."""
    likeliest = iter(
        trained.rank_labels(trained.probabilities(photos), top) if photos is not None else []
    )
    for result in results:
        yield result if result.error else result._replace(classes=next(likeliest))


def _table(result: Result) -> Table:
    table = Table.grid(padding=(0, 0, 0, 2), pad_edge=True)
    table.add_column(overflow="fold")  # of a long label nothing is left out
    for label, probability in result.classes:
        bar = ProgressBar(total=1, completed=probability, width=30)
        # As Text, since a string may hold rich's markup.
        table.add_row(Text(escape_unprintable(label.name)), bar, f"{probability:6.1%}")
    return table


def _as_json(trained: zoo.Trained, result: Result) -> str:
    fields: dict[str, Any] = {"file": result.photo, "model": trained.info.model}
    if result.error is not None:
        return json.dumps({**fields, "error": result.error})
    classes = [
        {"label": label.name, "synset": label.synset, "probability": probability}
        for label, probability in result.classes
    ]
    return json.dumps({**fields, "classes": classes})


@contextlib.contextmanager
def _progress(total: int) -> Iterator[tuple[Console, Console, Callable[[], None]]]:
    """Yields consoles for output and for errors, and a function to call after each photo.

    While a progress bar is shown, everything that goes to its terminal must be printed by the bar's
    console; what is redirected to a file must not.
    """
    # A pipe has no width, and a row is one line in it.
    width = terminal_width() or PIPE_WIDTH
    output, errors = Console(width=width), Console(stderr=True)
    if total < MIN_PHOTOS_FOR_BAR or not errors.is_terminal:
        yield output, errors, lambda: None
        return
    with Progress(
        console=errors, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        task = progress.add_task("reading", total=total)
        yield errors if output.is_terminal else output, errors, lambda: progress.advance(task)
