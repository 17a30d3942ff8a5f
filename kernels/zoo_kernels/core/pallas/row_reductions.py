"""Kernels that pass once over arrays [..., C]: elementwise results, and sums over the rows.

Memory sees rows of C channels. A program takes a block of columns, 256 bytes wide where it can, and
walks down its rows, some tiles at a time, so that enough loads are in flight. Channel counts that
would leave tiles ragged or loads unaligned are folded: f rows of C channels are one row of f·C
columns in memory, so 16 rows of 100 float32 channels are exactly 25 tiles wide, and 4 rows of 33
can be loaded 16 bytes at a time. Column j then belongs to channel j mod C.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zoo_kernels.core.pallas import tiles
from zoo_kernels.core.pallas.launch import SHARDS, Output, launch_kernel, program_ids

# How many row tiles a program loads at a time, by how many arrays it reads; 16 bytes of each tile
# go to a thread. An H100 at 3 TB/s and 0.7 µs needs 16 KiB in flight on each multiprocessor; these
# have 48 KiB and more there. Twice as many would cost registers: so they compile to at most 80
# (float32) and 126 (half precision; 168 where loads are scalar), which leaves room for 8 and 4
# programs, and spill none. From compiling and this model alone, not yet from timing.
UNROLL = {1: 8, 2: 4, 3: 2}
WARPS = 4
# Programs in all: two waves and more of 8 on each of an H100's 132 multiprocessors. As many tiles
# of 1 KiB are all that partial sums take.
MAX_PROGRAMS = 2304
# A piece of a row touches a sector more of memory than it fills, if rows are not aligned.
SECTOR_BYTES = 32
# What Pallas does not lower for Triton (erf's complement).
UNSUPPORTED_ACTS = ("gelu_exact",)

TileFunction = Callable[..., tuple[Sequence[jax.Array], Sequence[jax.Array]]]
MaskedOffsets = tuple[jax.Array, jax.Array]


class RowSplit(NamedTuple):
    """How the rows of one shard of an array [..., C] are split among programs.

    Args:
      rows, columns: of the folded array.
      channels: C, so columns // channels rows are folded into one.
      tile: what is loaded at once; its channels are columns of the folded array.
      unroll: how many tiles a program loads in one step.
      steps: how many steps a program takes.
      programs: how many programs split the rows.
    """

    rows: int
    columns: int
    channels: int
    tile: tiles.Tile
    unroll: int
    steps: int
    programs: int

    @property
    def fold(self) -> int:
        """How many rows are folded into one."""
        return self.columns // self.channels

    @property
    def rows_per_program(self) -> int:
        """How many folded rows a program takes; the last one may have fewer."""
        return self.steps * self.unroll * self.tile.rows

    def grid(self, shards: int) -> tuple[int, int]:
        """The grid of a launch: blocks of columns first, so that neighbours run side by side."""
        return tiles.cdiv(self.columns, self.tile.channels), shards * self.programs

    def partial_sums(self, shards: int) -> Output:
        """The shape and dtype of a sum over the rows, apart for each program and folded row."""
        return Output((shards, self.programs * self.fold, self.channels), jnp.float32, SHARDS)

    def row_counts(self) -> np.ndarray[Any, Any]:
        """How many rows each entry of `partial_sums` is over, [programs · fold, 1]."""
        starts = np.arange(self.programs) * self.rows_per_program
        rows = np.minimum(self.rows - starts, self.rows_per_program)
        return np.repeat(rows, self.fold)[:, None]


def split_rows(shard_size: int, like: Any, reads: int) -> RowSplit:
    """Splits the rows of one shard among programs.

    Args:
      shard_size: examples in a shard.
      like: an array, or its shape and dtype; all arrays of the kernel are like it.
      reads: how many arrays the kernel reads.
    """
    rows = shard_size * math.prod(like.shape[1:-1])
    return _split_rows(rows, like.shape[-1], jnp.dtype(like.dtype).itemsize, UNROLL[reads])


@functools.cache
def _split_rows(rows: int, channels: int, size: int, unroll: int) -> RowSplit:
    """Takes the fold and the tile that touch the fewest bytes a row; on a tie the smallest fold."""
    vector, widest = tiles.VECTOR_BYTES // size, tiles.MAX_WIDTH_BYTES // size
    widths = [vector << i for i in range(widest.bit_length()) if vector << i <= widest]
    folds = [1 << i for i in range(widest.bit_length()) if rows % (1 << i) == 0]

    def bytes_touched(choice: tuple[int, int]) -> tuple[float, int]:
        fold, width = choice
        columns = fold * channels
        pieces = tiles.cdiv(columns, width)
        loads_per_vector = 1 if columns % vector == 0 else vector
        return pieces * (width * size + SECTOR_BYTES) * loads_per_vector / fold, fold

    fold, width = min(((f, w) for f in folds for w in widths), key=bytes_touched)
    rows, columns = rows // fold, fold * channels
    tile = tiles.Tile(32 * WARPS * vector // width, width, WARPS)
    max_programs = max(1, MAX_PROGRAMS // tiles.cdiv(columns, width))
    steps = tiles.cdiv(rows, max_programs * unroll * tile.rows)
    programs = tiles.cdiv(rows, steps * unroll * tile.rows)
    return RowSplit(rows, columns, channels, tile, unroll, steps, programs)


class RowProgram:
    """One program's walk over its rows; to be constructed inside a kernel.

    Args:
      split: how the rows are split.
      shards: how many shards the kernel is launched on.
      reverse: the first program takes the last rows.
    """

    def __init__(self, split: RowSplit, shards: int, reverse: bool = False) -> None:
        self.split = split
        block, index = program_ids(split.grid(shards))
        if reverse:
            index = shards * split.programs - 1 - index
        shard, program = lax.div(index, split.programs), lax.rem(index, split.programs)
        row, column = split.tile.indices()
        first_column = block * split.tile.channels
        self.row = row + program * split.rows_per_program
        self.column = column + first_column
        start = (shard * split.rows + program * split.rows_per_program) * split.columns
        start = start + self.column
        self.first_row: MaskedOffsets = start, self.column < split.columns
        self.start = start + row * split.columns
        sum_column = first_column + lax.broadcasted_iota(jnp.int32, (split.tile.channels,), 0)
        self.sums: MaskedOffsets = index * split.columns + sum_column, sum_column < split.columns

    def offsets(self, step: Any) -> list[MaskedOffsets]:
        """The offsets and the mask of each tile of a step."""
        split = self.split
        skipped_rows = [(step * split.unroll + u) * split.tile.rows for u in range(split.unroll)]
        inside = self.column < split.columns
        return [
            (self.start + skipped * split.columns, inside & (self.row + skipped < split.rows))
            for skipped in skipped_rows
        ]

    def rows_seen(self, step: Any, at_least: int = 1) -> jax.Array:
        """How many rows each element of a tile has met at a step's end, in float32."""
        split = self.split
        left = split.rows - self.row + split.tile.rows - 1
        left = lax.div(left, jnp.full_like(left, split.tile.rows))
        return jnp.clip(left, at_least, (step + 1) * split.unroll).astype(jnp.float32)

    def load_vector(self, ref: Any) -> jax.Array:
        """Loads an array [C] as a tile, with the same values in each row."""
        split = self.split
        channel = self.column
        if split.fold > 1:
            channel = lax.rem(channel, jnp.full_like(channel, split.channels))
        return tiles.load(ref, channel, self.column < split.columns)

    def store_sums(self, ref: Any, sums: jax.Array) -> None:
        """Stores one value for each column into an array like `RowSplit.partial_sums`."""
        offsets, mask = self.sums
        tiles.store(ref, offsets, sums, mask)


