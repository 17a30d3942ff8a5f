"""The command line: each module holds a group of commands, assembled here."""

import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import zoo
from zoo.cli import (
    bench,
    classify,
    detect,
    detection,
    dream,
    evaluate,
    models,
    onnx,
    serve,
    style,
    style_training,
    train,
    visualize,
    weights,
)
from zoo.cli.errors import report_errors
from zoo_pretrained import spelling

app = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """A model zoo for computer vision in JAX."""
    if version:
        print(f"jax-zoo {zoo.__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def _make_group(description: str) -> typer.Typer:
    """A group of commands, which shows its help where none is named."""
    group = typer.Typer(invoke_without_command=True)

    @group.callback(help=description)
    def show_help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            print(context.get_help())

    return group


class _ClassifiersByDefault(TyperGroup):
    """A group whose first command may be left out, as it is what most people want."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the first command's name where no command is named."""
        if not args or args[0] not in self.commands:
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


styles = _make_group("Paint photos in a style, and train styles: see the commands below.")
styles.command()(style.apply)
styles.command("list")(style.list_styles)
styles.command()(style_training.train)
styles.command()(style_training.optimize)
styles.command()(style_training.convert)

onnx_models = _make_group("Look at models in ONNX, run them, and export the zoo's.")
onnx_models.command()(onnx.describe)
onnx_models.command()(onnx.run)
onnx_models.command()(onnx.export)

training = typer.Typer(
    cls=_ClassifiersByDefault, help="Train a classifier on photos, or a detector (train detection)."
)
training.command("classification")(train.train)
training.command("detection")(detection.train)

evaluation = typer.Typer(
    cls=_ClassifiersByDefault,
    help="Measure a classifier on labelled photos, or a detector (evaluate detection).",
)
evaluation.command("classification")(evaluate.evaluate)
evaluation.command("detection")(detection.evaluate)

app.command()(classify.classify)
app.command()(detect.detect)
app.command()(serve.serve)
app.command()(visualize.visualize)
app.command()(dream.dream)
app.add_typer(styles, name="style")
app.add_typer(onnx_models, name="onnx")
app.add_typer(training, name="train")
app.add_typer(evaluation, name="evaluate")
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
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may not fit the encoding
    with spelling.for_shell(), report_errors():
        # Not standalone: typer would frame its errors, fold them, and hide what is greppable.
        code = app(prog_name="zoo", standalone_mode=False)
    sys.exit(code if isinstance(code, int) else 0)


def _open_missing_streams() -> None:
    """Gives the process the standard streams that it was started without."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
