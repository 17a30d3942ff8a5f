"""A model of the time that an H100 takes for the operators' passes, from their machine code.

A kernel's time is the longest of four, as if all of them overlapped without loss:

- L1: the bytes that loads and stores ask for, shared memory's included, over 128 bytes a clock;
- memory: its operands and results, each moved once, over the rate that was measured for a copy;
- FMA: multiplications and additions of floats, over 128 a clock;
- issue: all instructions, over 4 warps a clock.

A kernel's own launch costs nothing here, and what is masked (channels beyond the last, rows
outside of the image) costs as much as what is not. XLA's own operations beside the kernels, such
as sums over partial results, cost their operands and results over the memory's rate, as if XLA
fused none of them.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import zoo_kernels as kernels
from benchmarks.gpu_model.machine_code import WARP, Launch, MachineCode, compile_launch, lower
from benchmarks.operators.cases import GPU_CASES, Case

# An H100 with SXM: multiprocessors, Hz, and bytes a second that a copy was measured to move.
MULTIPROCESSORS, CLOCK, MEMORY_RATE = 132, 1.755e9, 3.0e12
# A second: bytes through L1, floating-point operations, instructions issued to a warp.
L1_RATE, FLOAT_RATE, ISSUE_RATE = (MULTIPROCESSORS * CLOCK * n for n in (128, 128, 4))

MEMORY_INSTRUCTIONS = ("LDG", "STG", "LDL", "STL", "LDS", "STS", "RED", "ATOMG", "ATOMS")


class CasePass(NamedTuple):
    """One pass of a case, with one more operand or none: a residual, or the bias of a convolution.

    The residual is not differentiated, and the bias is for the forward pass alone.
    """

    case: Case
    pass_name: str
    extra: str = ""

    def __str__(self) -> str:
        return f"{self.case}, {self.pass_name}" + (f" with {self.extra}" if self.extra else "")

    @property
    def min_bytes(self) -> float:
        """The bytes that must move; a bias's are too few to count."""
        # Where y does not tell the derivative, the backward pass reads the residual again.
        rereads = self.pass_name != "forward" and self.case.act == "silu"
        residual_reads = (1 + rereads) * (self.extra == "residual")
        x_bytes = math.prod(self.case.shapes[0]) * jnp.dtype(self.case.dtype).itemsize
        return self.case.cost(self.pass_name)[0] + residual_reads * x_bytes

    def function(self) -> tuple[Callable[..., Any], list[jax.ShapeDtypeStruct]]:
        """The pass, and the shapes and dtypes that it is called on."""
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
            if self.pass_name == "forward":
                return op(x, *vectors)
            if self.pass_name == "input gradient":
                return jax.vjp(lambda x: op(x, *vectors), x)[1](dy)
            if self.pass_name == "weight gradient":
                return jax.vjp(lambda w: op(x, w), *vectors)[1](dy)
            y, vjp = jax.vjp(op, x, *vectors)
            return y, vjp(dy)

        return run, avals


def _operator(case_pass: CasePass) -> Callable[..., Any]:
    """The operator as a function of x and the vectors or weights."""
    case = case_pass.case
    act = {"act": case.act} if case.op != "depthwise" or case_pass.extra else {}
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
ODD_CHANNELS = Case("depthwise", "odd channels", 128, 56, 33, 33, 3)


def list_passes() -> Iterator[CasePass]:
    """Every pass that is modelled."""
    for float32_case in (*GPU_CASES, ODD_CHANNELS):
        for dtype in ("float32", "bfloat16"):
            case = float32_case._replace(dtype=dtype)
            for pass_name in case.passes:
                yield CasePass(case, pass_name)
                if case.op == "bias_act":
                    yield CasePass(case, pass_name, "residual")
                elif case.kernel and pass_name == "forward":
                    yield CasePass(case, pass_name, "bias")


def model_launch(launch: Launch, code: MachineCode) -> dict[str, float]:
    """Seconds that a launch takes by each of the four measures."""
    warps = launch.warps * math.prod(launch.grid)
    l1_bytes = sum(
        bits // 8 * n for op in MEMORY_INSTRUCTIONS for bits, n in code.widths(op).items()
    )
    return {
        "L1": warps * WARP * l1_bytes / L1_RATE,
        "memory": launch.bytes / MEMORY_RATE,
        "FMA": warps * WARP * code.classes.get("fma", 0) / FLOAT_RATE,
        "issue": warps * sum(code.counts.values()) / ISSUE_RATE,
    }


def model_pass(case_pass: CasePass, arch: int) -> dict[str, Any]:
    """A pass as a JSON object: what it launches, and the time that this should take."""
    function, avals = case_pass.function()
    lowered = lower(function, *avals)
    rows: list[dict[str, Any]] = []
    for launch in lowered.launches:
        code = compile_launch(launch, arch)
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
                "seconds": model_launch(launch, code),
            }
        )
    others = lowered.other_bytes / MEMORY_RATE
    return {
        "work": str(case_pass),
        "model": others + sum(max(row["seconds"].values()) for row in rows),
        "limit": case_pass.min_bytes / MEMORY_RATE,
        "others": others,
        "launches": rows,
    }
