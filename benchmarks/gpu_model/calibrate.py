"""Fits the model of GPU times to passes that were measured.

    python -m benchmarks.gpu_model.calibrate collect MEASURED.json … --out FILE
    python -m benchmarks.gpu_model.calibrate fit [FILE]

`collect` compiles the kernel of each pass that files of measurements have, as the checkout has it:
so it belongs to the commit that was measured. `fit` prints the coefficients, and how far the model
is off on shapes that it was not fitted to: each is left out in turn.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.gpu_model.passes import list_passes
from benchmarks.gpu_model.time_model import (
    COEFFICIENTS,
    Coefficients,
    LaunchWork,
    combine,
    model_launches,
    model_pass,
)

ARCH = 90
CALIBRATION = Path(__file__).parent.parent / "results" / "gpu-calibration-sm90.json"
# Of the logarithm of the error: beyond it a pass counts less.
OUTLIER = 0.1
# The least and the most of each coefficient.
BOUNDS = (
    Coefficients(0.05, 0.3, 0.8, 0, 0, 0.05, 0.05, 1, 0, 0),
    Coefficients(3, 3, 2, 3, 1500, 9, 40, 8, 20e-6, 20e-6),
)


class Measured(NamedTuple):
    """Passes that were measured, and their launches.

    Args:
      names: (device, case) of each pass.
      seconds, others: measured, and modelled of XLA's own operations.
      works: of all launches, `LaunchWork` by rows.
      rates: the memory's, of the launches.
      passes: which pass each launch is of.
      first: whether it is the pass's first.
    """

    names: list[tuple[str, str]]
    seconds: np.ndarray
    others: np.ndarray
    works: np.ndarray
    rates: np.ndarray
    passes: np.ndarray
    first: np.ndarray


def collect(files: Sequence[Path]) -> dict[str, Any]:
    """The passes of files of measurements with what their kernels do, as JSON."""
    modelled: dict[str, Mapping[str, Any]] = {}
    passes = {str(each): each for each in list_passes() if not each.extra}
    rows = []
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8"))
        for row in content["rows"]:
            suffix = "" if row["dtype"] == "float32" else f" {row['dtype']}"
            name = f"{row['case']}{suffix}, {row['pass']}"
            if name not in modelled:
                modelled[name] = model_pass(passes[name], ARCH, memory_rate=1.0)
            found = modelled[name]
            rows.append(
                {
                    "device": content["device"],
                    "copy_bytes_per_s": content["copy_bytes_per_s"],
                    "case": row["case"],
                    "pass": name,
                    "seconds": row["triton_us"] / 1e6,
                    "other_bytes": found["others"],
                    "launches": [launch["work"] for launch in found["launches"]],
                }
            )
    return {
        "benchmark": "gpu_calibration",
        "arch": ARCH,
        "jax": jax.__version__,
        "measured": [file.name for file in files],
        "rows": rows,
    }


def read_measured(file: Path = CALIBRATION) -> Measured:
    """What `collect` wrote."""
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    launches = [
        (number, position, row["copy_bytes_per_s"], LaunchWork(**work))
        for number, row in enumerate(rows)
        for position, work in enumerate(row["launches"])
    ]
    passes, positions, rates, works = zip(*launches, strict=True)
    return Measured(
        [(row["device"], row["case"]) for row in rows],
        np.array([row["seconds"] for row in rows]),
        np.array([row["other_bytes"] / row["copy_bytes_per_s"] for row in rows]),
        np.array(works, float),
        np.array(rates),
        np.array(passes),
        np.array(positions) == 0,
    )


def predict(measured: Measured, coefficients: Coefficients) -> np.ndarray:
    """Seconds of the passes, by the model."""
    times = model_launches(measured.works, measured.rates, coefficients)
    each = combine(times, coefficients)
    each = each + np.where(measured.first, coefficients.first, coefficients.other)
    return measured.others + np.bincount(measured.passes, each)


def fit(measured: Measured, chosen: np.ndarray | None = None) -> Coefficients:
    """The coefficients by which the model is nearest to passes, by the logarithm.

    Args:
      measured: the passes.
      chosen: which of them count; by default all.
    """
    from scipy.optimize import least_squares

    low, high = (np.array(bound) for bound in BOUNDS)
    start = np.array(COEFFICIENTS)
    counted = np.ones(len(measured.seconds), bool) if chosen is None else chosen

    def errors(scaled: np.ndarray) -> np.ndarray:
        found = predict(measured, Coefficients(*(scaled * start)))
        errors: np.ndarray = np.log(found / measured.seconds)[counted]
        return errors

    bounds = low / start, high / start
    solved = least_squares(
        errors, np.ones(len(start)), bounds=bounds, loss="soft_l1", f_scale=OUTLIER
    )
    return Coefficients(*map(float, solved.x * start))


def cross_validate(measured: Measured) -> np.ndarray:
    """How far each pass is off, by a model that was fitted without its shapes: 0.1 is 10 % more."""
    cases = np.array([case for _, case in measured.names])
    errors = np.zeros(len(cases))
    for case in np.unique(cases):
        left_out = cases == case
        found = predict(measured, fit(measured, ~left_out))
        errors[left_out] = (found / measured.seconds - 1)[left_out]
    return errors


def main() -> None:
    """Collects, or fits and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_model.calibrate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect", help="what kernels do that were measured")
    collecting.add_argument("files", type=Path, nargs="+")
    collecting.add_argument("--out", type=Path, default=CALIBRATION)
    commands.add_parser("fit").add_argument("file", type=Path, nargs="?", default=CALIBRATION)
    options = parser.parse_args()
    if options.command == "collect":
        text = json.dumps(collect(options.files), indent=1)
        options.out.write_text(text + "\n", encoding="utf-8")
        return
    measured = read_measured(options.file)
    for name, value in fit(measured)._asdict().items():
        print(f"{name:15} {value:.3g}")
    errors = np.abs(cross_validate(measured))
    print(
        f"off by {statistics.median(errors):.1%} in the middle, "
        f"{np.mean(errors < 0.3):.0%} of {len(errors)} passes by less than 30 %"
    )


if __name__ == "__main__":
    main()
