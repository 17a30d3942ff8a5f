"""How time grows with the batch, the size of images or the number of devices."""

import math
import statistics
from collections.abc import Iterable, Sequence

from benchmarks.report.records import ResultRow


def group_by_axis(rows: Iterable[ResultRow]) -> dict[str, list[ResultRow]]:
    """The rows of a scaling benchmark, by what grows."""
    groups: dict[str, list[ResultRow]] = {}
    for row in rows:
        groups.setdefault(row["axis"], []).append(row)
    return groups


def group_by_line(rows: Iterable[ResultRow]) -> dict[tuple[str, str, str], list[ResultRow]]:
    """Rows of one axis by (model, pass, candidate that was timed), in the order of their values."""
    groups: dict[tuple[str, str, str], list[ResultRow]] = {}
    for row in sorted(rows, key=lambda row: row["value"]):
        for name in row["seconds"]:
            groups.setdefault((row["model"], row["pass"], name), []).append(row)
    return groups


def fit_exponent(line: Sequence[ResultRow], candidate: str) -> float:
    """Slope of log(seconds) over log(value) by least squares; NaN for a single row."""
    if len(line) < 2:
        return math.nan
    x = [math.log(row["value"]) for row in line]
    y = [math.log(row["seconds"][candidate]["median"]) for row in line]
    return statistics.linear_regression(x, y).slope
