"""What `benchmarks.operators` makes of its rows: a table, a summary, a plot, and on a GPU aims."""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Row = Mapping[str, Any]

# Two timings of the same program differ by less than this.
NOISE = 1.02


def heading(names: Iterable[str], gpu: bool) -> str:
    """Above the rows."""
    if gpu:
        return f"{'':72}{''.join(f'{name:>{_width(name)}}' for name in names)}   limit"
    return f"{'':57}{''.join(f'{name:>18}' for name in names)}    limit"


def show(row: Row, names: Iterable[str]) -> str:
    """A row as a line: milliseconds, with half the range between the quartiles."""
    if "missed" in row:
        return _show_gpu(row, names)
    cells = [
        f"{1e3 * t['median']:11.2f} ±{500 * (t['upper'] - t['lower']):5.2f}"
        for t in row["seconds"].values()
    ]
    return f"{row['case']:36}{row['pass']:21}{''.join(cells)}{1e3 * row['limit']:9.2f}"


def _show_gpu(row: Row, names: Iterable[str]) -> str:
    """A row as a line: microseconds of the device, and how they stand to the aims."""
    own, limit, target = row["seconds"].get("ours"), row["limit"], row["target"]
    cells = [_micro(row["seconds"].get(name), _width(name)) for name in names]
    ratio = f"{own['median'] / limit:.2f}" if own else "–"
    allowed = f" of {target / limit:.2f}" if target else ""
    return (
        f"{row['case']:51}{row['pass']:21}{''.join(cells)}{1e6 * limit:8.1f}"
        f"{ratio:>7}{allowed:8}  {'; '.join(row['missed']) or 'ok'}"
    )


def _micro(timing: Mapping[str, Any] | None, width: int) -> str:
    return f"{1e6 * timing['median']:{width}.1f}" if timing else f"{'–':>{width}}"


def _width(name: str) -> int:
    return max(len(name), 7) + 2


def missed(row: Row) -> list[str]:
    """Which aims of a row on a GPU are not reached: its target, and never slower than a peer."""
    own = row["seconds"].get("ours")  # what runs where nobody chooses
    if own is None:
        return ["not timed"]
    over = row["target"] is not None and own["median"] > row["target"]
    slower = [
        f"{own['median'] / told['median']:.2f} × {name}"
        for name, told in row["seconds"].items()
        if name.partition(" ")[0] in ("lax", "torch") and own["median"] > NOISE * told["median"]
    ]
    return [f"over {1e6 * row['target']:.1f}"] * over + slower


def aims(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Lines on all rows of a GPU: aims, gaps between launches, refusals."""
    reached = sum(not row["missed"] for row in rows)
    yield (
        f"{reached} of {len(rows)} rows reach their aims: within the factor of the limit that "
        "stands after «of», and slower than neither lax nor PyTorch"
    )
    gaps: dict[str, list[float]] = {}
    refusals = dict.fromkeys(
        f"{name} refuses: {reason}" for row in rows for name, reason in row["refusals"].items()
    )
    for row in rows:
        for name, told in row["seconds"].items():
            gaps.setdefault(name, []).append(1e6 * (told["wall"] - told["median"]))
    medians = [f"{name} {statistics.median(each):.1f}" for name, each in gaps.items()]
    yield f"µs that a call's wall time is above the device's, medians: {', '.join(medians)}"
    yield from refusals


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Geometric means of each peer's time over ours, by operator and pass (and dtype)."""
    out = []
    kinds = [kind for kind in ("op", "pass", "dtype") if rows and kind in rows[0]]
    for key in dict.fromkeys(tuple(row[kind] for kind in kinds) for row in rows):
        seconds = [row["seconds"] for row in rows if tuple(row[kind] for kind in kinds) == key]
        names = list(dict.fromkeys(name for each in seconds for name in each))
        for own in (name for name in names if name.startswith("ours")):
            for peer in (name for name in names if not name.startswith("ours")):
                ratios = [
                    each[peer]["median"] / each[own]["median"]
                    for each in seconds
                    if own in each and peer in each
                ]
                if ratios:
                    out.append(
                        {
                            **dict(zip(kinds, key, strict=True)),
                            "of": own,
                            "peer": peer,
                            "times_as_fast": float(np.exp(np.mean(np.log(ratios)))),
                            "worst": min(ratios),
                        }
                    )
    return out


def tell(line: Row) -> str:
    """A line of the summary in words."""
    dtype = f"{line['dtype']:10}" if "dtype" in line else ""
    return (
        f"{line['op']:12}{line['pass']:22}{dtype}{line['of']} {line['times_as_fast']:.2f} times as "
        f"fast as {line['peer']} (at worst {line['worst']:.2f})"
    )


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Milliseconds of every case, one panel a pass of the depthwise convolution."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in rows if row["op"] == "depthwise"]
    if not rows:
        raise SystemExit(f"{path}: no depthwise convolution was timed")
    passes = list(dict.fromkeys(row["pass"] for row in rows))
    names = list(dict.fromkeys(name for row in rows for name in row["seconds"]))
    figure, axes = plt.subplots(1, len(passes), figsize=(5 * len(passes), 6), sharey=True)
    for axis, pass_ in zip(np.atleast_1d(axes), passes, strict=True):
        own = [row for row in rows if row["pass"] == pass_]
        places = np.arange(len(own))
        for i, name in enumerate(names):
            timed = [row["seconds"].get(name, {"median": np.nan}) for row in own]
            values = [1e3 * each["median"] for each in timed]
            axis.barh(
                places + (i + 0.5) / (len(names) + 1) - 0.5, values, 0.8 / len(names), label=name
            )
        axis.plot([1e3 * row["limit"] for row in own], places, "k|", ms=14, label="limit")
        axis.set(title=pass_, xscale="log", xlabel="ms", yticks=places)
        axis.set_yticklabels([row["case"] for row in own])
    np.atleast_1d(axes)[0].invert_yaxis()
    np.atleast_1d(axes)[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
