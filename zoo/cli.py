"""The command line: `zoo classify`, `zoo list`, `zoo describe`."""

import contextlib
import io
import json
import os
import sys
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
from kernels import compiler
from pretrained import cache
from pretrained.catalogue import Label
from pretrained.store import CheckpointError
from zoo import images

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

# A progress bar for fewer photos would be gone before it is seen.
FEW = 4


class Result(NamedTuple):
    """What came of one photo: its likeliest classes, or what is wrong with it."""

    file: Path
    classes: Sequence[tuple[Label, float]] = ()
    error: str | None = None


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """A model zoo for computer vision in JAX."""
    if version:
        print(f"jax-zoo {zoo.__version__}")
        raise typer.Exit


@app.command()
def classify(
    photos: Annotated[list[Path], typer.Argument(help="Photos, and folders to search for photos.")],
    model: Annotated[str, typer.Option(help="A model with trained weights.")] = "EfficientNetLite0",
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos computed at once.")] = 32,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a photo, a line each.")
    ] = False,
) -> None:
    """Name what is in photos: the likeliest of a model's classes, with probabilities."""
    _cache_compilations()
    trained = zoo.trained(model)
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
                complaints.print(Text(_printable(f"zoo: {result.error}")), soft_wrap=True)
            if as_json:
                output.print(Text(_as_json(trained, result)), soft_wrap=True)
            elif result.error is None:
                output.print(Text(_printable(str(result.file)), "bold"), soft_wrap=True)
                output.print(_table(result))
    if failed:
        raise typer.Exit(1)


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="A shell pattern such as 'efficient*'.")] = "*",
    trained: Annotated[bool, typer.Option("--trained", help="Only models with weights.")] = False,
    family: Annotated[str | None, typer.Option(help="Only a family, such as 'resnet'.")] = None,
) -> None:
    """List the models."""
    try:
        names = zoo.list_models(pattern, trained=True if trained else None, family=family)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--family") from error
    if not names:
        raise zoo.UnknownModelError(f"no model matches {pattern!r}")
    print("\n".join(names))


@app.command()
def describe(
    model: Annotated[str, typer.Argument(help="A model, such as ResNet50.")],
    size: Annotated[
        int | None, typer.Option(min=1, help="Height and width of the image, in pixels.")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="How deep to look: 1 for stages.")] = 1,
) -> None:
    """Show what a model costs: parameters, multiply-adds, memory of activations."""
    try:
        described = zoo.describe(model, size=size)
    except zoo.UnknownModelError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--size") from error
    print(described.table(depth))


def main() -> None:
    """Runs the command line; what the user can mend is one line and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever a file is called
    try:
        app()
    except (zoo.UnknownModelError, zoo.NoWeightsError, CheckpointError) as error:
        print(_printable(f"zoo: {error}"), file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader has seen enough. Nothing more may be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


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
    before: list[Result] | None = None
    computing: Any = None
    for start in range(0, len(files), size):
        loaded = []
        for file in files[start : start + size]:
            loaded.append(_load(trained, file))
            advance()
        photos = [photo for _, photo in loaded if photo is not None]
        padding = [np.zeros_like(photos[0])] * (size - len(photos)) if photos else []
        probabilities = trained.probabilities(np.stack(photos + padding)) if photos else None
        if before is not None:
            yield from _ranked(trained, before, computing, top)
        before, computing = [result for result, _ in loaded], probabilities
    if before is not None:
        yield from _ranked(trained, before, computing, top)


def _load(trained: zoo.Trained, file: Path) -> tuple[Result, np.ndarray | None]:
    try:
        return Result(file), trained.preprocess(file)[0]
    except zoo.ImageError as error:
        return Result(file, error=str(error)), None


def _ranked(
    trained: zoo.Trained, results: list[Result], probabilities: Any, top: int
) -> Iterator[Result]:
    """Fills in the classes of the photos that could be read; waits for the computation."""
    rows = iter(trained.rank(probabilities, top) if probabilities is not None else [])
    for result in results:
        yield result if result.error else result._replace(classes=next(rows))


def _printable(text: str) -> str:
    """One line, with escapes for what no terminal should be sent: names may hold any bytes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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


def _cache_compilations() -> None:
    """Keeps compiled models in the user's cache folder, so that the next start is fast."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return  # the user has chosen a place
    if compiler.ONEDNN in zoo.compiler_options():
        return  # jaxlib cannot write programs that call oneDNN; they compile in 0.1 s
    folder = cache.folder() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # no place to keep anything: every start compiles
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
