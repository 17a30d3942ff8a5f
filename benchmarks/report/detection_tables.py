"""Tables of detectors beside torchvision's, and of the shapes that photos are padded to."""

from collections.abc import Iterator

from benchmarks.detection.cases import DETECT, NATIVE, OURS, SELECT, STEP
from benchmarks.report.markdown import (
    Column,
    bold,
    format_number,
    format_table,
    milliseconds_of,
    text_column,
)
from benchmarks.report.records import Record, ResultRow
from benchmarks.report.tables import summarize_targets
from benchmarks.report.targets import TargetCheck

# The most that ours may take, over torchvision.
MAX_DETECT_RATIO = {"SSDLite320_MobileNetV3_Large": 0.8}
MAX_OTHER_DETECT_RATIO, MAX_STEP_RATIO = 1.0, 1.2
MAX_COMPILE_SECONDS = 30.0
# Of a photo's time from pixels to boxes, in what follows the network.
MAX_SELECT_SHARE = 0.1
RATIO = "ours / torch"


def format_detection(record: Record) -> list[str]:
    """A row for each model, work and batch, what reaches its target, and the shapes of photos."""
    compiled = [name for name in record.candidates if name in (OURS, NATIVE)]
    columns: list[Column] = [
        *map(text_column, ("model", "work", "batch")),
        *((f"{name}, ms", milliseconds_of(name)) for name in record.candidates),
        (RATIO, format_ratio),
        *(
            (f"compile, s: {name}", lambda row, name=name: _format_compile(row, name))
            for name in compiled
        ),
    ]
    checks = [(row, check) for row in record.rows for check in check_detection(record, row)]
    missed = [
        f"- {row['model']}, {row['work']}, batch {row['batch']}: {check.name} {check.text}"
        for row, check in checks
        if not check.reached
    ]
    return [
        *record.heading(f"Detection, jax {record.jax or 'unknown'}"),
        "",
        *format_table(columns, record.rows, left=3),
        *summarize_targets(len(checks), missed),
        *_format_canvases(record),
    ]


def check_detection(record: Record, row: ResultRow) -> Iterator[TargetCheck]:
    """The targets of a row: time beside torchvision, time to compile, share of the selection."""
    if check := check_ratio(row):
        yield check
    if row["work"] in (DETECT, STEP):
        for name, seconds in row["compile"].items():
            yield TargetCheck(f"compile of {name}, s", seconds, MAX_COMPILE_SECONDS)
    whole = next(
        (
            each["seconds"]
            for each in record.rows
            if (each["model"], each["work"], each["batch"]) == (row["model"], DETECT, row["batch"])
        ),
        None,
    )
    if row["work"] == SELECT and whole:
        all_of_it = whole.get(NATIVE) or whole[OURS]
        share = row["seconds"][OURS]["median"] / all_of_it["median"]
        yield TargetCheck("share of the whole", share, MAX_SELECT_SHARE)


def check_ratio(row: ResultRow) -> TargetCheck | None:
    """The target beside torchvision of a row that has one."""
    bounds = {
        DETECT: MAX_DETECT_RATIO.get(row["model"], MAX_OTHER_DETECT_RATIO),
        STEP: MAX_STEP_RATIO,
    }
    if row["work"] not in bounds or "ratio" not in row:
        return None
    return TargetCheck(RATIO, row["ratio"]["median"], bounds[row["work"]])


def format_ratio(row: ResultRow) -> str:
    """Our time over torchvision's, and its quartiles; bold where the target is reached."""
    if "ratio" not in row:
        return "–"
    median, low, high = (format_number(row["ratio"][key]) for key in ("median", "lower", "upper"))
    check = check_ratio(row)
    return f"{bold(median, check is not None and check.reached)} ({low} to {high})"


def _format_compile(row: ResultRow, name: str) -> str:
    seconds = row["compile"].get(name)
    return "–" if seconds is None else format_number(seconds)


def _format_canvases(record: Record) -> list[str]:
    """How many shapes there are, and how much area is padding, if any model pads photos."""
    rows = record.content["canvases"]
    if not rows:
        return []
    columns: list[Column] = [
        ("shorter and longer side", lambda row: " to ".join(map(str, row["sides"]))),
        text_column("photos"),
        text_column("sizes"),
        ("shapes to compile", lambda row: str(row["canvases"])),
        ("without padding", lambda row: str(row["without"])),
        ("more area, mean", lambda row: f"{row['mean']:.1%}"),
        ("at most", lambda row: f"{row['most']:.1%}"),
    ]
    title = "Photos that keep their shape are padded to one of a few:"
    return ["", title, "", *format_table(columns, rows, left=2)]
