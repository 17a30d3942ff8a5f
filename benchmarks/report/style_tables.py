"""Tables of style transfer: times beside PyTorch, and losses beside optimisation, in Markdown."""

from collections.abc import Callable, Mapping
from statistics import fmean
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
from benchmarks.style.cases import NETWORK, OPTIMIZED, PAINT, PICTURES, TORCH, UNPAINTED, ZOO

# Painting is to be no slower than PyTorch, and a training step to take at most 1.2 times as long.
MIN_TIMES_AS_FAST = {True: 1.0, False: 1 / 1.2}
# The loss of a network's picture over that of a picture that optimisation found.
MAX_LOSS_RATIO = 1.5
TITLES = {UNPAINTED: "the photo", NETWORK: "the network's picture", OPTIMIZED: "optimisation's"}


def format_style(record: Record) -> list[str]:
    """A row for each case: milliseconds of ours and PyTorch's, and how many times as fast."""
    columns: list[Column] = [
        text_column("workload"),
        *((f"{name}, ms", milliseconds_of(name)) for name in (ZOO, TORCH)),
        ("first call, s: ours", lambda row: format_number(row["first"][ZOO])),
        ("times as fast", format_times_as_fast),
    ]
    return [
        *record.heading(f"Style transfer, jax {record.jax or 'unknown'}"),
        "",
        *format_table(columns, record.rows, left=1),
    ]


def format_times_as_fast(row: ResultRow) -> str:
    """PyTorch's time over ours, bold if the target is reached; its quartiles."""
    least = MIN_TIMES_AS_FAST[row["workload"].startswith(PAINT)]
    median, low, high = (format_number(row["ratio"][key]) for key in ("median", "lower", "upper"))
    return f"{bold(median, row['ratio']['median'] >= least)} ({low} to {high})"


def format_quality(record: Record) -> list[str]:
    """A row for each style, with means over the photos, of losses and their ratio."""
    styles = dict.fromkeys(row["style"] for row in record.rows)
    columns: list[Column] = [
        text_column("style"),
        *((f"loss of {TITLES[kind]}", _format_loss(kind)) for kind in PICTURES),
        (f"ratio (aim ≤ {MAX_LOSS_RATIO:g})", _format_loss_ratio),
    ]
    rows = [
        {"style": name, "rows": [row for row in record.rows if row["style"] == name]}
        for name in styles
    ]
    everything = {"style": "all", "rows": record.rows}
    versions = "; ".join(f"{name} {number}" for name, number in record.content["versions"].items())
    return [
        f"### Losses of the embedded styles, judged by {record.content['judge']}",
        "",
        f"{record.content['device']}; {versions}; commit {record.content['commit']}.",
        *(f"`{command}`" for command in record.commands),
        "",
        *format_table(columns, [*rows, everything], left=1),
    ]


def _format_loss(kind: str) -> Callable[[Mapping[str, Any]], str]:
    """A column's cells: the mean loss, and in brackets those of content and style."""

    def format_cell(row: Mapping[str, Any]) -> str:
        total, content, style = (
            fmean(each[kind][part] for each in row["rows"]) for part in ("loss", "content", "style")
        )
        return f"{total:.2f} ({content:.2f}, {style:.3f})"

    return format_cell


def _format_loss_ratio(row: Mapping[str, Any]) -> str:
    ratios = [each["ratio"] for each in row["rows"]]
    mean, low, high = (
        format_number(figure) for figure in (fmean(ratios), min(ratios), max(ratios))
    )
    return f"{bold(mean, fmean(ratios) <= MAX_LOSS_RATIO)} ({low} to {high})"
