"""`zoo detect`: finds objects in photos and videos."""

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import zoo
from zoo.cli.output import MAX_COUNT, print_error, print_line, print_table
from zoo.cli.progress import show_progress
from zoo.models.base import DETECTORS, find_model
from zoo.runtime import compiler

if TYPE_CHECKING:
    from zoo.detection.run import FileDetections

MODEL = "SSDLite320_MobileNetV3_Large"


def detect(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Photos, folders to search for photos, videos, or - for a photo on standard input."
        ),
    ],
    model: Annotated[str, typer.Option(help="A detector with trained weights.")] = MODEL,
    weights: Annotated[
        str | None, typer.Option(help="Weights: a name, a folder, an archive or its address.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Lowest score of what is reported.")
    ] = 0.5,
    labels: Annotated[
        str | None,
        typer.Option(help="Classes to report, such as dog,cat.", show_default="all"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder for pictures and films in which the objects are drawn.",
            show_default="nothing is drawn",
        ),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1, max=MAX_COUNT, help="Number of photos or frames of one shape in a batch."
        ),
    ] = 1,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON object per photo or frame of a video, each on a line."
        ),
    ] = False,
) -> None:
    """Detect objects: their classes, scores and boxes, left, top, right and bottom in pixels."""
    # Other commands start faster without it. It makes detectors known, too.
    from zoo.detection.run import detect_files

    if "" in files:
        raise typer.BadParameter("a file has no name", param_hint="FILES")
    _check_model(model)
    compiler.cache_compilations()
    errors: list[str] = []
    # On a terminal, lines tell how far it is; a progress bar is in their way.
    shown = contextlib.nullcontext() if sys.stdout.isatty() else show_progress("detecting")
    try:
        with shown as progress:
            for found in detect_files(
                zoo.trained(model, weights=weights),
                [sys.stdin.buffer if file == "-" else file for file in files],
                out,
                threshold=threshold,
                labels=None if labels is None else [label.strip() for label in labels.split(",")],
                batch_size=batch_size,
                progress=progress,
            ):
                if found.error is not None:
                    errors.append(str(found.error))
                if as_json:
                    print_line(_as_json(found))
                elif found.error is None:
                    _print_detections(found)
    finally:
        for message in errors:
            print_error(message)
    if errors:
        raise typer.Exit(1)


def _check_model(model: str) -> None:
    """Refuses what is no detector before its weights are fetched."""
    name = find_model(model).name
    if name not in DETECTORS:
        raise typer.BadParameter(
            f"{name} is no detector; there are {', '.join(DETECTORS)}", param_hint="--model"
        )


def _print_detections(found: "FileDetections") -> None:
    print_line(found.name if found.frame is None else f"{found.name} frame {found.frame}")
    rows = []
    for one in found.detections:
        sides = " ".join(f"{round(side):5}" for side in one.box)
        rows.append([f"  {one.label}", f"{one.score:.2f}", sides])
    if rows:
        print_table(rows)


def _as_json(found: "FileDetections") -> str:
    fields: dict[str, Any] = {"file": found.name}
    if found.frame is not None:
        fields["frame"] = found.frame
    if found.error is not None:
        return json.dumps({**fields, "error": str(found.error)})
    fields["width"], fields["height"] = found.size
    if found.picture is not None:
        fields["picture"] = str(found.picture)
    fields["detections"] = [one._asdict() for one in found.detections]
    return json.dumps(fields)
