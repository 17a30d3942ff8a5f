"""Writes the page that shows how a training went, and where the model errs."""

import base64
import io
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.inference.images import ImageError, ImageSource, load_image
from zoo.training.evaluation.metrics import BINS, Evaluation
from zoo.training.reporting.curves import Curve, draw_curves
from zoo.training.reporting.formats import format_duration, format_metric
from zoo.training.reporting.page import escape, make_facts, make_page, make_section, make_table
from zoo_pretrained.temporary import temporary_folder

# A larger table of confusions cannot be surveyed: the most frequent ones are listed instead.
MAX_CONFUSION = 20
MAX_PAIRS = 30
MAX_SKIPPED = 100
THUMBNAIL = 160


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    settings: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    evaluation: Evaluation | None = None,
    images: Mapping[int, ImageSource] | None = None,
    facts: Mapping[str, object] | None = None,
) -> None:
    """Writes one HTML page, which needs no other file and no network.

    Args:
      path: the file; what is there is replaced once the new page is complete.
      title: of the page.
      settings: what the run was set to.
      history: what `read_record` returns. Curves are drawn of "loss" and "validation_loss",
        "accuracy" and "validation_accuracy" (fractions), and "learning_rate", over "step".
      evaluation: of the trained model on the validation images.
      images: some of the evaluation's images, by their numbers: those of `evaluation.worst`.
      facts: more to be told at the top, such as the number of training images.

    Raises:
      OSError: the file cannot be written.
    """
    parts = [make_facts({**_find_facts(history, evaluation), **(facts or {})})]
    parts.append(make_section("Training", _draw_history(history)))
    if evaluation is not None:
        parts += _describe_evaluation(evaluation, images or {})
    parts.append(list_settings(settings))
    write_page(path, title, parts)


def list_settings(settings: Mapping[str, Any]) -> str:
    """The section of a page that lists what a run was set to."""
    rows = [(escape(name), _cell(escape(value), "text")) for name, value in settings.items()]
    return make_section("Settings", make_table(("setting", "value"), rows) if rows else "")


def write_page(path: str | os.PathLike[str], title: str, parts: Iterable[str]) -> None:
    """Writes a page of parts, complete or not at all."""
    path = Path(path)
    with temporary_folder(path) as folder:
        (folder / "page").write_text(make_page(title, filter(None, parts)), encoding="utf-8")
        (folder / "page").replace(path)


def _find_facts(
    history: Sequence[Mapping[str, Any]], evaluation: Evaluation | None
) -> dict[str, object]:
    facts: dict[str, object] = {}
    if accuracies := [
        line["validation_accuracy"] or 0 for line in history if "validation_accuracy" in line
    ]:
        facts["best accuracy"] = format_metric("accuracy", max(accuracies))
    if history:
        facts["steps"] = history[-1]["step"]
        facts["duration"] = format_duration(history[-1]["elapsed"])
    if evaluation is not None:
        facts["validation images"] = len(evaluation)
        facts["skipped images"] = len(evaluation.skipped)
    return facts


def _draw_history(history: Sequence[Mapping[str, Any]]) -> str:
    """Charts of the metrics that there are."""

    def both(name: str) -> dict[str, str]:
        return {"training": name, "validation": f"validation_{name}"}

    return draw_charts(
        history,
        {
            "Loss": both("loss"),
            "Accuracy": both("accuracy"),
            "Learning rate": {"learning rate": "learning_rate"},
        },
        fractions=("Accuracy",),
    )


def draw_charts(
    history: Sequence[Mapping[str, Any]],
    charts: Mapping[str, Mapping[str, str]],
    fractions: Collection[str] = (),
) -> str:
    """Charts of metrics over the steps.

    Args:
      history: what `read_record` returns.
      charts: by their titles, the metrics by the curves' names.
      fractions: the charts that are in per cent.
    """
    drawn = {}
    for title, names in charts.items():
        curves = [Curve(label, *_collect(history, name).T) for label, name in names.items()]
        written = (_percent,) if title in fractions else ()
        drawn[title] = draw_curves(curves, "step", *written)
    return _lay_charts(drawn)


def _collect(history: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """The steps and values of a metric [points, 2], where the history has them."""
    points = [(line["step"], line[name]) for line in history if line.get(name) is not None]
    return np.array(points, float).reshape(-1, 2)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4g} %"


def _lay_charts(charts: Mapping[str, str]) -> str:
    drawn = "".join(f"<div><h3>{name}</h3>{svg}</div>" for name, svg in charts.items() if svg)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _describe_evaluation(
    evaluation: Evaluation, images: Mapping[int, ImageSource]
) -> Iterator[str]:
    metrics = ("top1", "top5", "balanced_accuracy", "loss", "calibration_error")
    values = {name: getattr(evaluation, name) for name in metrics}
    yield make_section(
        "Evaluation",
        make_facts(
            {
                name.replace("_", " "): format_metric(name, value)
                for name, value in values.items()
                if value is not None
            }
        ),
    )
    yield make_section("Mistakes", _show_confusion(evaluation))
    yield make_section("Classes", _list_classes(evaluation))
    yield make_section("Calibration", *_draw_calibration(evaluation))
    yield make_section("Worst-classified images", _show_worst(evaluation, images))
    yield make_section("Skipped images", _list_skipped(evaluation.skipped))


