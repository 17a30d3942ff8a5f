"""Times detectors beside torchvision's: from photos to boxes, parts of it, and steps of training.

    python -m benchmarks.detection [--models SSD300_VGG16,…] [--batches 1,8] [--works …]
        [--rounds 5] [--jax-python PATH] [--quick] [--json FILE.json]

Both sides have the same random weights, with which a few hundred boxes are likely, and must agree
on what they find. "ours" runs by XLA's layers, "ours, native" by those that `Trained.compile`
compiles. Photos are 640x480; training is at 320x320, of SSD300 at 300x300. --quick makes photos
small, for a rehearsal. PyTorch needs the extra `peers`.
"""

import argparse
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.detection import canvases
from benchmarks.detection.cases import (
    BATCHES,
    MODELS,
    NATIVE,
    OURS,
    SLOW_ROUNDS,
    STEP,
    TORCH,
    WORKS,
    Case,
    list_cases,
)
from benchmarks.harness import interleaved
from benchmarks.harness.recording import (
    ROOT,
    describe_commit,
    format_command,
    summarize_row,
    write_json,
)

# The largest difference of the best scores, over the largest of them; and that of a loss, where
# both sides draw the boxes that count at random.
TOLERANCE, DRAWN_TOLERANCE = 1e-2, 0.3
# Calls after the first, which compiles; of long work one is enough.
WARM_UP = 2
# (case, weights) → what is timed, and what makes of its result what is compared.
MakeWork = Callable[
    [Case, Mapping[str, np.ndarray]], tuple[Callable[[], Any], Callable[[Any], dict[str, Any]]]
]
# Objects that one side may find more than the other, of hundreds: rounding, near the threshold.
MAX_MORE_FOUND = 0.05


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line; its `cases` are those that it selects."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", default=",".join(MODELS), help="names, with commas between")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)), help="of photos")
    parser.add_argument("--works", default=",".join(WORKS), help=f"some of {', '.join(WORKS)}")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each case")
    parser.add_argument("--longest", type=float, default=25.0, help="seconds of a case's rounds")
    parser.add_argument("--quick", action="store_true", help="small photos: a rehearsal")
    parser.add_argument("--jax-python", default=sys.executable, help="another Python to run jax")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--worker", choices=(OURS, NATIVE, TORCH), help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    models, works = options.models.split(","), options.works.split(",")
    for name, known, chosen in (("models", MODELS, models), ("works", WORKS, works)):
        if wrong := [each for each in chosen if each not in known]:
            parser.error(
                f"argument --{name}: expected some of {', '.join(known)}; got {wrong[0]!r}"
            )
    batches = options.batches.split(",")
    if not all(batch.isdecimal() and int(batch) for batch in batches):
        parser.error(f"argument --batches: expected numbers of at least 1, got {options.batches!r}")
    if options.rounds < 2:
        parser.error(f"argument --rounds: expected at least 2, got {options.rounds}")
    options.cases = list_cases(models, list(map(int, batches)), works, options.quick)
    return options


def run_candidate(name: str, weights: Path) -> None:
    """Answers with the seconds of a call, until its standard input ends.

    Args:
      name: of the candidate.
      weights: the file of the model's.
    """
    make_work = _prepare_torch() if name == TORCH else _prepare_jax(name)

    def prepare(workload: str) -> tuple[dict[str, Any], Callable[[], float]]:
        case = Case.parse(workload)
        if name not in case.candidates:
            raise NotImplementedError(f"{name} has no part in it")
        with np.load(weights) as arrays:
            work, summarize = make_work(case, dict(arrays))
        start = time.perf_counter()
        result = work()
        first = seconds = time.perf_counter() - start
        for _ in range(0 if case.is_slow else WARM_UP):
            seconds = interleaved.wall_seconds(work, 1)
            if seconds >= interleaved.SLOW_SECONDS:
                break
        if seconds >= interleaved.SLOW_SECONDS:
            run_round = functools.partial(time_slow, work)
        else:
            repeats = interleaved.count_repeats(seconds)
            run_round = functools.partial(interleaved.wall_seconds_after_pause, work, repeats)
        return {"seconds": seconds, "first": first, "result": summarize(result)}, run_round

    packages = ("torch", "torchvision") if name == TORCH else ("jax",)
    versions = {package: metadata.version(package) for package in packages}
    interleaved.serve(prepare, {**versions, "python": sys.version.split()[0]})


def _prepare_torch() -> MakeWork:
    """The work of torchvision."""
    from benchmarks.detection import torchvision
    from benchmarks.harness.torchvision_operators import load_operators

    if not load_operators():
        raise SystemExit(f"{TORCH}: torchvision's own operators do not load")
    return torchvision.make_work


def _prepare_jax(name: str) -> MakeWork:
    """The work of ours, with native layers compiled, or turned off."""
    if name == OURS:
        os.environ["ZOO_NATIVE"] = "0"
    import jax

    from benchmarks.detection import ours
    from zoo_kernels import native

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    if name == NATIVE and (reason := native.unavailable()):
        raise SystemExit(f"{name}: {reason}")
    return ours.make_work