def launch_row_kernel(
    name: str,
    function: TileFunction,
    shard_size: int,
    tensors: Sequence[jax.Array | None],
    vectors: Sequence[jax.Array | None],
    outputs: int = 0,
    sums: int = 0,
    reverse: bool = False,
) -> list[jax.Array]:
    """Launches one kernel that passes once over all tensors.

    Args:
      name: what a profiler shows.
      function: called with a float32 tile of each tensor and of each vector, None for None;
        returns tiles of the outputs and tiles of what the sums add up.
      shard_size: examples in a shard.
      tensors: arrays [N, ..., C] of one shape and dtype, which are read; the first is not None.
      vectors: arrays [C].
      outputs: how many arrays like the tensors are written.
      sums: how many sums over the rows are taken.
      reverse: begins at the end. What the kernel before has read last is in the L2 cache still.

    Returns:
      The outputs, then the sums, as `RowSplit.partial_sums` describes them.
    """
    operands = [array for array in (*tensors, *vectors) if array is not None]
    x, reads = operands[0], sum(array is not None for array in tensors)
    split, shards = split_rows(shard_size, x, reads), x.shape[0] // shard_size
    partial_sums = split.partial_sums(shards)

    def body(*refs: Any) -> None:
        tensor_refs, vector_refs = refs[:reads], refs[reads : len(operands)]
        output_refs, sum_refs = refs[len(operands) :][:outputs], refs[len(operands) + outputs :]
        program = RowProgram(split, shards, reverse)
        vector_tiles = _restore_none(vectors, map(program.load_vector, vector_refs))

        def step(i: Any, totals: Any) -> Any:
            offsets_of_tiles = program.offsets(i)
            loaded = [[tiles.load(ref, *o) for ref in tensor_refs] for o in offsets_of_tiles]
            for (offsets, mask), tensor_tiles in zip(offsets_of_tiles, loaded, strict=True):
                results, terms = function(*_restore_none(tensors, tensor_tiles), *vector_tiles)
                for ref, values in zip(output_refs, results, strict=True):
                    tiles.store(ref, offsets, values, mask)
                totals = [
                    total + jnp.where(mask, term, 0.0)
                    for total, term in zip(totals, terms, strict=True)
                ]
            return totals

        zeros = jnp.zeros((split.tile.rows, split.tile.channels), jnp.float32)
        totals = tiles.loop(split.steps, step, [zeros] * sums)
        for ref, total in zip(sum_refs, totals, strict=True):
            program.store_sums(ref, total.sum(axis=0))

    output_types = [jax.ShapeDtypeStruct(x.shape, x.dtype)] * outputs
    output_types += [jax.ShapeDtypeStruct(partial_sums.shape, partial_sums.dtype)] * sums
    return launch_kernel(body, name, split.grid(shards), WARPS, output_types, *operands)


def _restore_none(arrays: Sequence[Any], values: Iterable[Any]) -> list[Any]:
    """Puts the values in the places of the arrays that are not None."""
    remaining = iter(values)
    return [None if array is None else next(remaining) for array in arrays]


def sum_outputs(like: Any, shards: int, reads: int, sums: int) -> list[Output]:
    """The sums that `launch_row_kernel` gives for shards of arrays like that one."""
    return [split_rows(like.shape[0] // shards, like, reads).partial_sums(shards)] * sums


def output_like_x(spec: Any, shards: int, x: Any, *_: Any) -> list[Output]:
    """One output like the first array: for `TritonPass.outputs`."""
    return [Output(x.shape, x.dtype)]


def is_batched(spec: Any, *arrays: Any) -> list[bool]:
    """All arrays but vectors have a batch: for `TritonPass.is_batched`."""
    return [array.ndim > 1 for array in arrays if array is not None]


def unsupported(spec: Any, *arrays: Any) -> str | None:
    """The reason why these kernels cannot do a call, or None."""
    if spec.act in UNSUPPORTED_ACTS:
        return f"Triton has no {spec.act}"
    return tiles.unsupported(*arrays)
