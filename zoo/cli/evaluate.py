"""`zoo evaluate`: measures a model on labelled photos."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

import zoo
from zoo.cli.output import MAX_COUNT, MAX_SIZE, print_error, print_line, print_table
from zoo.cli.train import Data, Distributed, Folder, Workers, default_model, join_processes
from zoo.runtime import compiler

if TYPE_CHECKING:
    from zoo.training.evaluation.metrics import Evaluation

# Larger tables are cut off, unless all is asked for.
MAX_CLASSES = 20


def evaluate(
    data: Data,
    folder: Folder = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A model with weights.", show_default="EfficientNetLite0; for mura DenseNet169"
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Weights: a name, a folder, an archive or its address. Several times: an ensemble."
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Photos in a batch, over all devices.")
    ] = 32,
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_SIZE,
            help="Height and width of the photos, in pixels.",
            show_default="the model's",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Evaluate only so many photos, drawn at random.")
    ] = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    list_all: Annotated[bool, typer.Option("--all", help="List all classes.")] = False,
    distributed: Distributed = False,
) -> None:
    """Measure a model on labelled photos: accuracies, loss, confusion, calibration, speed."""
    from zoo.data.load import load_evaluation
    from zoo.training.evaluation.evaluate import select_images
    from zoo.training.evaluation.mura import SOURCE, evaluate_mura

    join_processes(distributed)
    compiler.cache_compilations()
    model = model or default_model(data)
    names: Sequence[str | None] = weights or [None]
    models = [zoo.trained(model, weights=each) for each in names]
    dataset = select_images(load_evaluation(data, folder), models[0], limit)
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("evaluating", total=len(dataset) * len(models))
        options: Any = {
            "batch_size": batch_size,
            "size": size,
            "workers": workers,
            "on_batch": lambda count: progress.advance(task, count),
        }
        studies = None
        if "study" in dataset.columns:
            evaluation, studies = evaluate_mura(models, dataset, **options)
        else:
            evaluation = zoo.training.evaluate(models, dataset, **options)
    published = models[0].info.top1 if data == "imagenet" and len(models) == 1 else None
    if as_json:
        summary = {**evaluation.as_dict(), "published_top1": published}
        summary["confusion"] = evaluation.confusion.tolist()
        print_line(
            json.dumps(summary if studies is None else summary | {"mura": studies.as_dict()})
        )
        return
    _print_summary(evaluation, published)
    _print_classes(evaluation, list_all)
    if studies is not None:
        print_line("")
        print_table(studies.table())
        if studies.published:
            print_line(f"Published: {SOURCE}.")
    for message in evaluation.skipped:
        print_error(f"skipped: {message}")


def _print_summary(evaluation: "Evaluation", published: float | None) -> None:
    from zoo.training.reporting.formats import format_metric

    top1 = format_metric("top1", evaluation.top1)
    beside = "" if published is None else f" (published: {published:.1f} %)"
    rows = [("top-1 accuracy", f"{top1}{beside}")]
    if evaluation.top5 is not None:
        rows.append(("top-5 accuracy", format_metric("top5", evaluation.top5)))
    named = {
        "mean of the classes' accuracies": "balanced_accuracy",
        "loss (cross-entropy)": "loss",
        "expected calibration error": "calibration_error",
    }
    rows += [(text, format_metric(n, getattr(evaluation, n))) for text, n in named.items()]
    rate = evaluation.images_per_second
    speed = "" if rate is None else f", {rate:.3g} a second"
    rows.append(("photos", f"{len(evaluation)}{speed}"))
    print_table(rows)


def _print_classes(evaluation: "Evaluation", list_all: bool) -> None:
    """The confusion matrix of few classes, else the classes that are told worst."""
    present = np.flatnonzero(evaluation.class_counts)
    accuracy = evaluation.class_accuracy
    print_line("")
    if len(evaluation.classes) <= MAX_CLASSES:
        header = ["", *map(str, range(len(evaluation.classes))), "accuracy"]
        rows = [
            [
                f"{number} {name}",
                *map(str, evaluation.confusion[number]),
                _percent(accuracy[number]),
            ]
            for number, name in enumerate(evaluation.classes)
        ]
        print_line("Photos of each class (rows) by the class that the model says (columns):")
        print_table([header, *rows], align_right=True)
        return
    order = present[np.argsort(accuracy[present], kind="stable")]
    shown = order if list_all else order[:MAX_CLASSES]
    if len(shown) < len(order):
        print_line(
            f"The {len(shown)} classes that are told worst, of {len(order)} (--all for all):"
        )
    counts = evaluation.class_counts
    print_table(
        [
            ("class", "photos", "accuracy"),
            *((evaluation.classes[i], str(counts[i]), _percent(accuracy[i])) for i in shown),
        ],
        align_right=True,
    )
    print_line("")
    print_line("The most frequent mistakes:")
    mistakes: Sequence[Any] = evaluation.most_confused(MAX_CLASSES if not list_all else 1000)
    names = evaluation.classes
    print_table(
        [
            ("class", "taken for", "photos"),
            *((names[m.truth], names[m.predicted], str(m.images)) for m in mistakes),
        ]
    )


def _percent(accuracy: float) -> str:
    return "–" if np.isnan(accuracy) else f"{accuracy:.1%}".replace("%", " %")
