"""Tables of single calls of deployed models, and of their processes' starts, in Markdown."""

from collections.abc import Callable
from typing import Any

from benchmarks.models.deployed import ONNXRUNTIME
from benchmarks.report.markdown import (
    Column,
    bold,
    format_number,
    format_table,
    milliseconds_of,
    text_column,
)
from benchmarks.report.records import Record, ResultRow, is_ours
from benchmarks.report.tables import (
    format_heading,
    list_refusals,
    split_settings,
    summarize_targets,
)
from benchmarks.report.targets import check_latencies, check_latency, find_ratio


def format_latency(record: Record) -> list[str]:
    """A row for each model, batch and mode: every candidate's percentiles, ratios and target."""
    varying, fixed = split_settings(record.rows)
    checks = list(check_latencies(record))
    columns: list[Column] = [*map(text_column, ("model", *varying, "mode"))]
    left = len(columns)
    columns += [(f"{name}, ms", _percentiles_of(name)) for name in record.candidates]
    columns.append(("calls of each", _count_calls))
    if ONNXRUNTIME in record.candidates:
        ours = filter(is_ours, record.candidates)
        columns += [(f"{name} / {ONNXRUNTIME}", _ratio_of(name)) for name in ours]
    if checks:
        columns.append(("target", _format_target))
    missed = [
        f"- {where}: {check.name} {check.text}" for where, check in checks if not check.reached
    ]
    return [
        *format_heading(record, fixed),
        "Milliseconds: median / 90th / 99th percentile.",
        "",
        *format_table(columns, record.rows, left),
        *summarize_targets(len(checks), missed),
        *list_refusals(record),
        *_format_starts(record),
    ]


def _format_starts(record: Record) -> list[str]:
    """Seconds of whole processes, if they were timed."""
    rows = record.content.get("starts")
    if not rows:
        return []
    names = dict.fromkeys(name for row in rows for name in row["seconds"])
    columns: list[Column] = [
        *map(text_column, ("model", "batch")),
        *((f"{name}, ms", milliseconds_of(name)) for name in names),
    ]
    title = "From a process's start to its first logits, with the weights in a file:"
    return ["", title, "", *format_table(columns, rows, left=2)]


def _percentiles_of(name: str) -> Callable[[ResultRow], str]:
    """A column's cells: a candidate's percentiles, a dash where it has none."""

    def format_cell(row: ResultRow) -> str:
        if name not in row["seconds"]:
            return "–"
        timing = row["seconds"][name]
        return " / ".join(format_number(1e3 * timing[key]) for key in ("median", "p90", "p99"))

    return format_cell


def _count_calls(row: ResultRow) -> str:
    """The number of samples, the least of all candidates."""
    return str(min((timing["count"] for timing in row["seconds"].values()), default="–"))


def _ratio_of(name: str) -> Callable[[ResultRow], str]:
    """A column's cells: a candidate's median over onnxruntime's."""

    def format_cell(row: ResultRow) -> str:
        ratio: Any = find_ratio(row, name, ONNXRUNTIME)
        return "–" if ratio is None else format_number(ratio)

    return format_cell


def _format_target(row: ResultRow) -> str:
    """A row's target; bold where it is reached."""
    check = check_latency(row)
    return bold(check.text, check.reached) if check else ""
