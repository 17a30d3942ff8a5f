"""The command line: each module holds a group of commands, assembled here."""

import io
import sys
from typing import Annotated

import typer

import zoo
from zoo.cli import bench, classify, models, weights
from zoo.cli.errors import report_errors

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
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
app.command("list")(models.list_models)
app.command()(models.describe)
app.command()(bench.bench)
app.command()(weights.convert)
app.command()(weights.export)
app.command()(weights.publish)
app.command()(weights.fetch)
app.command()(weights.cache)


def main() -> None:
    """Runs the command line; an error that the user can fix is one line and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may not fit the encoding
    with report_errors():
        app()
