"""Compares two files of results: what became slower or faster, beyond the noise."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.report.records import ROW_KEYS, Record, RecordError, ResultRow, is_ours, row_key

# A smaller change does not count, however narrow the quartiles: the state of the machine (where
# memory lies, how warm it is) changes a program's time by so much.
MIN_CHANGE = 1.05
# Stands for PyTorch's timing where it cannot show the machine's drift.
NO_DRIFT = {"lower": 1.0, "median": 1.0, "upper": 1.0}


class Change(NamedTuple):
    """One candidate's timing in both files.

    Args:
      row_name: the values that identify the row.
      candidate: whose time it is.
      old: seconds before.
      new: seconds now; 0 where it refuses.
      ratio: new over old, without the machine's drift where PyTorch shows it.
      drift: PyTorch's new time over its old one in the same row; None if unknown.
      verdict: "slower", "faster", "" within the noise, or why there is no time now.
    """

    row_name: str
    candidate: str
    old: float
    new: float
    ratio: float
    drift: float | None
    verdict: str

    @property
    def regression(self) -> bool:
        """Whether it is worse now."""
        return self.verdict not in ("", "faster")


def find_changes(old: Record, new: Record) -> list[Change]:
    """Compares every row of ours that was timed in the old file and is in the new one.

    A change counts where the ranges between the quartiles do not overlap and the medians differ by
    more than `MIN_CHANGE`. Where PyTorch of one version was timed in the same row of both, ours
    over PyTorch is compared instead of seconds, over the range that the quartiles of both allow:
    this adds PyTorch's noise, and removes what slowed both down.

    Raises:
      RecordError: the files are of different kinds, or have no such row in common.
    """
    if old.kind != new.kind:
        raise RecordError(f"{new.path}: expected a benchmark of {old.kind}, got one of {new.kind}")
    if old.kind not in ROW_KEYS:
        known = ", ".join(ROW_KEYS)
        raise RecordError(f"{old.path}: expected a benchmark of {known}, got {old.kind}")
    same_torch = old.versions("torch").get("torch") == new.versions("torch").get("torch")
    changes = []
    for old_row, new_row in _match_rows(old, new):
        row_name = ", ".join(
            f"{name} {value}" if isinstance(value, int) else str(value)
            for name, value in zip(ROW_KEYS[new.kind], row_key(new, new_row), strict=True)
        )
        for candidate, timing in old_row["seconds"].items():
            if not is_ours(candidate):
                continue
            if candidate in new_row["seconds"]:
                changes.append(_compare(row_name, candidate, old_row, new_row, same_torch))
            elif reason := new_row.get("refusals", {}).get(candidate):
                seconds, verdict = timing["median"], f"gone: {reason}"
                changes.append(Change(row_name, candidate, seconds, 0.0, 0.0, None, verdict))
    if not changes:
        raise RecordError(f"{new.path}: expected rows of ours that {old.path} has, too; got none")
    return changes


def format_changes(old: Record, new: Record, changes: Sequence[Change]) -> Iterator[str]:
    """Lines: differences between the runs, every change, and how many count."""
    for name, before, now in (
        ("device", old.content["device"], new.content["device"]),
        ("jax", old.jax, new.jax),
    ):
        if before != now:
            yield f"different {name}: {before or 'unknown'} before, {now or 'unknown'} now"
    names = [f"{change.row_name}, {change.candidate}" for change in changes]
    width = max(map(len, names)) + 2
    yield f"{'':{width}}{'old, ms':>10}{'new, ms':>10}{'ratio':>8}{'drift':>8}"
    for name, change in zip(names, changes, strict=True):
        new_ms, ratio = (1e3 * change.new, change.ratio) if change.new else (None, None)
        figures = [(1e3 * change.old, 10), (new_ms, 10), (ratio, 8), (change.drift, 8)]
        cells = [
            f"{each:{columns}.2f}" if each else f"{'–':>{columns}}" for each, columns in figures
        ]
        yield f"{name:{width}}{''.join(cells)}  {change.verdict}".rstrip()
    worse = sum(change.regression for change in changes)
    faster = sum(change.verdict == "faster" for change in changes)
    yield f"{len(changes)} timings in both: beyond the noise {worse} worse, {faster} faster"
    unmatched = [len(record.rows) - len(_match_rows(old, new)) for record in (old, new)]
    if any(unmatched):
        yield f"rows in one file alone: {unmatched[0]} in the old, {unmatched[1]} in the new"


def print_comparison(old: Record, new: Record) -> int:
    """Prints what changed; returns the exit code, 1 where anything is worse."""
    changes = find_changes(old, new)
    print(*format_changes(old, new, changes), sep="\n")
    return int(any(change.regression for change in changes))


def _match_rows(old: Record, new: Record) -> list[tuple[ResultRow, ResultRow]]:
    """(old row, new row) of all that both files have."""
    old_rows = {row_key(old, row): row for row in old.rows}
    return [(old_rows[row_key(new, row)], row) for row in new.rows if row_key(new, row) in old_rows]


def _compare(
    row_name: str, candidate: str, old_row: ResultRow, new_row: ResultRow, same_torch: bool
) -> Change:
    rows = (old_row, new_row)
    timings = [row["seconds"][candidate] for row in rows]
    peers = [row["seconds"].get("torch") for row in rows]
    drift = peers[1]["median"] / peers[0]["median"] if same_torch and all(peers) else None
    if drift is None:
        peers = [NO_DRIFT, NO_DRIFT]
    pairs = list(zip(timings, peers, strict=True))
    low = [timing["lower"] / peer["upper"] for timing, peer in pairs]
    middle = [timing["median"] / peer["median"] for timing, peer in pairs]
    high = [timing["upper"] / peer["lower"] for timing, peer in pairs]
    ratio = middle[1] / middle[0]
    verdict = ""
    if ratio > MIN_CHANGE and low[1] > high[0]:
        verdict = "slower"
    elif ratio < 1 / MIN_CHANGE and high[1] < low[0]:
        verdict = "faster"
    old_seconds, new_seconds = (timing["median"] for timing in timings)
    return Change(row_name, candidate, old_seconds, new_seconds, ratio, drift, verdict)
