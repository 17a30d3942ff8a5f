"""`zoo list` and `zoo describe`: which models there are, and what they cost."""

import json
from typing import Annotated, Any

import typer

import zoo
from zoo.cli.output import format_bytes
from zoo.runtime.columns import format_columns
from zoo_pretrained import catalogue, resolve


def list_models(
    pattern: Annotated[str, typer.Argument(help="A shell pattern such as 'efficient*'.")] = "*",
    trained: Annotated[
        bool,
        typer.Option("--trained", help="List their weights: where they are, size and licence."),
    ] = False,
    family: Annotated[
        str | None, typer.Option(help="Only models of one family, such as 'resnet'.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line.")
    ] = False,
) -> None:
    """List the models."""
    try:
        names = zoo.list_models(pattern, family=family)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--family") from error
    if not names:
        raise zoo.UnknownModelError(f"no model matches {pattern!r}")
    rows = _list_weights(names) if trained else [{"model": name} for name in names]
    if not rows:
        raise zoo.NoWeightsError(f"there are no weights for {', '.join(names)}")
    if as_json:
        print("\n".join(map(json.dumps, rows)))
    elif trained:
        print(format_columns([_HEADINGS, *map(_cells, rows)]))
    else:
        print("\n".join(names))


def describe(
    model: Annotated[str, typer.Argument(help="A model, such as ResNet50.")],
    size: Annotated[
        int | None, typer.Option(min=1, help="Height and width of the image, in pixels.")
    ] = None,
    depth: Annotated[
        int,
        typer.Option(
            min=1, help="How many names of a layer's path a row stands for: 1 for stages."
        ),
    ] = 1,
) -> None:
    """Show what a model costs: parameters, multiply-adds, memory of activations."""
    try:
        description = zoo.describe(model, size=size)
    except zoo.UnknownModelError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--size") from error
    print(description.table(depth))


_HEADINGS = ("model", "weights", "top 1", "where", "size", "location", "licence")


def _list_weights(names: list[str]) -> list[dict[str, Any]]:
    """All weights of models, a model's default first."""
    locations, entries = resolve.list_locations(), catalogue.entries()
    return [
        {
            "model": name,
            "weights": weights,
            "top1": entry.get("accuracy", {}).get("top1"),
            "where": location.kind,
            "size": location.size,
            "location": location.location,
            "licence": entry.get("licence"),
        }
        for name in names
        for weights, location in locations.get(name, {}).items()
        for entry in [entries.get(name, {}).get(weights, {})]
    ]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    cells = {**row, "size": format_bytes(row["size"])}
    return tuple("" if cell is None else str(cell) for cell in cells.values())
