"""`zoo visualize`: which pixels matter to a class, and what a layer's channels respond to."""

import inspect
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import zoo
from zoo import visualize as methods
from zoo.cli.output import MAX_COUNT, MAX_SIZE, print_line, print_table
from zoo.cli.progress import show_progress
from zoo.models.suggest import suggest
from zoo.runtime import compiler
from zoo.visualize import pictures
from zoo.visualize.inputs import prepare_inputs
from zoo.visualize.layers import find_layer
from zoo.visualize.optimization.generate import STEPS

DEFAULT_METHOD = "grad-cam"


def visualize(
    photos: Annotated[
        list[str] | None,
        typer.Argument(help="Photos, or - for one on standard input.", show_default=False),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Methods, with commas between them; --list names them.",
            show_default=DEFAULT_METHOD,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="A class to explain, a label or an index. Several times: for one photo.",
            show_default="the predicted one",
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Explain so many of the likeliest classes.")
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="The layer whose feature maps class activation maps weigh.",
            show_default="the last",
        ),
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            help="Generate what a channel responds to, LAYER:NUMBER, in place of explaining "
            "photos. May be given several times.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"The picture to write: {', '.join(pictures.ENDINGS)}.",
            show_default="PHOTO-METHOD.png",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="A model with weights.")] = "EfficientNetLite0",
    weights: Annotated[
        str | None, typer.Option(help="Weights: a name, a folder, an archive or its address.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_SIZE, help="Images' height and width.", show_default="the model's own"
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_COUNT, help="Steps of generating a feature.", show_default=str(STEPS)
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    show_list: Annotated[
        bool, typer.Option("--list", help="List the methods and the model's layers.")
    ] = False,
) -> None:
    """Look inside a model: which pixels speak for a class, what a channel responds to."""
    if show_list:
        _print_list(model, weights)
        return
    if feature:
        given = {
            "PHOTOS": photos,
            "--method": method,
            "--target": target,
            "--top": top,
            "--layer": layer,
        }
        for name, value in given.items():
            if value:
                raise typer.BadParameter(f"takes no {name}", param_hint="--feature")
        options = {"size": size, "steps": steps}
        chosen = {name: value for name, value in options.items() if value is not None}
        _generate(feature, out, model, weights, seed=seed, **chosen)
        return
    if not photos:
        raise typer.BadParameter("give photos, or --feature or --list", param_hint="PHOTOS")
    if steps is not None:
        raise typer.BadParameter("it is for --feature", param_hint="--steps")
    if target and top is not None:
        raise typer.BadParameter("--target excludes it", param_hint="--top")
    names = _parse_methods(method)
    settings = _settings(names, layer, seed)
    stem = "photo" if photos[0] == "-" else Path(photos[0]).stem
    path = pictures.check_ending(out or _name([stem, *names]))
    compiler.cache_compilations()
    trained = zoo.trained(model, weights=weights)
    if layer is not None:
        find_layer(trained, layer, spatial=True, size=size)
    inputs = prepare_inputs(trained, *_arrange(photos, target), top=top, size=size)
    with show_progress("methods") as advance:
        found = []
        for number, name in enumerate(names):
            advance(number, len(names))
            found.append(methods.METHODS[name](trained, inputs, **settings[number]))
    picture = found[0].picture() if len(found) == 1 else methods.compare(found)
    picture.save(path)
    for label, probability in zip(found[0].labels, found[0].probabilities, strict=True):
        print_line(f"{label}  {probability:.1%}")
    print_line(path)


def _generate(
    features: list[str], out: Path | None, model: str, weights: str | None, **options: Any
) -> None:
    """Writes a picture of what channels respond to."""
    path = pictures.check_ending(out or _name(features))
    compiler.cache_compilations()
    trained = zoo.trained(model, weights=weights)
    with show_progress("generating") as advance:
        methods.feature(trained, features, progress=advance, **options).save(path)
    print_line(path)


def _arrange(photos: list[str], target: list[str] | None) -> tuple[Any, Any]:
    """Images and targets: a single photo may have several targets."""
    images = [sys.stdin.buffer if photo == "-" else photo for photo in photos]
    if target is None or len(target) == 1:
        return images, target and target[0]
    return images[0] if len(images) == 1 else images, target


def _parse_methods(texts: list[str] | None) -> list[str]:
    names = [name.strip() for text in texts or [DEFAULT_METHOD] for name in text.split(",")]
    for name in names:
        if name not in methods.METHODS:
            hint = suggest(name, methods.METHODS, cutoff=0.4) or "zoo visualize --list names them"
            raise typer.BadParameter(f"no method is named {name!r}; {hint}", param_hint="--method")
    return names


def _settings(names: list[str], layer: str | None, seed: int) -> list[dict[str, Any]]:
    """For each method the arguments that it takes of those that the command line has."""
    taken = [inspect.signature(methods.METHODS[name]).parameters for name in names]
    if layer is not None and not any("layer" in parameters for parameters in taken):
        raise typer.BadParameter(
            f"none of the methods {', '.join(names)} has a layer", param_hint="--layer"
        )
    given = {"layer": layer, "seed": seed}
    return [{name: given[name] for name in given if name in parameters} for parameters in taken]


def _name(parts: list[str]) -> str:
    """A file's name from what it shows, for the current folder."""
    text = "-".join(parts)
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)[:100] + ".png"


def _print_list(model: str, weights: str | None) -> None:
    print_line("methods:")
    rows = []
    for name, function in methods.METHODS.items():
        described: Any = getattr(function, "func", function)
        summary = (described.__doc__ or "").partition("\n")[0]
        rows.append((f"  {name}", summary))
    print_table(rows)
    trained = zoo.trained(model, weights=weights)
    print_line(f"layers of {trained.info.model}:")
    shapes = methods.list_layers(trained)
    print_table([(f"  {path}", "×".join(map(str, shape))) for path, shape in shapes.items()])
