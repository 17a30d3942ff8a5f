"""What became slower or faster from one file of results to another, beyond the noise."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.report.records import KEYS, Record, RecordError, Row, key, own

# A smaller change counts for nothing, however narrow the quartiles: it is what the machine's state
# (where memory lies, how warm it is) makes of one program.
NOTABLE = 1.05
# Stands for PyTorch where it cannot tell the drift.
STILL = {"lower": 1.0, "median": 1.0, "upper": 1.0}


class Change(NamedTuple):
    """One candidate's row in both files.

    Args:
      row: the words of its key.
      candidate: whose time it is.
      old: seconds before; 0 where it was not timed.
      new: seconds now; 0 where it refuses.
      ratio: new over old, without the machine's drift where PyTorch tells it.
      drift: PyTorch's new time over its old one in the same row; None where it cannot be told.
      verdict: "slower", "faster", "" within the noise, or why there is no time now.
    """

    row: str
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


def changes(old: Record, new: Record) -> list[Change]:
    """Every row of ours that was timed in the old file and is in the new one.

    A change counts where the ranges between the quartiles do not overlap and the medians differ by
    more than `NOTABLE`. Where PyTorch of one version was timed in the same row of both, ours over
    PyTorch is compared in place of seconds, over the range that the quartiles of both allow: the
    noise of both goes in, and what slowed both down goes out.

    Raises:
      RecordError: the files are of different kinds, or have no such row in common.
    """
    if old.kind != new.kind:
        raise RecordError(f"{new.path}: expected a benchmark of {old.kind}, got one of {new.kind}")
    if old.kind not in KEYS:
        raise RecordError(f"{old.path}: expected a benchmark of {', '.join(KEYS)}, got {old.kind}")
    steady = old.versions("torch").get("torch") == new.versions("torch").get("torch")
    found = []
    for was, now in _common(old, new):
        words = ", ".join(
            f"{name} {part}" if isinstance(part, int) else str(part)
            for name, part in zip(KEYS[new.kind], key(new, now), strict=True)
        )
        for candidate, timing in was["seconds"].items():
            if not own(candidate):
                continue
            if candidate in now["seconds"]:
                found.append(_change(words, candidate, was, now, steady))
            elif reason := now.get("refusals", {}).get(candidate):
                before = timing["median"]
                found.append(Change(words, candidate, before, 0.0, 0.0, None, f"gone: {reason}"))
    if not found:
        raise RecordError(f"{new.path}: expected rows of ours that {old.path} has, too; got none")
    return found


def report(old: Record, new: Record, found: Sequence[Change]) -> Iterator[str]:
    """Lines for the terminal: what differs between the runs, every change, and how many count."""
    for name, was, now in (
        ("device", old.told["device"], new.told["device"]),
        ("jax", old.jax, new.jax),
    ):
        if was != now:
            yield f"different {name}: {was or 'unknown'} before, {now or 'unknown'} now"
    width = max(len(f"{change.row}, {change.candidate}") for change in found) + 2
    yield f"{'':{width}}{'old, ms':>10}{'new, ms':>10}{'ratio':>8}{'drift':>8}"
    for change in found:
        new_ms, ratio = (1e3 * change.new, change.ratio) if change.new else (None, None)
        figures = [(1e3 * change.old, 10), (new_ms, 10), (ratio, 8), (change.drift, 8)]
        cells = [f"{each:{room}.2f}" if each else f"{'–':>{room}}" for each, room in figures]
        name = f"{change.row}, {change.candidate}"
        yield f"{name:{width}}{''.join(cells)}  {change.verdict}".rstrip()
    worse = sum(change.regression for change in found)
    faster = sum(change.verdict == "faster" for change in found)
    yield f"{len(found)} timings in both: beyond the noise {worse} worse, {faster} faster"
    alone = [len(record.rows) - len(_common(old, new)) for record in (old, new)]
    if any(alone):
        yield f"rows in one file alone: {alone[0]} in the old, {alone[1]} in the new"


def _common(old: Record, new: Record) -> list[tuple[Row, Row]]:
    """The rows that both have: the old one and the new one."""
    before = {key(old, row): row for row in old.rows}
    return [(before[key(new, row)], row) for row in new.rows if key(new, row) in before]


def _change(words: str, candidate: str, was: Row, now: Row, steady: bool) -> Change:
    timings = [row["seconds"][candidate] for row in (was, now)]
    peers = [row["seconds"].get("torch") for row in (was, now)]
    drift = peers[1]["median"] / peers[0]["median"] if steady and all(peers) else None
    if drift is None:
        peers = [STILL, STILL]
    pairs = list(zip(timings, peers, strict=True))
    low = [timing["lower"] / peer["upper"] for timing, peer in pairs]
    middle = [timing["median"] / peer["median"] for timing, peer in pairs]
    high = [timing["upper"] / peer["lower"] for timing, peer in pairs]
    ratio = middle[1] / middle[0]
    verdict = ""
    if ratio > NOTABLE and low[1] > high[0]:
        verdict = "slower"
    elif ratio < 1 / NOTABLE and high[1] < low[0]:
        verdict = "faster"
    before, after = (timing["median"] for timing in timings)
    return Change(words, candidate, before, after, ratio, drift, verdict)