def time_slow(work: Callable[[], Any]) -> float:
    """The seconds of a call that is long enough to need no other before it."""
    time.sleep(interleaved.PAUSE_SECONDS)
    return interleaved.wall_seconds(work, 1)


def measure(options: argparse.Namespace) -> Iterator[tuple[Case, interleaved.Measurement]]:
    """The figures of each case; of a model, slow ones come last."""
    for model in dict.fromkeys(case.model for case in options.cases):
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder, "weights.npz")
            command = [sys.executable, "-m", "benchmarks.detection.weights", model, str(weights)]
            subprocess.run([*command, *["--quick"] * options.quick], check=True)
            for slow in (False, True):
                cases = [
                    case for case in options.cases if (case.model, case.is_slow) == (model, slow)
                ]
                yield from _measure_together(cases, weights, options, slow)


def _measure_together(
    cases: Sequence[Case], weights: Path, options: argparse.Namespace, slow: bool
) -> Iterator[tuple[Case, interleaved.Measurement]]:
    """The figures of cases, whose candidates are each one process."""
    commands = {
        # A candidate is killed at the end, at which multiprocessing complains of semaphores.
        name: [
            sys.executable if name == TORCH else options.jax_python,
            *("-W", "ignore", "-m", "benchmarks.detection"),
            *("--worker", name, "--weights", str(weights)),
        ]
        for name in (OURS, NATIVE, TORCH)
        if any(name in case.candidates for case in cases)
    }
    rounds = min(options.rounds, SLOW_ROUNDS) if slow else options.rounds
    measurements = interleaved.interleave(
        commands, rounds, [case.name for case in cases], options.longest
    )
    for case, measured in zip(cases, measurements, strict=True):
        for name in case.candidates:
            if name in measured.refusals:
                raise SystemExit(f"{case.name}, {name}: {measured.refusals[name]}")
        check_agreement(case, [measured.costs[name]["result"] for name in case.candidates])
        yield case, measured


def check_agreement(case: Case, results: Sequence[Mapping[str, Any]]) -> None:
    """Raises SystemExit where the candidates find other objects, or have other losses."""
    expected = results[-1]
    drawn = case.work == STEP and case.model.startswith("FasterRCNN")
    tolerance = DRAWN_TOLERANCE if drawn else TOLERANCE
    for result in results[:-1]:
        for key, wanted in expected.items():
            found, wanted = np.asarray(result[key]), np.asarray(wanted)
            limit = tolerance if key != "found" else MAX_MORE_FOUND
            same = found.shape == wanted.shape and wanted.size > 0
            # Nor NaN.
            if not same or not np.abs(found - wanted).max() <= limit * np.abs(wanted).max():
                raise SystemExit(f"{case.name}: the {key} of ours are {found}, not {wanted}")


def make_row(case: Case, measured: interleaved.Measurement) -> dict[str, Any]:
    """A case's figures; its ratio is that of ours, by native layers if it has them, to theirs."""
    rounds = {name: measured.rounds[name] for name in case.candidates}
    row: dict[str, Any] = {"model": case.model, "work": case.work, "batch": case.batch}
    row |= measured.costs[TORCH if TORCH in rounds else OURS]["result"]
    row.pop("scores", None)
    ours = NATIVE if NATIVE in rounds else OURS
    row = summarize_row(row, rounds, (ours, TORCH) if TORCH in rounds else None)
    row["compile"] = {
        name: max(measured.costs[name]["first"] - timing["median"], 0.0)
        for name, timing in row["seconds"].items()
        if name != TORCH
    }
    return row


def print_row(row: Mapping[str, Any]) -> None:
    """Milliseconds of each candidate, and the ratio; in brackets the quartiles."""
    print(f"{row['model']}, {row['work']}, batch {row['batch']}; found {row.get('found', '–')}")
    for name, timing in row["seconds"].items():
        median, low, high = (1e3 * timing[key] for key in ("median", "lower", "upper"))
        compiled = f"; compile {row['compile'][name]:.1f} s" if name in row["compile"] else ""
        print(f"    {name:14}{median:10.2f} ms ({low:.2f} to {high:.2f}){compiled}")
    if ratio := row.get("ratio"):
        print(f"    ratio {ratio['median']:.2f} ({ratio['lower']:.2f} to {ratio['upper']:.2f})")
    sys.stdout.flush()


def main() -> None:
    """Measures, prints the figures, and writes JSON if asked to."""
    options = parse_arguments()
    if options.worker:
        run_candidate(options.worker, options.weights)
        return
    os.chdir(ROOT)
    record: dict[str, Any] = {
        "benchmark": "detection",
        "device": interleaved.describe_cpu(),
        "command": format_command("benchmarks.detection", sys.argv[1:]),
        "commit": describe_commit(),
        "versions": {},
        "canvases": canvases.measure(list(dict.fromkeys(case.model for case in options.cases))),
        "rows": [],
    }
    for each in record["canvases"]:
        print(canvases.format_line(each))
    for case, measured in measure(options):
        row = make_row(case, measured)
        record["versions"] |= {name: measured.versions[name] for name in case.candidates}
        record["rows"].append(row)
        print_row(row)
        write_json(options.json, record)  # after each case: a long run may be cut off


if __name__ == "__main__":
    main()
