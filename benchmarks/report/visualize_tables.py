"""Tables of `zoo.visualize` beside other libraries, and of the embedded model, in Markdown."""

from collections.abc import Sequence

from benchmarks.report.markdown import (
    Column,
    bold,
    format_number,
    format_table,
    geometric_mean,
    milliseconds_of,
    text_column,
)
from benchmarks.report.records import Record, ResultRow, is_ours
from benchmarks.report.targets import TargetCheck
from benchmarks.visualize.cases import DREAM, GRAD_CAM_OF_A_FILE

# No method is to be slower than the faster library, and half of them twice as fast.
MIN_TIMES_AS_FAST, MIN_SHARE_TWICE_AS_FAST = 1.0, 0.5
# Forward passes that Grad-CAM of a file may take as long as, and seconds of a dream.
MAX_FORWARD_PASSES, MAX_DREAM_SECONDS = 3.0, 60.0


def format_visualize(record: Record) -> list[str]:
    """A row for each method of each network, what sums them up, and rows of the embedded model."""
    compared = [row for row in record.rows if not all(map(is_ours, row["seconds"]))]
    own = [row for row in record.rows if row not in compared]
    return [
        *record.heading(f"Attributions, jax {record.jax or 'unknown'}"),
        *_format_compared(record, compared),
        *_format_own(own),
    ]


def _format_compared(record: Record, rows: Sequence[ResultRow]) -> list[str]:
    if not rows:
        return []
    present = {name for row in rows for name in row["seconds"]}
    columns: list[Column] = [
        text_column("model"),
        text_column("method"),
        *((f"{name}, ms", milliseconds_of(name)) for name in record.candidates if name in present),
        (f"times as fast (aim ≥ {MIN_TIMES_AS_FAST:g})", format_times_as_fast),
    ]
    ratios = [row["ratio"]["median"] for row in rows]
    slower = [f"{row['model']}, {row['method']}" for row in rows if not _is_reached(row)]
    twice = sum(ratio >= 2 for ratio in ratios)
    reached = twice >= MIN_SHARE_TWICE_AS_FAST * len(rows)
    return [
        "",
        *format_table(columns, rows, left=2),
        "",
        f"Slower than the faster library: {'; '.join(slower) or 'none'}. At least twice as fast: "
        f"{bold(f'{twice} of {len(rows)}', reached)} (aim: half). The geometric mean is "
        f"{format_number(geometric_mean(ratios))} times as fast.",
    ]


def _format_own(rows: Sequence[ResultRow]) -> list[str]:
    if not rows:
        return []
    columns: list[Column] = [
        text_column("model"),
        text_column("method"),
        ("ours, ms", milliseconds_of("ours")),
        ("first call, s", lambda row: format_number(row["first"]["ours"])),
        ("forward pass, ms", milliseconds_of("ours, forward pass")),
        ("target", format_target),
    ]
    return ["", *format_table(columns, rows, left=2)]


def format_times_as_fast(row: ResultRow) -> str:
    """The faster library's time over ours, bold if ours is not longer; its quartiles."""
    median, low, high = (format_number(row["ratio"][key]) for key in ("median", "lower", "upper"))
    return f"{bold(median, _is_reached(row))} ({low} to {high})"


def format_target(row: ResultRow) -> str:
    """What a row of the embedded model has to reach, bold where it does; empty without a target."""
    if row["method"] == GRAD_CAM_OF_A_FILE:
        passes = row["ratio"]["median"]
        check, unit = TargetCheck("forward passes", passes, MAX_FORWARD_PASSES), "forward passes"
    elif row["method"] == DREAM:
        seconds = row["seconds"]["ours"]["median"]
        check, unit = TargetCheck("seconds", seconds, MAX_DREAM_SECONDS), "s"
    else:
        return ""
    return f"{bold(check.text, check.reached)} {unit}"


def _is_reached(row: ResultRow) -> bool:
    return bool(row["ratio"]["median"] >= MIN_TIMES_AS_FAST)
