"""The Triton kernels of a function, and the machine code they become, with no GPU at hand.

`launches` lowers a function for CUDA and takes the kernels out of it; `machine_code` compiles one
by the `triton` wheel, whose Triton and ptxas are other versions than XLA's own: strong evidence of
what XLA makes of it, not proof.
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

TRITON = "__gpu$xla.gpu.triton"
# What costs XLA no pass over memory of its own.
FREE = ("constant", "iota", "reshape", "broadcast_in_dim", "return", "get_tuple_element", "call")
WARP = 32


class Launch(NamedTuple):
    """One launch of a kernel. `ir` is Triton IR as text, `bytes` those of operands and results."""

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
class Code:
    """What the compiler made of a kernel.

    Args:
      registers: of a thread.
      stack: bytes of a thread, 0 where nothing was spilled.
      shared: bytes of a program.
      listing: what `cuobjdump -sass` prints.
    """

    registers: int
    stack: int
    shared: int
    listing: str

    @functools.cached_property
    def counts(self) -> dict[str, int]:
        """How often one warp executes each instruction, by its full name."""
        return sass.counts(self.listing)

    @functools.cached_property
    def classes(self) -> dict[str, int]:
        """How many instructions one warp executes, by class."""
        found: collections.Counter[str] = collections.Counter()
        for name, count in self.counts.items():
            found[sass.kind(name)] += count
        return dict(found.most_common())

    def widths(self, kind: str) -> dict[int, int]:
        """How many instructions of a kind ("LDG", "STG"…) a warp executes, by bits a thread."""
        found: collections.Counter[int] = collections.Counter()
        for name, count in self.counts.items():
            if name.split(".")[0] == kind:
                found[sass.bits(name)] += count
        return dict(sorted(found.items(), reverse=True))


def launches(f: Callable[..., Any], *avals: Any) -> list[Launch]:
    """The Triton kernels that a function launches on arrays of these shapes, in their order."""
    return lowered(f, *avals).launches


def lowered(f: Callable[..., Any], *avals: Any) -> Lowered:
    """What a function becomes when it is lowered for CUDA."""
    device = jax.sharding.AbstractDevice("NVIDIA H100", num_cores=132, platform="gpu")
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Pallas Triton", category=DeprecationWarning)
        module = jax.jit(f).trace(*avals).lower(lowering_platforms=("cuda",)).compiler_ir()
    functions = {op.name.value: op for op in module.body.operations}
    found, others = [], 0
    for op in _operations(functions["main"].body, functions):
        moved = sum(_bytes(value.type) for value in (*op.operands, *op.results))
        if op.name == "stablehlo.custom_call" and op.attributes["call_target_name"].value == TRITON:
            found.append(_launch(op.attributes["mhlo.backend_config"], moved))
        elif op.name.partition(".")[2] not in FREE:
            others += moved
    return Lowered(found, others)


def _operations(region: Any, functions: Mapping[str, Any]) -> Iterator[Any]:
    """What a region executes, in place of the calls and the choices in it what they come to."""
    for op in (view.operation for view in region.blocks[0].operations):
        if op.name == "func.call":
            yield from _operations(functions[op.attributes["callee"].value].body, functions)
        elif op.name == "stablehlo.case":
            yield from _operations(_taken(op), functions)
        elif op.name == "stablehlo.while":
            raise NotImplementedError(f"a loop of XLA's around kernels, or beside them:\n{op}")
        else:
            yield op


def _taken(case: Any) -> Any:
    """The branch of a choice by platform, which XLA knows when it compiles."""
    return case.regions[_constant(case.operands[0])]


def _constant(value: Any) -> int:
    """An integer that follows from constants."""
    op = value.owner
    if op.name == "stablehlo.case":
        *_, returned = _taken(op).blocks[0].operations
        return _constant(returned.operands[0])
    if op.name != "stablehlo.constant":
        raise NotImplementedError(f"a choice that is made at run time: {op}")
    return int(op.attributes["value"][0])


def _bytes(type_: Any) -> int:
    return math.prod(type_.shape) * type_.element_type.width // 8


def _launch(config: Any, moved: int) -> Launch:
    grid = (config["grid_x"].value, config["grid_y"].value, config["grid_z"].value)
    warps, stages = config["num_warps"].value, config["num_stages"].value
    return Launch(config["name"].value, _text(config["ir"]), warps, stages, grid, moved)


def _text(bytecode: Any) -> str:
    """Triton IR as text.

    jax alone knows how to make a context that has Triton's dialect registered, and gives it no
    public name.
    """
    from jax._src.pallas.triton import lowering
    from jaxlib.mlir import ir

    with lowering._new_ir_context():
        module = ir.Module.parse(bytecode.value_bytes)
        return str(module.operation.get_asm(enable_debug_info=False))


@functools.cache
def machine_code(launch: Launch, arch: int) -> Code:
    """Compiles a kernel for NVIDIA GPUs of compute capability `arch`, 90 for an H100."""
    import triton
    from triton.backends.compiler import GPUTarget

    dump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
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
            subprocess.run([dump, how, cubin], capture_output=True, text=True, check=True).stdout
            for how in ("-res-usage", "-sass")
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found
    return Code(int(found[1]), int(found[2]), compiled.metadata.shared, listing)
