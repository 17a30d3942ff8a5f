"""`zoo train detection` and `zoo evaluate detection`: detectors on images with boxes."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

import zoo
from zoo.cli.output import MAX_COUNT, print_error, print_line, print_table
from zoo.cli.train import (
    Arguments,
    BatchSize,
    Distributed,
    Epochs,
    OtherSettings,
    Out,
    Rate,
    Recipe,
    Scratch,
    Seed,
    Size,
    TensorBoard,
    Weights,
    Workers,
    find_start,
    join_processes,
    parse_settings,
    run_training,
)
from zoo.models.base import DETECTORS, Model, find_model
from zoo.runtime import compiler

MODEL = "SSDLite320_MobileNetV3_Large"

Source = Annotated[
    Path, typer.Argument(help="A folder of images with boxes, or a JSON file of COCO.")
]
Kind = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="How the boxes are written: coco, voc or yolo.",
        show_default="told by the files",
    ),
]
DetectorName = Annotated[str, typer.Option("--model", help="The detector.")]


def train(
    source: Source,
    kind: Kind = None,
    model: DetectorName = MODEL,
    weights: Weights = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Begin with random heads on a classifier with its weights, such as "
            "EfficientNetLite0."
        ),
    ] = None,
    scratch: Scratch = False,
    recipe: Recipe = None,
    out: Out = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    rate: Rate = None,
    size: Size = None,
    seed: Seed = None,
    settings: OtherSettings = None,
    arguments: Arguments = None,
    workers: Workers = None,
    tensorboard: TensorBoard = False,
    distributed: Distributed = False,
) -> None:
    """Train or fine-tune a detector; the same command goes on where it was interrupted."""
    from zoo.training.fit import choose_settings

    join_processes(distributed)
    compiler.cache_compilations()
    given = {"epochs": epochs, "batch_size": batch_size, "rate": rate, "size": size, "seed": seed}
    changes = parse_settings(settings, given)
    if backbone is not None and recipe is None:  # the heads' norms have no statistics to keep
        changes = {"freeze_norms": ("backbone/**",), **changes}
    chosen = choose_settings(recipe, scratch, changes, "detection")
    name = _check_detector(model)
    splits = _load(source, kind)
    start = _find_start(name, weights, backbone, scratch, arguments or [])
    out = out or Path("runs", f"{source.stem}-{name}")
    _report_skipped(splits.train)
    trained = run_training(
        start, splits, settings=chosen, folder=out, workers=workers, tensorboard=tensorboard
    )
    _report(trained, out)


def evaluate(
    source: Source,
    kind: Kind = None,
    model: DetectorName = MODEL,
    weights: Annotated[
        str | None, typer.Option(help="Weights: a name, a folder, an archive or its address.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Images of one shape in a batch.")
    ] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Evaluate only so many images, drawn at random.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a detector on images with boxes: COCO's twelve figures, and each class's."""
    compiler.cache_compilations()
    detector = zoo.trained(_check_detector(model), weights=weights)
    train, val = _load(source, kind)
    dataset = train if val is None else val
    count = len(dataset) if limit is None else min(limit, len(dataset))
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("evaluating", total=count)
        score = zoo.detection.evaluate(
            detector,
            dataset,
            batch_size=batch_size,
            limit=limit,
            on_image=lambda: progress.advance(task),
        )
    for message in score.skipped:
        print_error(f"skipped: {message}")
    classes = detector.labels[1:]
    if as_json:
        print_line(json.dumps({**score.figures.as_dict(classes), "images": len(score.indices)}))
        return
    print_line(str(score.figures))
    print_line("")
    figures = score.figures
    rows = [
        (name, f"{ap:.3f}", f"{ap50:.3f}")
        for name, ap, ap50 in zip(classes, figures.class_ap, figures.class_ap50, strict=True)
        if not np.isnan(ap)
    ]
    print_table([("class", "AP", "AP at IoU 0.5"), *rows], align_right=True)


def _check_detector(name: str) -> str:
    """The detector's own name; an error for a model that is none."""
    entry = find_model(name)
    if entry.name not in DETECTORS:
        raise typer.BadParameter(
            f"{entry.name} is no detector; those are {', '.join(DETECTORS)}", param_hint="--model"
        )
    return entry.name


def _load(source: Path, kind: str | None) -> Any:
    from zoo.detection.data.load import KINDS, load_detection

    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(
            f"must be one of {', '.join(KINDS)}, got {kind!r}", param_hint="--data"
        )
    chosen: Any = kind
    return load_detection(source, chosen)


def _report_skipped(dataset: Any) -> None:
    """Names the boxes that were left out, and counts those that were cut off."""
    for message in dataset.skipped[:20]:
        print_error(f"skipped: {message}")
    if len(dataset.skipped) > 20:
        print_error(f"and {len(dataset.skipped) - 20} more")
    if dataset.clipped:
        print_error(f"{dataset.clipped} boxes were cut off at the edge of their image")


def _find_start(
    model: str, weights: str | None, backbone: str | None, scratch: bool, arguments: list[str]
) -> zoo.Trained | Model:
    """What the training begins with: weights, a classifier's weights, or a definition."""
    if backbone is None:
        return find_start(model, weights, scratch, arguments)
    if scratch or weights is not None:
        other = "--scratch" if scratch else "--weights"
        raise typer.BadParameter(f"goes without {other}", param_hint="--backbone")
    classifier = zoo.trained(backbone)
    definition: Any = find_start(
        model, None, True, [*arguments, f'backbone="{classifier.model.title}"']
    )
    return zoo.detection.with_backbone(definition, classifier)


def _report(trained: zoo.Trained, out: Path) -> None:
    """Says how good the detector is, and where it is."""
    from zoo.training.reporting.record import read_record

    lines = [line for line in read_record(out / "metrics.jsonl") if "validation_ap" in line]
    if lines:
        best = max(lines, key=lambda line: line["validation_ap"])
        print_line(
            f"on the validation images: AP {best['validation_ap']:.3f}, "
            f"AP at IoU 0.5 {best['validation_ap50']:.3f}"
        )
    print_line(f"report: {out / 'report.html'}")
    print_line(f"model: {out / 'model'}")
    print_line(f"use it: zoo detect PHOTO --model {trained.info.model} --weights {out / 'model'}")
