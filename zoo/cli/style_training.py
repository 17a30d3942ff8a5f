"""`zoo style train`, `optimize` and `convert`: where styles come from."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import zoo
from zoo.cli.arguments import parse_arguments
from zoo.cli.output import MAX_COUNT, print_error, print_line
from zoo.cli.progress import show_progress
from zoo.cli.style import check_out, protect, stem_of
from zoo.inference.images import find_photos
from zoo.runtime import compiler
from zoo.style.apply import MIN_SIDE
from zoo.style.losses import LossWeights
from zoo.style.optimize import SIZE, STEPS
from zoo.style.pixels import MAX_SIDE
from zoo.style.settings import DEFAULT_STEPS, StyleSettings
from zoo.style.styles import Styles
from zoo.style.train import LOSS_MODEL
from zoo.visualize.pictures import ENDINGS


def _given(text: str, default: object, name: str = "", **limits: Any) -> Any:
    """An option that is left out where it is not given."""
    return typer.Option(*filter(None, [name]), help=text, show_default=str(default), **limits)


Model = Annotated[str, typer.Option(help="The network that judges pictures, a model with weights.")]
Weights = Annotated[
    str | None, typer.Option(help="Its weights: a name, a folder, an archive or its address.")
]
ContentWeight = Annotated[float | None, _given("Weight of the photo.", LossWeights.content)]
StyleWeight = Annotated[float | None, _given("Weight of the style.", LossWeights.style)]
Variation = Annotated[
    float | None, _given("Weight of total variation.", LossWeights.total_variation, "--tv")
]


def train(
    styles: Annotated[list[str], typer.Argument(help="Images, one for each style.")],
    photos: Annotated[str, typer.Argument(help="A folder of photos on which it trains.")],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="runs/STYLE")
    ] = None,
    model: Model = LOSS_MODEL,
    weights: Weights = None,
    content_layer: Annotated[
        list[str] | None,
        _given("A layer of the model by which content is judged. Several times: all.", "the usual"),
    ] = None,
    style_layer: Annotated[
        list[str] | None,
        _given("A layer of the model by which style is judged. Several times: all.", "the usual"),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="A checkpoint of styles, with whose network it begins.")
    ] = None,
    norms_only: Annotated[
        bool, typer.Option("--norms-only", help="Train only what a style has of its own.")
    ] = False,
    steps: Annotated[
        int | None, _given("End after so many steps.", f"{DEFAULT_STEPS} without another limit")
    ] = None,
    epochs: Annotated[
        float | None, _given("End after so many passes over the photos.", "no limit")
    ] = None,
    minutes: Annotated[float | None, _given("End after so many minutes.", "no limit")] = None,
    size: Annotated[
        int | None,
        _given("Side of the parts of photos it trains on, in pixels.", StyleSettings.size),
    ] = None,
    style_size: Annotated[
        int | None,
        _given("Shorter side of the style; larger: larger strokes.", StyleSettings.style_size),
    ] = None,
    batch_size: Annotated[
        int | None, _given("Photos in a step.", StyleSettings.batch_size, max=MAX_COUNT)
    ] = None,
    content_weight: ContentWeight = None,
    style_weight: StyleWeight = None,
    variation_weight: Variation = None,
    width: Annotated[
        float | None, _given("Share of Johnson's channels.", StyleSettings.width)
    ] = None,
    patience: Annotated[
        int | None, _given("End after so many evaluations without gain.", "never")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting as NAME=VALUE, such as rate=0.002."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, max=1024, help="Processes that decode photos.", show_default="half of the cores"
        ),
    ] = None,
) -> None:
    """Train a network for styles; the same command goes on where it was interrupted."""
    from zoo.training.settings import parse

    if list(find_photos([photos])) == [Path(photos)]:
        raise typer.BadParameter(f"{photos} is no folder of photos", param_hint="PHOTOS")
    changes: dict[str, Any] = parse_arguments(settings or [], "--set", parse, "VALUE")
    given = {
        "norms_only": norms_only or None,
        "steps": steps,
        "epochs": epochs,
        "minutes": minutes,
        "size": size,
        "style_size": style_size,
        "batch_size": batch_size,
        "content_weight": content_weight,
        "style_weight": style_weight,
        "variation_weight": variation_weight,
        "width": width,
        "patience": patience,
    }
    changes |= {name: value for name, value in given.items() if value is not None}
    # What is wrong with these is told before weights are loaded.
    chosen = StyleSettings.of(None, **changes)
    compiler.cache_compilations()
    out = out or Path("runs", "-".join(map(stem_of, styles))[:100])
    try:
        trained = zoo.style.train(
            styles,
            photos,
            folder=out,
            model=model if weights is None else zoo.trained(model, weights=weights),
            start=start,
            content_layers=content_layer,
            style_layers=style_layer,
            settings=chosen,
            workers=workers,
        )
    except zoo.training.InterruptedTrainingError as interrupted:
        print_error(interrupted)
        raise typer.Exit(128 + interrupted.signal_number) from interrupted
    _print_use(trained, out / "model")


def _print_use(styles: Styles, path: Path) -> None:
    """Says where styles are, and how they are applied."""
    print_line(f"model: {path}")
    several = f"--styles {path} --style {styles.names[0]}"
    words = several if len(styles.names) > 1 else f"--style {path}"
    print_line(f"use it: zoo style apply PHOTO {words}")


def optimize(
    photo: Annotated[str, typer.Argument(help="A photo, or - for standard input.")],
    style: Annotated[str, typer.Argument(help="An image of the style.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"The file to write: {', '.join(ENDINGS)}.", show_default="PHOTO-STYLE.png"
        ),
    ] = None,
    size: Annotated[
        int, typer.Option(min=MIN_SIDE, max=MAX_SIDE, help="Longer side of the picture.")
    ] = SIZE,
    steps: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Steps of L-BFGS.")] = STEPS,
    content_weight: ContentWeight = None,
    style_weight: StyleWeight = None,
    variation_weight: Variation = None,
    model: Model = LOSS_MODEL,
    weights: Weights = None,
) -> None:
    """Paint one photo in the style of any image, without a training: slow."""
    path = check_out(out, photo, stem_of(style))
    protect([style], [path])
    compiler.cache_compilations()
    given = {
        "content_weight": content_weight,
        "style_weight": style_weight,
        "variation_weight": variation_weight,
    }
    chosen: dict[str, Any] = {n: value for n, value in given.items() if value is not None}
    with show_progress("painting") as progress:
        picture = zoo.style.optimize(
            sys.stdin.buffer if photo == "-" else photo,
            style,
            model=model if weights is None else zoo.trained(model, weights=weights),
            size=size,
            steps=steps,
            progress=progress,
            **chosen,
        )
    picture.save(path)
    print_line(path)


def convert(
    file: Annotated[Path, typer.Argument(help="A .pth or .safetensors file.")],
    out: Annotated[Path, typer.Option(help="The folder to create for the checkpoint.")],
    name: Annotated[
        str | None, typer.Option(help="Of the style.", show_default="the file's")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
) -> None:
    """Make a checkpoint of a network of PyTorch's example fast_neural_style."""
    styles = zoo.style.convert(file, name)
    styles.save(out, overwrite=overwrite)
    _print_use(styles, out)
