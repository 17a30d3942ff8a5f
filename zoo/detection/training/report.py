"""The page that shows how a detector's training went."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.detection.data.load import DetectionSplits
from zoo.detection.detections import name_boxes
from zoo.detection.draw import draw_detections
from zoo.detection.evaluation.evaluate import DetectionScore
from zoo.training.reporting.page import escape, make_facts, make_section, make_table
from zoo.training.reporting.record import read_record
from zoo.training.reporting.report import (
    draw_charts,
    list_settings,
    make_cards,
    make_thumbnail,
    write_page,
)
from zoo.training.run_folder import RunFolder
from zoo.training.settings import Settings

SHOWN = 12  # validation images
THRESHOLD = 0.5  # of what is drawn in them
SIDE = 320  # of the pictures, in pixels


def write_report(
    folder: RunFolder,
    splits: DetectionSplits,
    settings: Settings,
    model: str,
    score: DetectionScore | None,
) -> None:
    """Writes one HTML page, which needs no other file and no network.

    Args:
      folder: of the run.
      splits: the data.
      settings: of the training.
      model: its name.
      score: of the validation images, if there are any.
    """
    history = read_record(folder.metrics)
    classes, count = splits.train.classes, len(splits.train)
    facts: dict[str, object] = {"model": model, "training images": count}
    if history:
        facts["steps"] = history[-1]["step"]
    if score is not None:
        facts["validation images"] = len(score.indices)
    charts = draw_charts(
        history,
        {
            "Loss": {"all": "loss", "classification": "classification", "boxes": "box"},
            "Average precision": {
                "IoU 0.5 to 0.95": "validation_ap",
                "IoU 0.5": "validation_ap50",
            },
            "Learning rate": {"learning rate": "learning_rate"},
        },
    )
    parts = [make_facts(facts), make_section("Training", charts)]
    if score is not None:
        parts.append(make_section("Evaluation", f"<pre>{escape(str(score.figures))}</pre>"))
        parts.append(make_section("Classes", _list_classes(classes, score)))
        parts.append(make_section("Validation images", _draw_images(splits, score)))
    parts.append(list_settings(dataclasses.asdict(settings)))
    write_page(folder.report, f"{model}, {count} images of {len(classes)} classes", parts)


def _list_classes(classes: Sequence[str], score: DetectionScore) -> str:
    """The classes, those of the lowest precision first."""
    figures = score.figures
    order = np.argsort(figures.class_ap, kind="stable")
    rows = [
        (escape(classes[i]), *(_cell(each[i]) for each in (figures.class_ap, figures.class_ap50)))
        for i in order
    ]
    return make_table(("class", "AP", "AP at IoU 0.5"), rows)


def _cell(figure: float) -> str:
    return f"<td>{'–' if np.isnan(figure) else f'{figure:.3f}'}</td>"


def _draw_images(splits: DetectionSplits, score: DetectionScore) -> str:
    """Some validation images with what was found in them."""
    dataset: Any = splits.val
    cards: list[tuple[str, str]] = []
    for found, index in zip(score.found[:SHOWN], score.indices[:SHOWN], strict=True):
        kept = found.scores >= THRESHOLD
        names = [dataset.classes[label] for label in found.labels[kept]]
        detections = name_boxes(found.boxes[kept], found.scores[kept], names)
        picture = draw_detections(dataset.images[index], detections)
        words = f"{len(detections)} found, {len(dataset.boxes[index])} there"
        name = dataset.name_of(int(index))
        cards.append((make_thumbnail(picture, SIDE), f"{words}<span>{escape(name)}</span>"))
    return make_cards(cards)
