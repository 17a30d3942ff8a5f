"""Tables of what training adds to a model's step, in Markdown."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.report.markdown import (
    Column,
    bold,
    format_number,
    format_table,
    milliseconds_of,
    text_column,
)
from benchmarks.report.records import Record, ResultRow

# What a step of `fit` may take beyond the bare one, and our input over PyTorch's time.
MAX_OVERHEAD = 0.05
MAX_TIME_RATIO = 1.0


def format_training(record: Record) -> list[str]:
    """A row for each case: milliseconds of a step, or every candidate's photos a second."""
    topic, candidates = record.content["topic"], record.candidates
    columns: list[Column] = [text_column("case"), text_column("batch")]
    if topic == "loop":
        columns += [(f"{name}, ms", milliseconds_of(name)) for name in candidates]
        columns.append((f"overhead (target ≤ {100 * MAX_OVERHEAD:g} %)", format_overhead))
    else:
        columns += [(f"{name}, photos/s", _rate_of(name)) for name in candidates]
    if topic == "input":
        columns.append((f"time, ours / torch (target ≤ {MAX_TIME_RATIO:g})", format_ratio))
    return [
        *record.heading(f"Training, {topic}"),
        "",
        *format_table(columns, record.rows, left=1),
        *_format_refusals(record),
    ]


def format_overhead(row: ResultRow) -> str:
    """By how many percent a step takes longer in `fit`, bold if few enough; its quartiles."""
    shares = [row["ratio"][key] - 1 for key in ("median", "lower", "upper")]
    median, low, high = (f"{100 * share:.1f}".replace("-", "−") for share in shares)
    return f"{bold(f'{median} %', shares[0] <= MAX_OVERHEAD)} ({low} to {high} %)"


def format_ratio(row: ResultRow) -> str:
    """Our time over PyTorch's, bold if short enough; its quartiles."""
    median, low, high = (row["ratio"][key] for key in ("median", "lower", "upper"))
    text = bold(f"{median:.2f}", median <= MAX_TIME_RATIO)
    return f"{text} ({low:.2f} to {high:.2f})"


def _rate_of(name: str) -> Callable[[Mapping[str, Any]], str]:
    """A column's cells: photos a second, and in brackets their quartiles."""

    def format_cell(row: Mapping[str, Any]) -> str:
        if name not in row["seconds"]:
            return "–"
        timing = row["seconds"][name]
        median, low, high = (
            format_number(row["batch"] / timing[key]) for key in ("median", "upper", "lower")
        )
        return f"{median} ({low} to {high})"

    return format_cell


def _format_refusals(record: Record) -> list[str]:
    """Why a candidate has no figures."""
    reasons = dict.fromkeys(
        f"- {name} was not timed: {reason}"
        for row in record.rows
        for name, reason in row.get("refusals", {}).items()
    )
    return ["", *reasons] if reasons else []
