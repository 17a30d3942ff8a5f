"""`zoo classify`: what is in photos."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
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
from zoo.cli.words import printable
from zoo.inference import images
from zoo.runtime import compiler
from zoo.runtime.prefetch import prefetch
from zoo_pretrained.catalogue import Label

# A progress bar for fewer photos would be gone before it is seen.
FEW = 4


class Result(NamedTuple):
    """What came of one photo: its likeliest classes, or what is wrong with it."""

    file: Path
    classes: Sequence[tuple[Label, float]] = ()
    error: str | None = None


def classify(
    photos: Annotated[list[Path], typer.Argument(help="Photos, and folders to search for photos.")],
    model: Annotated[str, typer.Option(help="A model with trained weights.")] = "EfficientNetLite0",
    weights: Annotated[
        str | None, typer.Option(help="Which weights: a name, a folder, an archive, an address.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos computed at once.")] = 32,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a photo, a line each.")
    ] = False,
) -> None:
    """Name what is in photos: the likeliest of a model's classes, with probabilities."""
    compiler.cache_compilations()
    trained = zoo.trained(model, weights=weights)
    if not trained.info.head:
        raise typer.BadParameter(f"{weights} have no classifier", param_hint="--weights")
    if top > len(trained.info.labels):
        raise typer.BadParameter(
            f"{model} has {len(trained.info.labels)} classes", param_hint="--top"
        )
    files = list(images.find(photos))
    failed = False
    with _progress(len(files)) as (output, complaints, advance):
        for result in _classified(trained, files, top, batch_size, advance):
            if result.error is not None:
                failed = True
                complaints.print(Text(printable(f"zoo: {result.error}")), soft_wrap=True)
            if as_json:
                output.print(Text(_as_json(trained, result)), soft_wrap=True)
            elif result.error is None:
                output.print(Text(printable(str(result.file)), "bold"), soft_wrap=True)
                output.print(_table(result))
    if failed:
        raise typer.Exit(1)


def _classified(
    trained: zoo.Trained,
    files: list[Path],
    top: int,
    batch_size: int,
    advance: Callable[[], None],
) -> Iterator[Result]:
    """Results in the order of the files; `advance` is called for each that has been read.

    While one batch is computed, the next one is read.
    """
    # One shape for all batches, so that the model is compiled once; few shapes over all calls,
    # so that the compilation cache knows them.
    size = min(batch_size, 1 << max(len(files) - 1, 0).bit_length())
    for results, photos in prefetch(_batches(trained, files, size, advance), most=1):
        yield from _ranked(trained, results, photos, top)


def _batches(
    trained: zoo.Trained, files: list[Path], size: int, advance: Callable[[], None]
) -> Iterator[tuple[list[Result], Any]]:
    """Files as batches on the device, [size, H, W, C], padded; None where no photo is good."""
    for start in range(0, len(files), size):
        loaded = []
        for file in files[start : start + size]:
            loaded.append(_load(trained, file))
            advance()
        photos = [photo for _, photo in loaded if photo is not None]
        padding = [np.zeros_like(photos[0])] * (size - len(photos)) if photos else []
        batch = jax.device_put(np.stack(photos + padding)) if photos else None
        yield [result for result, _ in loaded], batch


def _load(trained: zoo.Trained, file: Path) -> tuple[Result, np.ndarray | None]:
    try:
        return Result(file), trained.preprocess(file)[0]
    except zoo.ImageError as error:
        return Result(file, error=str(error)), None


def _ranked(trained: zoo.Trained, results: list[Result], photos: Any, top: int) -> Iterator[Result]:
    """Fills in the classes of the photos that could be read."""
    rows = iter(trained.rank(trained.probabilities(photos), top) if photos is not None else [])
    for result in results:
        yield result if result.error else result._replace(classes=next(rows))


def _table(result: Result) -> Table:
    table = Table.grid(padding=(0, 0, 0, 2), pad_edge=True)
    for label, probability in result.classes:
        bar = ProgressBar(total=1, completed=probability, width=30)
        table.add_row(label.name, bar, f"{probability:6.1%}")
    return table


def _as_json(trained: zoo.Trained, result: Result) -> str:
    fields: dict[str, Any] = {"file": str(result.file), "model": trained.info.model}
    if result.error is not None:
        return json.dumps({**fields, "error": result.error})
    classes = [
        {"label": label.name, "synset": label.synset, "probability": probability}
        for label, probability in result.classes
    ]
    return json.dumps({**fields, "classes": classes})


@contextlib.contextmanager
def _progress(total: int) -> Iterator[tuple[Console, Console, Callable[[], None]]]:
    """Consoles for output and for complaints, and what to call after each photo.

    Where a bar is shown, all that goes to its terminal must go through it; what is redirected to a
    file must not.
    """
    output, complaints = Console(), Console(stderr=True)
    if total <= FEW or not complaints.is_terminal:
        yield output, complaints, lambda: None
        return
    with Progress(
        console=complaints, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        task = progress.add_task("reading", total=total)
        shared = complaints if output.is_terminal else output
        yield shared, complaints, lambda: progress.advance(task)
