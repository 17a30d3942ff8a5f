"""Prints how long an H100 should take for our GPU kernels, and their machine code, without a GPU.

    python -m benchmarks.gpu_model [--arch 80] [--only TEXT] [--json FILE]

For each pass: the modelled time, its limit (the least bytes it can move, over the memory's rate)
and their ratio; for each kernel that the pass launches: what bounds it, and its code. `time_model`
says what is modelled.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from benchmarks.gpu_model.passes import list_passes
from benchmarks.gpu_model.time_model import model_pass


def format_row(row: Mapping[str, Any]) -> str:
    """A pass and its launches as lines, times in µs."""
    micros = {key: 1e6 * row[key] for key in ("model", "limit", "others")}
    lines = [
        f"{row['work']:80}{micros['model']:9.1f}{micros['limit']:9.1f}"
        f"{micros['model'] / micros['limit']:7.2f}"
    ]
    for launch in row["launches"]:
        times = sorted(launch["seconds"].items(), key=lambda item: -item[1])
        total = sum(launch["instructions"].values())
        lines += [
            f"    {launch['name']}: " + ", ".join(f"{name} {1e6 * s:.1f}" for name, s in times),
            f"        {launch['threads']} threads × {'×'.join(map(str, launch['grid']))}, "
            f"{launch['registers']} registers, stack {launch['stack']}, shared {launch['shared']}, "
            f"loads {_format_widths(launch['loads'])}, stores {_format_widths(launch['stores'])}",
            f"        {total} instructions: "
            + ", ".join(f"{name} {n / total:.0%}" for name, n in launch["instructions"].items()),
        ]
    if micros["others"]:
        lines.append(f"    XLA's own operations: {micros['others']:.1f}")
    return "\n".join(lines)


def _format_widths(widths: Mapping[int, int]) -> str:
    return " + ".join(f"{n}×{bits}" for bits, n in widths.items()) or "none"


def main() -> None:
    """Prints a table, and writes JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", type=int, default=90, help="compute capability, 80 or 90")
    parser.add_argument("--only", default="", help="passes whose name contains this")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    rows = []
    print(f"{'µs on an H100':80}{'model':>9}{'limit':>9}{'ratio':>7}")
    for case_pass in list_passes():
        if options.only in f"{case_pass.case.op} {case_pass}":
            rows.append(model_pass(case_pass, options.arch))
            print(format_row(rows[-1]), flush=True)
    if options.json:
        record = {"arch": options.arch, "jax": jax.__version__, "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
