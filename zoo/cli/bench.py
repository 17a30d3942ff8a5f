"""`zoo bench`: times a model on this machine."""

import json
from typing import Annotated, Literal

import typer

from zoo.cli.output import MAX_COUNT, MAX_SIZE, format_bytes, print_line, print_table
from zoo.models.base import UnknownModelError
from zoo.runtime.bench import PASSES, Measurement, measure
from zoo.runtime.memory import keep_memory
from zoo_pretrained.printable import OneLineError


def bench(
    model: Annotated[str, typer.Argument(help="A model, such as ResNet50.")],
    batch: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Number of images in a batch.")
    ] = 8,
    size: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_SIZE, help="Height and width of the images, in pixels."),
    ] = None,
    passes: Annotated[
        Literal["inference", "training", "all"],
        typer.Option("--pass", help="Which passes to time."),
    ] = "all",
    fused: Annotated[
        bool | None,
        typer.Option(
            "--fused/--plain",
            help="Inference only with, or only without, folded batch norms.  [default: both]",
        ),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Compute dtype of the layers.")
    ] = "float32",
    rounds: Annotated[
        int, typer.Option(min=2, max=MAX_COUNT, help="How often to time each pass.")
    ] = 10,
    keep: Annotated[
        bool, typer.Option("--keep-memory", help="Keep freed memory in the process.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per pass, each on a line.")
    ] = False,
) -> None:
    """Time a model's inference and training step on this machine, on random weights and images."""
    if keep and not keep_memory():
        raise typer.BadParameter("needs Linux with glibc", param_hint="--keep-memory")
    plain, fused_pass, training = PASSES
    enabled = {
        plain: passes != "training" and fused is not True,
        fused_pass: passes != "training" and fused is not False,
        training: passes != "inference",
    }
    try:
        measurements = measure(
            model,
            batch=batch,
            size=size,
            passes=[name for name in PASSES if enabled[name]],
            dtype=dtype,
            rounds=rounds,
        )
    except (UnknownModelError, OneLineError):
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--size") from error
    if as_json:
        for measurement in measurements:
            print_line(json.dumps(measurement.as_dict()))
        return
    rows = list(measurements)
    first = rows[0]
    print_line(
        f"{first.model}, batch {first.batch}, {first.size}×{first.size}, {first.dtype}, "
        f"on {first.device}; a matrix product reaches {first.rate / 1e9:,.0f} GFLOP/s"
    )
    print_table([_HEADINGS, *map(_cells, rows)])


_HEADINGS = ("", "images/s", "ms", "quartiles", "GFLOP/s", "of product", "compile s", "memory")


def _cells(measurement: Measurement) -> tuple[str, ...]:
    lower, median, upper = (1e3 * seconds for seconds in measurement.quartiles)
    return (
        measurement.name,
        f"{measurement.images_per_second:,.1f}",
        f"{median:,.2f}",
        f"{lower:,.2f} to {upper:,.2f}",
        f"{measurement.reached / 1e9:,.1f}",
        f"{measurement.reached / measurement.rate:.0%}",
        f"{measurement.compile:.1f}",
        format_bytes(measurement.peak),
    )