def _show_confusion(evaluation: Evaluation) -> str:
    names = [escape(name) for name in evaluation.classes]
    if len(names) > MAX_CONFUSION:
        pairs = [
            (names[truth], _cell(names[predicted], "text"), _cell(count))
            for truth, predicted, count in evaluation.most_confused(MAX_PAIRS)
        ]
        return make_table(("truth", "taken for", "images"), pairs) if pairs else ""
    shares = evaluation.confusion / np.maximum(evaluation.class_counts, 1)[:, None]

    def cell(row: int, column: int) -> str:
        count = evaluation.confusion[row, column]
        # The root, so that a few mistakes are seen, too.
        style = f' style="--share:{shares[row, column] ** 0.5:.2f}"'
        kind = "hit" if row == column else "miss"
        hint = f"{names[row]} taken for {names[column]}: {shares[row, column]:.1%}"
        return f'<td class="{kind}"{style} title="{hint}">{count or ""}</td>'

    numbers = range(len(names))
    header = "truth ↓ taken for →", *(f"<span>{name}</span>" for name in names)
    rows = [(names[row], *(cell(row, column) for column in numbers)) for row in numbers]
    return (
        "<p>How many images of each class (rows) are taken for which class (columns).</p>"
        + make_table(header, rows, "confusion")
    )


def _list_classes(evaluation: Evaluation) -> str:
    """The classes, those of the lowest accuracy first and those without images last."""
    accuracy, counts = evaluation.class_accuracy, evaluation.class_counts
    rows = []
    for number in np.argsort(accuracy, kind="stable"):
        value = float(accuracy[number])
        known = bool(counts[number])
        bar = f'<div><div style="--share:{value:.3f}"></div></div>' if known else ""
        shown = format_metric("accuracy", value) if known else "–"
        cells = _cell(counts[number]), _cell(shown), _cell(bar, "bar")
        rows.append((escape(evaluation.classes[number]), *cells))
    return make_table(("class", "images", "accuracy", ""), rows)


def _draw_calibration(evaluation: Evaluation) -> tuple[str, str]:
    bins = evaluation.calibration
    ends = np.array([0.0, 1.0])
    chart = draw_curves(
        [Curve("the model", bins.confidence, bins.accuracy), Curve("perfect", ends, ends)],
        "confidence",
        _percent,
    )
    error = format_metric("calibration_error", evaluation.calibration_error)
    words = (
        "How often the model is right (upwards) where it is so sure of the likeliest class (to the "
        f"right), in {BINS} ranges. Their mean distance is {error}: the expected calibration error."
    )
    return f"<p>{words}</p>", _lay_charts({"Accuracy": chart})


def _show_worst(evaluation: Evaluation, images: Mapping[int, ImageSource]) -> str:
    cards = []
    for index in filter(images.__contains__, map(int, evaluation.worst(len(evaluation)))):
        name = escape(evaluation.names[index] if evaluation.names else f"image {index}")
        truth, predicted = evaluation.labels[index], evaluation.predicted[index]
        probabilities = evaluation.probabilities[index]
        words = escape(evaluation.classes[predicted])
        words = f"taken for <b>{words}</b> ({probabilities[predicted]:.1%})"
        if truth == predicted:
            words = f"rightly {words}"
        else:
            truth_words = escape(evaluation.classes[truth])
            words = f"<b>{truth_words}</b> ({probabilities[truth]:.1%}) {words}"
        cards.append((make_thumbnail(images[index]), f"{words}<span>{name}</span>"))
    return make_cards(cards)


def make_cards(cards: Sequence[tuple[str, str]]) -> str:
    """Pictures with what is written below them, side by side."""
    drawn = "".join(
        f"<figure>{picture}<figcaption>{words}</figcaption></figure>" for picture, words in cards
    )
    return f'<div class="cards">{drawn}</div>' if cards else ""


def make_thumbnail(source: ImageSource, side: int = THUMBNAIL) -> str:
    """An `<img>` that holds its data; "" of an image that cannot be shown, as of many bands."""
    try:
        image = load_image(source)
    except ImageError:
        return ""
    factor = side // (2 * max(image.size))
    if factor > 1:  # pixels of tiny images stay squares
        size = image.width * factor, image.height * factor
        image = image.resize(size, Image.Resampling.NEAREST)
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _list_skipped(messages: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(message)}</li>" for message in messages[:MAX_SKIPPED])
    more = len(messages) - MAX_SKIPPED
    return f"<ul>{items}</ul>" + (f"<p>and {more} more</p>" if more > 0 else "") if items else ""


def _cell(content: object, name: str = "") -> str:
    return f'<td class="{name}">{content}</td>' if name else f"<td>{content}</td>"
