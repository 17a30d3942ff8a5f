"""The command line: one module for what belongs together, and here what is left."""

import io
import json
import os
import sys
import warnings
from typing import Annotated, Any, TextIO

import typer

import zoo
from zoo.cli import bench, classify, weights
from zoo.cli.words import columns, printable, size
from zoo_pretrained import resolve
from zoo_pretrained.archive import ArchiveError
from zoo_pretrained.catalogue import entries
from zoo_pretrained.checkpoint import CheckpointError
from zoo_pretrained.convert import ConversionError
from zoo_pretrained.fetch import FetchError
from zoo_pretrained.read import ReadError
from zoo_pretrained.remote_store import StoreError

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

# What the user can mend: one line, no traceback.
ERRORS = (
    zoo.UnknownModelError,
    zoo.NoWeightsError,
    ArchiveError,
    CheckpointError,
    ConversionError,
    FetchError,
    OSError,
    ReadError,
    StoreError,
)


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """A model zoo for computer vision in JAX."""
    if version:
        print(f"jax-zoo {zoo.__version__}")
        raise typer.Exit


app.command()(classify.classify)


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="A shell pattern such as 'efficient*'.")] = "*",
    trained: Annotated[
        bool, typer.Option("--trained", help="Their weights, where they are, and their size.")
    ] = False,
    family: Annotated[str | None, typer.Option(help="Only a family, such as 'resnet'.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each line.")
    ] = False,
) -> None:
    """List the models."""
    try:
        names = zoo.list_models(pattern, family=family)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--family") from error
    if not names:
        raise zoo.UnknownModelError(f"no model matches {pattern!r}")
    rows = _weights(names) if trained else [{"model": name} for name in names]
    if not rows:
        raise zoo.NoWeightsError(f"there are no weights for {', '.join(names)}")
    if as_json:
        print("\n".join(map(json.dumps, rows)))
    elif trained:
        print(columns([_HEADINGS, *map(_row, rows)]))
    else:
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


for command in (
    bench.bench,
    weights.convert,
    weights.export,
    weights.publish,
    weights.fetch,
    weights.cache,
):
    app.command()(command)


def main() -> None:
    """Runs the command line; what the user can mend is one line and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever a file is called
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            app()
    except BrokenPipeError:
        # The reader has seen enough. Nothing more may be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ERRORS as error:
        for line in f"zoo: {error}".splitlines():
            print(printable(line), file=sys.stderr)
        sys.exit(1)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning in a line, as errors are."""
    print(printable(f"zoo: {message}"), file=sys.stderr)


_HEADINGS = ("model", "weights", "top 1", "where", "size", "place", "licence")


def _weights(names: list[str]) -> list[dict[str, Any]]:
    """All weights of models, a model's default first."""
    known, catalogue = resolve.list_origins(), entries()
    return [
        {
            "model": name,
            "weights": weights,
            "top1": entry.get("accuracy", {}).get("top1"),
            "where": origin.kind,
            "size": origin.size,
            "place": origin.location,
            "licence": entry.get("licence"),
        }
        for name in names
        for weights, origin in known.get(name, {}).items()
        for entry in [catalogue.get(name, {}).get(weights, {})]
    ]


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    cells = {**found, "size": size(found["size"])}
    return tuple("" if cell is None else str(cell) for cell in cells.values())
