"""What our GPU kernels become as machine code, and how long an H100 should take, with no GPU.

    python -m benchmarks.gpu_model [--arch 80] [--only TEXT] [--json FILE]

For each pass the modelled time, its limit (the least bytes it can move, over the memory's rate)
and their ratio; for each kernel that the pass launches what bounds it, and its code. A kernel's
time is modelled as the longest of four, as if all of them overlapped without loss:

- L1: the bytes that loads and stores ask for, shared memory's included, over 128 bytes a clock;
- memory: its operands and results, each moved once, over the rate that was measured for a copy;
- FMA: multiplications and additions of floats, over 128 a clock;
- issue: all instructions, over 4 warps a clock.

A kernel's own launch costs nothing here, and what is masked (channels beyond the last, rows
outside of the image) costs as much as what is not. XLA's own operations beside the kernels, such
as sums over partial results, cost their operands and results over the memory's rate, as if XLA
fused none of them.
"""

import argparse
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import zoo_kernels as kernels
from benchmarks.gpu_model.machine_code import WARP, Code, Launch, lowered, machine_code
from benchmarks.operators.cases import GPU_CASES, Case

# An H100 with SXM: processors, Hz, and bytes a second that a copy was measured to move.
PROCESSORS, CLOCK, MEMORY = 132, 1.755e9, 3.0e12
L1, FLOATS, ISSUE = (PROCESSORS * CLOCK * n for n in (128, 128, 4))

MOVERS = ("LDG", "STG", "LDL", "STL", "LDS", "STS", "RED", "ATOMG", "ATOMS")


class Work(NamedTuple):
    """One pass of a case, with one more operand or none: a residual, or the bias of a convolution.

    The residual is not differentiated, and the bias is for the forward pass alone.
    """

    case: Case
    pass_: str
    extra: str = ""

    def __str__(self) -> str:
        return f"{self.case}, {self.pass_}" + (f" with {self.extra}" if self.extra else "")

    @property
    def least(self) -> float:
        """The bytes that must move; a bias's are too few to count."""
        # Where y does not tell the activation's slope, the backward pass reads the residual again.
        again = self.pass_ != "forward" and self.case.act == "silu"
        reads = (1 + again) * (self.extra == "residual")
        each = math.prod(self.case.shapes[0]) * jnp.dtype(self.case.dtype).itemsize
        return self.case.cost(self.pass_)[0] + reads * each

    def function(self) -> tuple[Callable[..., Any], list[jax.ShapeDtypeStruct]]:
        """The pass, and what it is called on."""
        avals = [
            jax.ShapeDtypeStruct(shape, dtype)
            for shape, dtype in zip(self.case.shapes, self.case.dtypes, strict=True)
        ]
        if self.extra:
            shape = avals[0].shape if self.extra == "residual" else avals[0].shape[-1:]
            avals.append(jax.ShapeDtypeStruct(shape, self.case.dtype))

        def run(x: jax.Array, *others: Any) -> Any:
            *vectors, dy, extra = others if self.extra else (*others, None)
            op = functools.partial(_operator(self), **{self.extra: extra} if self.extra else {})
            if self.pass_ == "forward":
                return op(x, *vectors)
            if self.pass_ == "input gradient":
                return jax.vjp(lambda x: op(x, *vectors), x)[1](dy)
            if self.pass_ == "weight gradient":
                return jax.vjp(lambda w: op(x, w), *vectors)[1](dy)
            y, back = jax.vjp(op, x, *vectors)
            return y, back(dy)

        return run, avals


