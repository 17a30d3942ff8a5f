"""Lowers a function for CUDA and compiles its Triton kernels to machine code, without a GPU.

`lower` takes the kernels out of the lowered function; `compile_launch` compiles one by the `triton`
wheel, whose Triton and ptxas are other versions than XLA's own: strong evidence of what XLA makes
of it, not proof.
"""

import collections
import dataclasses
import functools
import math
import re
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.gpu_model import sass

TRITON_CALL = "__gpu$xla.gpu.triton"
# Operations of StableHLO that cost XLA no pass over memory of their own.
FREE_OPERATIONS = (
    "constant",
    "iota",
    "reshape",
    "broadcast_in_dim",
    "return",
    "get_tuple_element",
    "call",
)
WARP = 32


class Launch(NamedTuple):
    """One launch of a kernel.

    Args:
      name: the kernel's.
      ir: Triton IR as text.
      warps: of a program.
      stages: of the software pipeline.
      grid: how many programs, along three axes.
      bytes: of operands and results.
    """

    name: str
    ir: str
    warps: int
    stages: int
    grid: tuple[int, int, int]
    bytes: int


class Lowered(NamedTuple):
    """A function's launches, and the bytes that XLA's own operations take in and give, unfused."""

    launches: list[Launch]
    other_bytes: int


@dataclasses.dataclass(frozen=True)
class MachineCode:
    """A compiled kernel.

    Args:
      registers: of a thread.
      stack: bytes of a thread, 0 where nothing was spilled.
      shared: bytes of shared memory of a program.
      listing: what `cuobjdump -sass` prints.
    """

    registers: int
    stack: int
    shared: int
    listing: str

    @functools.cached_property
    def counts(self) -> dict[str, int]:
        """How often one warp executes each instruction, by its full name."""
        return sass.count_instructions(self.listing)

    @functools.cached_property
    def classes(self) -> dict[str, int]:
        """How many instructions one warp executes, by class."""
        totals: collections.Counter[str] = collections.Counter()
        for name, count in self.counts.items():
            totals[sass.instruction_class(name)] += count
        return dict(totals.most_common())

    def widths(self, opcode: str) -> dict[int, int]:
        """How many instructions of an opcode ("LDG", "STG"…) a warp executes, by bits a thread."""
        totals: collections.Counter[int] = collections.Counter()
        for name, count in self.counts.items():
            if name.split(".")[0] == opcode:
                totals[sass.access_bits(name)] += count
        return dict(sorted(totals.items(), reverse=True))


def list_launches(function: Callable[..., Any], *avals: Any) -> list[Launch]:
    """The Triton kernels that a function launches on arrays of these shapes, in their order."""
    return lower(function, *avals).launches


def lower(function: Callable[..., Any], *avals: Any) -> Lowered:
    """Lowers a function for CUDA, on arrays of these shapes and dtypes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Pallas Triton", category=DeprecationWarning)
        module = jax.jit(function).trace(*avals).lower(lowering_platforms=("cuda",)).compiler_ir()
    functions = {op.name.value: op for op in module.body.operations}
    found, other_bytes = [], 0
    for op in _operations(functions["main"].body, functions):
        moved = sum(_bytes(value.type) for value in (*op.operands, *op.results))
        if (
            op.name == "stablehlo.custom_call"
            and op.attributes["call_target_name"].value == TRITON_CALL
        ):
            found.append(_launch(op.attributes["mhlo.backend_config"], moved))
        elif op.name.partition(".")[2] not in FREE_OPERATIONS:
            other_bytes += moved
    return Lowered(found, other_bytes)


def _operations(region: Any, functions: Mapping[str, Any]) -> Iterator[Any]:
    """The operations that a region executes, with calls and chosen branches inlined."""
    for op in (view.operation for view in region.blocks[0].operations):
        if op.name == "func.call":
            yield from _operations(functions[op.attributes["callee"].value].body, functions)
        elif op.name == "stablehlo.case":
            yield from _operations(_chosen_branch(op), functions)
        elif op.name == "stablehlo.while":
            raise NotImplementedError(
                f"expected no loop of XLA's around or beside kernels, got:\n{op}"
            )
        else:
            yield op


def _chosen_branch(case: Any) -> Any:
    """The branch of a choice by platform, which XLA makes when it compiles."""
    return case.regions[_evaluate(case.operands[0])]


def _evaluate(value: Any) -> int:
    """An integer that follows from constants."""
    op = value.owner
    if op.name == "stablehlo.case":
        *_, returned = _chosen_branch(op).blocks[0].operations
        return _evaluate(returned.operands[0])
    if op.name != "stablehlo.constant":
        raise NotImplementedError(
            f"expected a choice by platform, got one that is made at run time: {op}"
        )
    return int(op.attributes["value"][0])


def _bytes(type_: Any) -> int:
    return math.prod(type_.shape) * type_.element_type.width // 8


def _launch(config: Any, moved: int) -> Launch:
    grid = (config["grid_x"].value, config["grid_y"].value, config["grid_z"].value)
    warps, stages = config["num_warps"].value, config["num_stages"].value
    ir = _triton_ir_text(config["ir"])
    return Launch(config["name"].value, ir, warps, stages, grid, moved)


def _triton_ir_text(bytecode: Any) -> str:
    """Triton IR as text.

    Only jax can make a context with Triton's dialect registered, and has no public name for it.
    """
    from jax._src.pallas.triton import lowering
    from jaxlib.mlir import ir

    with lowering._new_ir_context():
        module = ir.Module.parse(bytecode.value_bytes)
        return str(module.operation.get_asm(enable_debug_info=False))


@functools.cache
def compile_launch(launch: Launch, arch: int) -> MachineCode:
    """Compiles a kernel for NVIDIA GPUs of compute capability `arch`, 90 for an H100."""
    import triton
    from triton.backends.compiler import GPUTarget

    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        source, cubin = Path(folder) / "kernel.ttir", Path(folder) / "kernel.cubin"
        source.write_text(launch.ir)
        compiled = triton.compile(
            str(source),
            target=GPUTarget("cuda", arch, WARP),
            options={
                "num_warps": launch.warps,
                "num_stages": launch.stages,
                "enable_fp_fusion": True,  # as in XLA
            },
        )
        cubin.write_bytes(compiled.asm["cubin"])
        usage, listing = (
            subprocess.run(
                [cuobjdump, option, cubin], capture_output=True, text=True, check=True
            ).stdout
            for option in ("-res-usage", "-sass")
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found, usage
    return MachineCode(int(found[1]), int(found[2]), compiled.metadata.shared, listing)
