"""The plots of `benchmarks/README.md`, from the files of results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.report.records import Record, Row, own
from benchmarks.report.tables import by_axis, exponent, lines, ratio, settings, slope
from benchmarks.report.targets import verdicts

mpl.use("Agg")

# The same figures give the same file; text stays text, which keeps it small.
STYLE: Any = {"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9}
# A mark for each pass or candidate, over again where there are more.
MARKS = "osD^vPX"


def ratios(record: Record, path: Path) -> None:
    """Ours over each peer, a panel a pass; left of 1, ours is the faster one. Targets are ticks."""
    passes = list(dict.fromkeys(row["pass"] for row in record.rows))
    peers = [name for name in record.candidates if not own(name)]
    most = max(sum(row["pass"] == pass_ for row in record.rows) for pass_ in passes)
    figure, axes = _panels(len(passes), height=1.6 + 0.28 * most)
    for axis, pass_ in zip(axes, passes, strict=True):
        rows = [row for row in record.rows if row["pass"] == pass_]
        places = np.arange(len(rows))
        for i, peer in enumerate(peers):
            values = [ratio(row, "ours", peer) for row in rows]
            axis.plot(values, places, MARKS[i % len(MARKS)], ms=5, label=f"ours / {peer}")
        # A dot is left of its tick where the target is reached, also where what counts is PyTorch's
        # time of another pass.
        aims = [
            (ratio(row, "ours", "torch") * verdict.target / verdict.figure, place)
            for row, place in zip(rows, places, strict=True)
            for verdict in verdicts(record, row)
            if verdict.what == "ours / torch"
        ]
        if aims:
            axis.plot(*zip(*aims, strict=True), "k|", ms=12, label="target")
        axis.axvline(1, color="grey", lw=0.8)
        axis.set(title=pass_, xscale="log", yticks=places, ylim=(len(rows) - 0.5, -0.5))
        axis.set_yticklabels(_labels(rows))
        _plain_ticks(axis.xaxis)
        if peers:
            axis.legend(fontsize=7)
    _save(figure, path)


def growth(record: Record, path: Path) -> None:
    """Seconds against batch, image size or devices, both logarithmic, a panel each."""
    panels = by_axis(record.rows)
    figure, axes = _panels(len(panels), height=4.5)
    for axis, (name, rows) in zip(axes, panels.items(), strict=True):
        for i, ((model, pass_, who), line) in enumerate(lines(rows).items()):
            values = [row["value"] for row in line]
            timings = [row["seconds"][who] for row in line]
            middle = [1e3 * timing["median"] for timing in timings]
            label = f"{model}, {pass_}, {who}: {slope(exponent(line, who))}"
            axis.plot(values, middle, f"-{MARKS[i % len(MARKS)]}", ms=4, lw=1, label=label)
            low, high = ([1e3 * timing[end] for timing in timings] for end in ("lower", "upper"))
            axis.fill_between(values, low, high, alpha=0.2)
        axis.set(xscale="log", yscale="log", xlabel=name, ylabel="ms")
        _plain_ticks(axis.yaxis)
        axis.set_xticks(sorted({row["value"] for row in rows}))
        axis.minorticks_off()
        axis.xaxis.set_major_formatter("{x:g}")
        low, high = axis.get_ylim()
        axis.set_ylim(low / 2, high * 2)  # what is constant shall not look like noise
        axis.legend(title="exponent", fontsize=7)
    _save(figure, path)


def _labels(rows: Sequence[Row]) -> list[str]:
    """The model, and the settings that rows of one model differ in."""
    differ, _ = settings(rows)
    return [", ".join([row["model"], *(str(row.get(name)) for name in differ)]) for row in rows]


def _panels(count: int, height: float) -> tuple[Any, Sequence[Any]]:
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, count, figsize=(4.5 * count, height), squeeze=False)
    return figure, list(axes[0])


def _plain_ticks(axis: Any) -> None:
    """On a logarithmic axis: 1, 2, 5, 10 … in place of powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _save(figure: Any, path: Path) -> None:
    with mpl.rc_context(STYLE):
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