def _operator(work: Work) -> Callable[..., Any]:
    """Of x and the vectors or weights."""
    case = work.case
    act = {"act": case.act} if case.op != "depthwise" or work.extra else {}
    op = functools.partial(OPERATORS[case.op], implementation="triton", **act)
    if case.op == "batch_norm":
        return lambda *arrays: op(*arrays)[0]
    geometry = {"strides": case.strides, "padding": case.kernel // 2} if case.kernel else {}
    return functools.partial(op, **geometry)


OPERATORS: dict[str, Callable[..., Any]] = {
    "depthwise": kernels.depthwise_conv,
    "bias_act": kernels.bias_act,
    "batch_norm": kernels.batch_norm,
}
ODD = Case("depthwise", "odd channels", 128, 56, 33, 33, 3)


def works() -> Iterator[Work]:
    """Every pass that is looked at."""
    for single in (*GPU_CASES, ODD):
        for dtype in ("float32", "bfloat16"):
            case = single._replace(dtype=dtype)
            for pass_ in case.passes:
                yield Work(case, pass_)
                if case.op == "bias_act":
                    yield Work(case, pass_, "residual")
                elif case.kernel and pass_ == "forward":
                    yield Work(case, pass_, "bias")


def model(launch: Launch, code: Code) -> dict[str, float]:
    """Seconds that a launch takes by each of the four measures."""
    warps = launch.warps * math.prod(launch.grid)
    asked = sum(bits // 8 * n for kind in MOVERS for bits, n in code.widths(kind).items())
    return {
        "L1": warps * WARP * asked / L1,
        "memory": launch.bytes / MEMORY,
        "FMA": warps * WARP * code.classes.get("fma", 0) / FLOATS,
        "issue": warps * sum(code.counts.values()) / ISSUE,
    }


def look(work: Work, arch: int) -> dict[str, Any]:
    """A pass: what it launches, and the time that this should take."""
    f, avals = work.function()
    found = lowered(f, *avals)
    rows: list[dict[str, Any]] = []
    for launch in found.launches:
        code = machine_code(launch, arch)
        rows.append(
            {
                "name": launch.name,
                "grid": launch.grid,
                "threads": WARP * launch.warps,
                "registers": code.registers,
                "stack": code.stack,
                "shared": code.shared,
                "loads": code.widths("LDG"),
                "stores": code.widths("STG"),
                "instructions": code.classes,
                "seconds": model(launch, code),
            }
        )
    others = found.other_bytes / MEMORY
    return {
        "work": str(work),
        "model": others + sum(max(row["seconds"].values()) for row in rows),
        "limit": work.least / MEMORY,
        "others": others,
        "launches": rows,
    }


def show(row: Mapping[str, Any]) -> str:
    """A pass and its launches as lines, times in µs."""
    micro = {key: 1e6 * row[key] for key in ("model", "limit", "others")}
    lines = [
        f"{row['work']:80}{micro['model']:9.1f}{micro['limit']:9.1f}"
        f"{micro['model'] / micro['limit']:7.2f}"
    ]
    for each in row["launches"]:
        times = sorted(each["seconds"].items(), key=lambda item: -item[1])
        total = sum(each["instructions"].values())
        lines += [
            f"    {each['name']}: " + ", ".join(f"{name} {1e6 * s:.1f}" for name, s in times),
            f"        {each['threads']} threads × {'×'.join(map(str, each['grid']))}, "
            f"{each['registers']} registers, stack {each['stack']}, shared {each['shared']}, "
            f"loads {_widths(each['loads'])}, stores {_widths(each['stores'])}",
            f"        {total} instructions: "
            + ", ".join(f"{kind} {n / total:.0%}" for kind, n in each["instructions"].items()),
        ]
    if micro["others"]:
        lines.append(f"    XLA's own operations: {micro['others']:.1f}")
    return "\n".join(lines)


def _widths(widths: Mapping[int, int]) -> str:
    return " + ".join(f"{n}×{bits}" for bits, n in widths.items()) or "none"


def main() -> None:
    """Prints a table, and writes JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", type=int, default=90, help="compute capability, 80 or 90")
    parser.add_argument("--only", default="", help="passes whose name contains this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"{'µs on an H100':80}{'model':>9}{'limit':>9}{'ratio':>7}")
    for work in works():
        if options.only in f"{work.case.op} {work}":
            rows.append(look(work, options.arch))
            print(show(rows[-1]), flush=True)
    if options.json:
        record = {"arch": options.arch, "jax": jax.__version__, "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
