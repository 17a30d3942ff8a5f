"""The time for which a device is busy with a function, from its framework's profiler.

Calls are enqueued back to back, on several sets of operands in rotation, which together are larger
than the device's caches. CUDA events around the calls would also count the gaps in which the device
waits for the next launch of a short kernel: these depend on the host, and XLA has no place for such
events. Instead, both frameworks' profilers read the start and the end of each kernel from CUPTI.
The wall time of the same calls, without a profiler, shows the gaps.
"""

import collections
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import interleaved

# Untimed rounds at first: they compile, tune, and raise the device's clocks.
WARM_UP = 3

Span = tuple[float, float]  # start and end, in nanoseconds
Tracer = Callable[[Callable[[], Any]], list[Span]]

# The planes and lines of XLA's traces that hold a platform's work, by how their names begin.
TRACE_LINES = {"cuda": ("/device:GPU", "Stream"), "cpu": ("/host:CPU", "tf_XLA")}


class RotatingCalls:
    """Calls of a function on several sets of operands in rotation, without waiting in between."""

    def __init__(
        self,
        call: Callable[..., Any],
        sets: Sequence[Sequence[Any]],
        wait: Callable[[Any], Any],
    ) -> None:
        self._call, self._sets, self._wait = call, sets, wait
        # The last results stay alive: else each would be written where the one before was, which
        # may still be in the cache.
        self._results: collections.deque[Any] = collections.deque(maxlen=len(sets))

    def __len__(self) -> int:
        return len(self._sets)

    def __call__(self, rotations: int = 1) -> None:
        """Calls the function on every set, `rotations` times; returns when all is done."""
        for _ in range(rotations):
            for operands in self._sets:
                self._results.append(self._call(*operands))
        self._wait(self._results[-1])


def serve_device_times(
    prepare: Callable[[str], RotatingCalls], versions: Mapping[str, str], tracer: Tracer | None
) -> None:
    """Runs a candidate (see `interleaved`) whose rounds give the device's and the wall's seconds.

    Args:
      prepare: prepares a workload's calls.
      versions: of what runs here.
      tracer: runs a function and returns the spans in which the device was busy. None: the wall
        clock stands for the device's.
    """

    def prepare_round(workload: str) -> tuple[float, Callable[[], tuple[float, float]]]:
        calls = prepare(workload)
        seconds = interleaved.wall_seconds(calls, 1)
        while (
            seconds > interleaved.SLOW_SECONDS
            and (next_seconds := interleaved.wall_seconds(calls, 1)) < seconds / 2
        ):
            seconds = next_seconds  # the call before compiled
        for _ in range(WARM_UP - 1 if seconds < interleaved.SLOW_SECONDS else 0):
            seconds = min(seconds, interleaved.wall_seconds(calls, 1))
        rotations = max(1, math.ceil(interleaved.MIN_SECONDS / seconds))
        count = rotations * len(calls)

        def run_round() -> tuple[float, float]:
            if seconds < interleaved.SLOW_SECONDS:
                calls()
            wall = interleaved.wall_seconds(lambda: calls(rotations), 1) / count
            if tracer is None:
                return wall, wall
            spans = tracer(lambda: calls(rotations))
            if len(spans) < count:
                raise RuntimeError(f"{len(spans)} spans in a trace of {count} calls")
            return busy_seconds(spans) / count, wall

        start = time.perf_counter()
        run_round()
        return time.perf_counter() - start, run_round

    interleaved.serve(prepare_round, versions)


def busy_seconds(spans: Iterable[Span]) -> float:
    """Seconds that lie within at least one span."""
    total, until = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total / 1e9


def jax_tracer(platform: str) -> Tracer:
    """A tracer that uses XLA's profiler."""
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
    """The spans of a `jax.profiler.ProfileData` in which a platform was busy."""
    plane_prefix, line_prefix = TRACE_LINES[platform]
    spans, seen = [], []
    for plane in trace.planes:
        for line in plane.lines:
            seen.append(f"{plane.name} {line.name}")
            if plane.name.startswith(plane_prefix) and line.name.startswith(line_prefix):
                spans += [(event.start_ns, event.end_ns) for event in line.events]
    if not spans:
        raise RuntimeError(
            f"jax's profiler saw no work on {plane_prefix}, only {', '.join(seen) or 'nothing'}; "
            "use `--clock wall` instead"
        )
    return spans


def torch_tracer(platform: str) -> Tracer:
    """A tracer that uses PyTorch's profiler."""
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
                f"PyTorch's profiler saw no work on {platform}; use `--clock wall` instead"
            )
        return spans

    return tracer
