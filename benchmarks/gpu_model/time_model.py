"""A model of the time that a GPU takes for the operators' passes, from their machine code.

A kernel's time is a p-norm of five times, which overlap in part:

- lines: each load of a warp asks L1 for lines of 128 bytes, 4 of them where its 512 bytes lie side
  by side, and 32 where each thread's 16 bytes lie alone;
- issue: all instructions, over 4 warps a clock;
- memory: operands and results, each moved once, over the rate of a copy on that card;
- L2: what a program loads that no other of its threads does, by sectors of 32 bytes;
- latency: the loads of one warp after the other, over the warps that registers leave room for.

Programs that do not fill the last wave of multiprocessors leave the others idle. XLA's own
operations beside the kernels, such as sums over partial results, cost their operands and results
over the memory's rate, as if XLA fused none of them.

What each costs is fitted to passes that were measured on an H100 and an H200: see `calibrate`.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.gpu_model.machine_code import WARP, Launch, MachineCode, compile_launch, lower
from benchmarks.gpu_model.passes import Access, CasePass, describe_access

# Of an H100 and an H200 (SXM): multiprocessors, Hz, registers of each, the most programs on one,
# bytes a second from L2.
MULTIPROCESSORS, CLOCK, REGISTERS, MAX_RESIDENT, L2_RATE = 132, 1.98e9, 1 << 16, 16, 5.5e12
LINE_BYTES, SECTOR_BYTES, LOAD_BYTES = 128, 32, 512
# The rate of the memory that is modelled where none is given: of an H100, by a copy.
MEMORY_RATE = 2.96e12


class LaunchWork(NamedTuple):
    """What a launch does, as far as the model looks at it.

    Args:
      warps, programs: of the launch.
      resident: how many programs registers leave room for on a multiprocessor.
      loads, stores, instructions: of a warp.
      bytes: of operands and results.
      row_bytes, unique, walks: see `Access`.
    """

    warps: int
    programs: int
    resident: int
    loads: int
    stores: int
    instructions: int
    bytes: int
    row_bytes: int
    unique: float
    walks: bool


class Coefficients(NamedTuple):
    """What is fitted.

    Args:
      lines, issue, memory, l2, latency: factors of the five times; of the latency in clocks.
      scattered, scattered_walk: what a line beyond the 4 costs, in lines, in a kernel that does its
        work at once and in one that walks over it.
      norm: p of the p-norm.
      first, other: seconds of the first launch of a pass and of each other one.
    """

    lines: float
    issue: float
    memory: float
    l2: float
    latency: float
    scattered: float
    scattered_walk: float
    norm: float
    first: float
    other: float


# By `python -m benchmarks.gpu_model.calibrate fit`.
COEFFICIENTS = Coefficients(
    lines=0.477,
    issue=0.635,
    memory=0.932,
    l2=0.29,
    latency=150,
    scattered=1.68,
    scattered_walk=6.5,
    norm=2.03,
    first=15.1e-6,
    other=12.1e-6,
)


def model_launches(
    works: np.ndarray, memory_rate: np.ndarray | float, coefficients: Coefficients = COEFFICIENTS
) -> dict[str, np.ndarray]:
    """The seconds of launches by each of the five measures.

    Args:
      works: a row of each `LaunchWork`, [N, 10].
      memory_rate: bytes a second, of each or of all.
      coefficients: what each costs.
    """
    warps, programs, resident, loads, stores, instructions, size, row_bytes, unique, walks = works.T
    waves = programs / (MULTIPROCESSORS * resident)
    tail = np.ceil(waves) / waves
    fewest = LOAD_BYTES / LINE_BYTES
    lines = np.maximum(fewest, LOAD_BYTES / row_bytes)
    scattered = np.where(walks, coefficients.scattered_walk, coefficients.scattered)
    requests = fewest + (lines - fewest) * scattered
    sectors = np.where(row_bytes < SECTOR_BYTES, WARP, LOAD_BYTES // SECTOR_BYTES)
    clocks = MULTIPROCESSORS * CLOCK
    return {
        "lines": coefficients.lines * warps * (loads + stores) * requests / clocks * tail,
        "issue": coefficients.issue * warps * instructions / (4 * clocks) * tail,
        "memory": coefficients.memory * size / memory_rate,
        "L2": coefficients.l2 * warps * loads * sectors * SECTOR_BYTES * unique / L2_RATE,
        "latency": coefficients.latency * warps * loads / (4 * clocks * resident) * tail,
    }


def combine(times: Mapping[str, np.ndarray], coefficients: Coefficients = COEFFICIENTS) -> Any:
    """The seconds of launches, of those of the five measures."""
    norm = coefficients.norm
    return sum(each**norm for each in times.values()) ** (1 / norm)


def describe_work(launch: Launch, code: MachineCode, access: Access) -> LaunchWork:
    """What the model looks at, of a launch and its code."""
    programs = math.prod(launch.grid)
    registers = -(-code.registers // 8) * 8 * WARP * launch.warps
    return LaunchWork(
        warps=launch.warps * programs,
        programs=programs,
        resident=max(1, min(MAX_RESIDENT, REGISTERS // registers)),
        loads=sum(code.widths("LDG").values()),
        stores=sum(code.widths("STG").values()),
        instructions=sum(code.counts.values()),
        bytes=launch.bytes,
        row_bytes=access.row_bytes,
        unique=access.unique,
        walks=access.walks,
    )


def model_pass(case_pass: CasePass, arch: int, memory_rate: float = MEMORY_RATE) -> dict[str, Any]:
    """A pass as a JSON object: what it launches, and the time that this should take."""
    function, avals = case_pass.function()
    lowered = lower(function, *avals)
    access = describe_access(case_pass)
    rows: list[dict[str, Any]] = []
    total = lowered.other_bytes / memory_rate
    for number, launch in enumerate(lowered.launches):
        code = compile_launch(launch, arch)
        work = describe_work(launch, code, access)
        times = model_launches(np.array([work], float), memory_rate)
        total += float(combine(times)[0])
        total += COEFFICIENTS.other if number else COEFFICIENTS.first
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
                "work": work._asdict(),
                "seconds": {name: float(each[0]) for name, each in times.items()},
            }
        )
    return {
        "work": str(case_pass),
        "model": total,
        "limit": case_pass.min_bytes / memory_rate,
        "others": lowered.other_bytes / memory_rate,
        "launches": rows,
    }
