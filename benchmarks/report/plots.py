"""Plots of `benchmarks/README.md`, from the files of results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.report.growth import fit_exponent, group_by_axis, group_by_line
from benchmarks.report.markdown import format_exponent
from benchmarks.report.records import Record, ResultRow, is_ours
from benchmarks.report.tables import split_settings, time_ratio
from benchmarks.report.targets import TIME_RATIO, check_targets

mpl.use("Agg")

# The same figures give the same file; text stays text, which keeps it small.
STYLE: Any = {"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9}
# Markers of passes or candidates; reused where there are more of them.
MARKERS = "osD^vPX"


def plot_ratios(record: Record, path: Path) -> None:
    """Ours over each peer, a panel a pass; left of 1, ours is faster. Targets are ticks."""
    passes = list(dict.fromkeys(row["pass"] for row in record.rows))
    peers = [name for name in record.candidates if not is_ours(name)]
    most_rows = max(sum(row["pass"] == name for row in record.rows) for name in passes)
    figure, axes = _make_panels(len(passes), height=1.6 + 0.28 * most_rows)
    for axis, pass_name in zip(axes, passes, strict=True):
        rows = [row for row in record.rows if row["pass"] == pass_name]
        places = np.arange(len(rows))
        for i, peer in enumerate(peers):
            values = [time_ratio(row, peer) for row in rows]
            axis.plot(values, places, MARKERS[i % len(MARKERS)], ms=5, label=f"ours / {peer}")
        # A dot is left of its tick where the target is reached, even where the target is over
        # PyTorch's time of another pass.
        targets = [
            (time_ratio(row, "torch") * check.target / check.figure, place)
            for row, place in zip(rows, places, strict=True)
            for check in check_targets(record, row)
            if check.name == TIME_RATIO
        ]
        if targets:
            axis.plot(*zip(*targets, strict=True), "k|", ms=12, label="target")
        axis.axvline(1, color="grey", lw=0.8)
        axis.set(title=pass_name, xscale="log", yticks=places, ylim=(len(rows) - 0.5, -0.5))
        axis.set_yticklabels(_label_rows(rows))
        _set_plain_ticks(axis.xaxis)
        if peers:
            axis.legend(fontsize=7)
    _save(figure, path)


def plot_growth(record: Record, path: Path) -> None:
    """Seconds against batch, image size or devices, both logarithmic, a panel each."""
    panels = group_by_axis(record.rows)
    figure, axes = _make_panels(len(panels), height=4.5)
    for axis, (name, rows) in zip(axes, panels.items(), strict=True):
        for i, ((model, pass_name, candidate), line) in enumerate(group_by_line(rows).items()):
            values = [row["value"] for row in line]
            timings = [row["seconds"][candidate] for row in line]
            middle = [1e3 * timing["median"] for timing in timings]
            exponent = format_exponent(fit_exponent(line, candidate))
            label = f"{model}, {pass_name}, {candidate}: {exponent}"
            axis.plot(values, middle, f"-{MARKERS[i % len(MARKERS)]}", ms=4, lw=1, label=label)
            low, high = ([1e3 * timing[end] for timing in timings] for end in ("lower", "upper"))
            axis.fill_between(values, low, high, alpha=0.2)
        axis.set(xscale="log", yscale="log", xlabel=name, ylabel="ms")
        _set_plain_ticks(axis.yaxis)
        axis.set_xticks(sorted({row["value"] for row in rows}))
        axis.minorticks_off()
        axis.xaxis.set_major_formatter("{x:g}")
        low, high = axis.get_ylim()
        axis.set_ylim(low / 2, high * 2)  # a constant time should not look like noise
        axis.legend(title="exponent", fontsize=7)
    _save(figure, path)


def _label_rows(rows: Sequence[ResultRow]) -> list[str]:
    """The model of each row, and the settings that differ between rows."""
    varying, _ = split_settings(rows)
    return [", ".join([row["model"], *(str(row.get(name)) for name in varying)]) for row in rows]


def _make_panels(count: int, height: float) -> tuple[Any, Sequence[Any]]:
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, count, figsize=(4.5 * count, height), squeeze=False)
    return figure, list(axes[0])


def _set_plain_ticks(axis: Any) -> None:
    """Labels a logarithmic axis with 1, 2, 5, 10 … instead of powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _save(figure: Any, path: Path) -> None:
    with mpl.rc_context(STYLE):
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
