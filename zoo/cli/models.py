"""`zoo list` and `zoo describe`: which models there are, and what they cost."""

import json
import re
import shlex
from typing import Annotated, Any, Literal

import typer

import zoo
from zoo.checkpoints.listing import TASKS
from zoo.cli.output import MAX_SIZE, format_bytes, print_line, print_table, terminal_width
from zoo.models.costs import load_costs
from zoo.models.suggest import suggest
from zoo_pretrained import catalogue, resolve
from zoo_pretrained.printable import OneLineError


def list_models(
    pattern: Annotated[
        str, typer.Argument(help="A part of a name, or a shell pattern such as '*50'.")
    ] = "*",
    trained: Annotated[
        bool,
        typer.Option("--trained", help="List their weights: where they are, size and licence."),
    ] = False,
    family: Annotated[
        str | None, typer.Option(help="Only models of one family, such as 'resnet'.")
    ] = None,
    task: Annotated[
        Literal["classification", "detection"], typer.Option(help="What the models are for.")
    ] = "classification",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line.")
    ] = False,
) -> None:
    """List the models: parameters, multiply-adds, accuracy of their default weights."""
    try:
        names = zoo.list_models(pattern, family=family, task=task)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--family") from error
    if not names:
        raise zoo.UnknownModelError(f"no model matches {pattern!r}; {_hint(pattern, task)}")
    accuracy = _ACCURACIES[task]
    rows = _list_weights(names, accuracy) if trained else _list_costs(names, accuracy)
    if not rows:
        raise zoo.NoWeightsError(f"there are no weights for {', '.join(names)}")
    if as_json:
        for row in rows:
            print_line(json.dumps(row))
    elif trained:
        print_table([_headings(rows), *map(_cells, rows)])
    else:
        print_table([_headings(rows), *map(_cost_cells, rows)], align_right=True)


def describe(
    model: Annotated[str, typer.Argument(help="A model, such as ResNet50.")],
    size: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_SIZE, help="Height and width of the image, in pixels."),
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
    except (zoo.UnknownModelError, OneLineError):
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--size") from error
    print(description.table(depth, width=terminal_width()))


# The published accuracy that is shown, by task.
_ACCURACIES = {"classification": "top1", "detection": "box_map"}
_HEADINGS = {"multiply_adds": "multiply-adds", "top1": "top 1", "box_map": "box mAP"}


def _headings(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(_HEADINGS.get(name, name) for name in rows[0])


def _hint(pattern: str, task: str) -> str:
    """What to try where no model of a task matches a pattern."""
    for other in TASKS:
        if other != task and zoo.list_models(pattern, task=other):
            return f"zoo list {shlex.quote(pattern)} --task {other} lists some"
    return suggest(pattern, zoo.list_models(task=task)) or "zoo list lists all"


def _list_costs(names: list[str], accuracy: str) -> list[dict[str, Any]]:
    """What models cost, and the published accuracy of their default weights."""
    costs, entries = load_costs(), catalogue.entries()
    return [
        {
            "model": name,
            **costs[name]._asdict(),
            accuracy: entry.get("accuracy", {}).get(accuracy),
        }
        for name in names
        for entry in [next(iter(entries.get(name, {}).values()), {})]
    ]


def _cost_cells(row: dict[str, Any]) -> tuple[str, ...]:
    model, parameters, multiply_adds, accuracy = row.values()
    return (
        model,
        f"{parameters / 1e6:.1f} M",
        f"{multiply_adds / 1e9:.2f} G",
        "" if accuracy is None else f"{accuracy:.1f}",
    )


def _list_weights(names: list[str], accuracy: str) -> list[dict[str, Any]]:
    """All weights of models, a model's default first."""
    locations, entries = resolve.list_locations(), catalogue.entries()
    return [
        {
            "model": name,
            "weights": weights,
            accuracy: entry.get("accuracy", {}).get(accuracy),
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
    if terminal_width() is not None:  # in which an address would fold into many lines
        cells["location"] = re.sub(r"^(\w+://[^/]+)/.*", r"\1/…", row["location"])
    return tuple("" if cell is None else str(cell) for cell in cells.values())
