"""Prints, sums up and plots the rows of `benchmarks.operators`, and checks a GPU's targets."""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report.records import ResultRow

# Two timings of the same program differ by less than this.
NOISE = 1.02


def format_heading(names: Iterable[str], gpu: bool) -> str:
    """The line above the rows."""
    if gpu:
        return f"{'':72}{''.join(f'{name:>{_column_width(name)}}' for name in names)}   limit"
    return f"{'':57}{''.join(f'{name:>18}' for name in names)}    limit"


def format_row(row: ResultRow, names: Iterable[str]) -> str:
    """A row as a line: milliseconds, with half the range between the quartiles."""
    if "missed" in row:
        return _format_gpu_row(row, names)
    cells = [
        f"{1e3 * t['median']:11.2f} ±{500 * (t['upper'] - t['lower']):5.2f}"
        for t in row["seconds"].values()
    ]
    return f"{row['case']:36}{row['pass']:21}{''.join(cells)}{1e3 * row['limit']:9.2f}"


def _format_gpu_row(row: ResultRow, names: Iterable[str]) -> str:
    """A row as a line: microseconds of the device, over the limit, and its targets."""
    ours, limit, target = row["seconds"].get("ours"), row["limit"], row["target"]
    cells = [_microseconds(row["seconds"].get(name), _column_width(name)) for name in names]
    ratio = f"{ours['median'] / limit:.2f}" if ours else "–"
    allowed = f" of {target / limit:.2f}" if target else ""
    return (
        f"{row['case']:51}{row['pass']:21}{''.join(cells)}{1e6 * limit:8.1f}"
        f"{ratio:>7}{allowed:8}  {'; '.join(row['missed']) or 'ok'}"
    )


def _microseconds(timing: Mapping[str, Any] | None, width: int) -> str:
    return f"{1e6 * timing['median']:{width}.1f}" if timing else f"{'–':>{width}}"


def _column_width(name: str) -> int:
    return max(len(name), 7) + 2


def missed_targets(row: ResultRow) -> list[str]:
    """The targets that a row on a GPU misses: its own, and to be no slower than any peer."""
    ours = row["seconds"].get("ours")  # the default implementation
    if ours is None:
        return ["not timed"]
    too_slow = row["target"] is not None and ours["median"] > row["target"]
    slower = [
        f"{ours['median'] / timing['median']:.2f} × {name}"
        for name, timing in row["seconds"].items()
        if name.partition(" ")[0] in ("lax", "torch") and ours["median"] > NOISE * timing["median"]
    ]
    return [f"over {1e6 * row['target']:.1f}"] * too_slow + slower


def describe_gpu_rows(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Lines about all rows of a GPU: targets, gaps between launches, refusals."""
    reached = sum(not row["missed"] for row in rows)
    yield (
        f"{reached} of {len(rows)} rows reach their targets: within the factor of the limit that "
        "stands after «of», and no slower than lax and PyTorch"
    )
    gaps: dict[str, list[float]] = {}
    refusals = dict.fromkeys(
        f"{name} refuses: {reason}" for row in rows for name, reason in row["refusals"].items()
    )
    for row in rows:
        for name, timing in row["seconds"].items():
            gaps.setdefault(name, []).append(1e6 * (timing["wall"] - timing["median"]))
    medians = [f"{name} {statistics.median(each):.1f}" for name, each in gaps.items()]
    yield f"wall time of a call beyond the device's, medians in µs: {', '.join(medians)}"
    yield from refusals


def summarize(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Geometric means of each peer's time over ours, by operator and pass (and dtype)."""
    lines = []
    fields = [field for field in ("op", "pass", "dtype") if rows and field in rows[0]]
    for group in dict.fromkeys(tuple(row[field] for field in fields) for row in rows):
        seconds = [row["seconds"] for row in rows if tuple(row[field] for field in fields) == group]
        names = list(dict.fromkeys(name for each in seconds for name in each))
        for ours in (name for name in names if name.startswith("ours")):
            for peer in (name for name in names if not name.startswith("ours")):
                ratios = [
                    each[peer]["median"] / each[ours]["median"]
                    for each in seconds
                    if ours in each and peer in each
                ]
                if ratios:
                    lines.append(
                        {
                            **dict(zip(fields, group, strict=True)),
                            "of": ours,
                            "peer": peer,
                            "times_as_fast": float(np.exp(np.mean(np.log(ratios)))),
                            "worst": min(ratios),
                        }
                    )
    return lines


def format_summary(line: Mapping[str, Any]) -> str:
    """A line of the summary as a sentence."""
    dtype = f"{line['dtype']:10}" if "dtype" in line else ""
    return (
        f"{line['op']:12}{line['pass']:22}{dtype}{line['of']} {line['times_as_fast']:.2f} times as "
        f"fast as {line['peer']} (at worst {line['worst']:.2f})"
    )


def plot_rows(rows: list[dict[str, Any]], path: Path) -> None:
    """Plots milliseconds of the depthwise convolutions, one panel a pass."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in rows if row["op"] == "depthwise"]
    if not rows:
        raise SystemExit(f"{path}: no depthwise convolution was timed")
    passes = list(dict.fromkeys(row["pass"] for row in rows))
    names = list(dict.fromkeys(name for row in rows for name in row["seconds"]))
    figure, axes = plt.subplots(1, len(passes), figsize=(5 * len(passes), 6), sharey=True)
    for axis, pass_name in zip(np.atleast_1d(axes), passes, strict=True):
        shown = [row for row in rows if row["pass"] == pass_name]
        places = np.arange(len(shown))
        for i, name in enumerate(names):
            timings = [row["seconds"].get(name, {"median": np.nan}) for row in shown]
            values = [1e3 * each["median"] for each in timings]
            axis.barh(
                places + (i + 0.5) / (len(names) + 1) - 0.5, values, 0.8 / len(names), label=name
            )
        axis.plot([1e3 * row["limit"] for row in shown], places, "k|", ms=14, label="limit")
        axis.set(title=pass_name, xscale="log", xlabel="ms", yticks=places)
        axis.set_yticklabels([row["case"] for row in shown])
    np.atleast_1d(axes)[0].invert_yaxis()
    np.atleast_1d(axes)[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
