"""The time that a device spends on a function, by its framework's profiler.

Calls are enqueued back to back on sets of operands in turn, which together are larger than the
device's caches. CUDA events around them would count the gaps as well in which a short kernel leaves
the device waiting for the next launch: those depend on the host, and XLA's calls give events no
place. So both frameworks' profilers, which read the start and the end of each kernel from CUPTI,
tell in what spans the device was busy. The wall time of the same calls, untraced, shows the gaps.
"""

import collections
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import alternate

# Seconds that the calls of one round last at least.
SHORTEST = 0.005
# Rounds before the first that counts: they compile, tune, and wake the device's clocks.
WARM_UP = 3

Span = tuple[float, float]  # nanoseconds from some moment on
Tracer = Callable[[Callable[[], Any]], list[Span]]

# In a trace of XLA's, the planes and lines that hold a platform's work, by how they begin.
LINES = {"cuda": ("/device:GPU", "Stream"), "cpu": ("/host:CPU", "tf_XLA")}


class Calls:
    """A function called on several sets of operands in turn, without waiting in between."""

    def __init__(
        self,
        call: Callable[..., Any],
        sets: Sequence[Sequence[Any]],
        wait: Callable[[Any], Any],
    ) -> None:
        self._call, self._sets, self._wait = call, sets, wait
        # Results are kept a while: else each would be written where the last one was, which may
        # still be in the cache.
        self._results: collections.deque[Any] = collections.deque(maxlen=len(sets))

    def __len__(self) -> int:
        return len(self._sets)

    def __call__(self, turns: int = 1) -> None:
        """All sets in turn, `turns` times; returns when all is done."""
        for _ in range(turns):
            for operands in self._sets:
                self._results.append(self._call(*operands))
        self._wait(self._results[-1])


def serve(
    prepare: Callable[[str], Calls], versions: Mapping[str, str], tracer: Tracer | None
) -> None:
    """A candidate's side (see `alternate`): a round tells the device's and the wall's seconds.

    Args:
      prepare: makes a job's calls.
      versions: what runs here.
      tracer: runs something and gives the spans in which the device was busy; None takes the
        wall clock for the device's.
    """

    def ready(job: str) -> tuple[float, Callable[[], tuple[float, float]]]:
        calls = prepare(job)
        seconds = alternate.wall(calls, 1)
        while seconds > alternate.SLOW and (again := alternate.wall(calls, 1)) < seconds / 2:
            seconds = again  # the first one compiled
        for _ in range(WARM_UP - 1 if seconds < alternate.SLOW else 0):
            seconds = min(seconds, alternate.wall(calls, 1))
        turns = max(1, math.ceil(SHORTEST / seconds))

        def go() -> tuple[float, float]:
            if seconds < alternate.SLOW:
                calls()
            wall = alternate.wall(lambda: calls(turns), 1) / (turns * len(calls))
            if tracer is None:
                return wall, wall
            spans = tracer(lambda: calls(turns))
            if len(spans) < turns * len(calls):
                raise RuntimeError(f"{len(spans)} spans in a trace of {turns * len(calls)} calls")
            return busy(spans) / (turns * len(calls)), wall

        start = time.perf_counter()
        go()
        return time.perf_counter() - start, go

    alternate.answer(ready, versions)


def busy(spans: Iterable[Span]) -> float:
    """Seconds within at least one span."""
    total, until = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total / 1e9


def jax_tracer(platform: str) -> Tracer:
    """By XLA's profiler."""
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0

    def tracer(run: Callable[[], Any]) -> list[Span]:
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder, profiler_options=options):
                run()
            (file,) = Path(folder).glob("**/*.xplane.pb")
            return xla_spans(jax.profiler.ProfileData.from_file(str(file)), platform)

    return tracer


def xla_spans(trace: Any, platform: str) -> list[Span]:
    """What ran on a platform, of a `jax.profiler.ProfileData`."""
    on_plane, on_line = LINES[platform]
    spans, seen = [], []
    for plane in trace.planes:
        for line in plane.lines:
            seen.append(f"{plane.name} {line.name}")
            if plane.name.startswith(on_plane) and line.name.startswith(on_line):
                spans += [(event.start_ns, event.end_ns) for event in line.events]
    if not spans:
        raise RuntimeError(
            f"jax's profiler saw no work on {on_plane}, only {', '.join(seen) or 'nothing'}; "
            "`--clock wall` does without it"
        )
    return spans


def torch_tracer(platform: str) -> Tracer:
    """By PyTorch's profiler."""
    import torch

    kind = platform.upper()
    activity = getattr(torch.profiler.ProfilerActivity, kind)

    def tracer(run: Callable[[], Any]) -> list[Span]:
        with torch.profiler.profile(activities=[activity]) as trace:
            run()
        spans = [
            (1e3 * event.time_range.start, 1e3 * event.time_range.end)
            for event in trace.events() or ()
            if event.device_type.name == kind and not event.is_user_annotation
        ]
        if not spans:
            raise RuntimeError(
                f"PyTorch's profiler saw no work on {platform}; `--clock wall` does without it"
            )
        return spans

    return tracer
