"""`zoo bench`: how fast a model runs here."""

import json
from typing import Annotated, Literal

import typer

from zoo.cli.words import columns
from zoo.cli.words import size as in_bytes
from zoo.models.base import UnknownModelError
from zoo.runtime.bench import PASSES, Row, measure
from zoo.runtime.memory import keep_memory


def bench(
    model: Annotated[str, typer.Argument(help="A model, such as ResNet50.")],
    batch: Annotated[int, typer.Option(min=1, help="How many images at once.")] = 8,
    size: Annotated[
        int | None, typer.Option(min=1, help="Height and width of the images, in pixels.")
    ] = None,
    passes: Annotated[
        Literal["inference", "training", "all"], typer.Option("--pass", help="What is timed.")
    ] = "all",
    fused: Annotated[
        bool | None,
        typer.Option(
            "--fused/--plain",
            help="Inference only with, or without, norms folded.  [default: both]",
        ),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="What the layers compute in.")
    ] = "float32",
    rounds: Annotated[int, typer.Option(min=2, help="How often each pass is timed.")] = 10,
    keep: Annotated[
        bool, typer.Option("--keep-memory", help="Give no memory back to the system meanwhile.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a pass, a line each.")
    ] = False,
) -> None:
    """Time a model's inference and training step here, with random weights and images."""
    if keep and not keep_memory():
        raise typer.BadParameter("needs Linux with glibc", param_hint="--keep-memory")
    plain, folded, training = PASSES
    wanted = {
        plain: passes != "training" and fused is not True,
        folded: passes != "training" and fused is not False,
        training: passes != "inference",
    }
    try:
        rows = measure(
            model,
            batch=batch,
            size=size,
            passes=[name for name in PASSES if wanted[name]],
            dtype=dtype,
            rounds=rounds,
        )
    except UnknownModelError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--size") from error
    if as_json:
        for row in rows:
            print(json.dumps(row.as_dict()), flush=True)
        return
    print(_table(list(rows)))


def _table(rows: list[Row]) -> str:
    first = rows[0]
    return "\n".join(
        [
            f"{first.model}, batch {first.batch}, {first.size}×{first.size}, {first.dtype}, "
            f"on {first.device}; a matrix product reaches {first.rate / 1e9:,.0f} GFLOP/s",
            columns([_HEADINGS, *map(_cells, rows)]),
        ]
    )


_HEADINGS = ("", "images/s", "ms", "quartiles", "GFLOP/s", "of product", "compile s", "memory")


def _cells(row: Row) -> tuple[str, ...]:
    lower, median, upper = (1e3 * seconds for seconds in row.quartiles)
    return (
        row.name,
        f"{row.images_per_second:,.1f}",
        f"{median:,.2f}",
        f"{lower:,.2f} to {upper:,.2f}",
        f"{row.reached / 1e9:,.1f}",
        f"{row.reached / row.rate:.0%}",
        f"{row.compile:.1f}",
        in_bytes(row.peak),
    )
