"""Which pixels a spatial tile of neighbouring outputs needs, along one axis of a convolution.

A thread computes a tile of a few outputs in its registers, so that it loads a pixel once for all
of the outputs and taps that need it. Which those are is known when the kernel is written: `uses`
lists for each pixel, counted from the tile's first, the (output, tap) pairs that it enters.
"""

import math
from typing import NamedTuple

from zoo_kernels.core.window import Window


class Axis(NamedTuple):
    """One axis of a pass that makes outputs from pixels.

    Args:
      outputs, pixels: how many there are.
      tile: how many outputs a thread computes.
      tile_stride: pixels from one tile's first pixel to the next tile's.
      start: the first tile's first pixel.
      uses: pixel, counted from the tile's first → [(output, tap), …].
      tap_shift: pixels from where `uses` lies for these taps to where it lies for the next ones; as
        many taps are unrolled at a time.
    """

    outputs: int
    pixels: int
    tile: int
    tile_stride: int
    start: int
    uses: dict[int, list[tuple[int, int]]]
    tap_shift: int

    @property
    def tiles(self) -> int:
        """How many tiles cover the outputs."""
        return -(-self.outputs // self.tile)  # rounded up

    @property
    def ragged(self) -> bool:
        """Whether the last tile extends beyond the outputs."""
        return self.outputs % self.tile > 0

    def always_inside(self, pixel: int) -> bool:
        """Whether that pixel is inside the image for every tile."""
        first = self.start + pixel
        return first >= 0 and first + (self.tiles - 1) * self.tile_stride < self.pixels


def forward_axis(window: Window, axis: int, tile: int, taps: int) -> Axis:
    """For x → y: output h takes pixel h · stride + tap · dilation − padding."""
    s, d = window.strides[axis], window.dilation[axis]
    triples = [(a * s + i * d, a, i) for a in range(tile) for i in range(taps)]
    low = window.padding[axis][0]
    uses = _group_by_pixel(triples)
    return Axis(window.out[axis], window.size[axis], tile, tile * s, -low, uses, taps * d)


def input_grad_axis(window: Window, axis: int, tile: int, taps: int) -> Axis:
    """For dy → dx: output h takes pixel (h + padding − tap · dilation) / stride, if that is whole.

    So the outputs of one tile belong to all sub-pixel phases, each of which has taps of its own,
    and no zero is multiplied.
    """
    s, d = window.strides[axis], window.dilation[axis]
    low = window.padding[axis][0]
    triples = [
        ((a + low - i * d) // s, a, i)
        for a in range(tile)
        for i in range(taps)
        if (a + low - i * d) % s == 0
    ]
    uses = _group_by_pixel(triples)
    return Axis(window.size[axis], window.out[axis], tile, tile // s, 0, uses, -taps * d // s)


def _group_by_pixel(triples: list[tuple[int, int, int]]) -> dict[int, list[tuple[int, int]]]:
    """(pixel, output, tap) triples → pixel → [(output, tap), …], in ascending order."""
    uses: dict[int, list[tuple[int, int]]] = {}
    for pixel, output, tap in sorted(triples):
        uses.setdefault(pixel, []).append((output, tap))
    return uses


def phase_period(window: Window, axis: int) -> int:
    """After how many taps the phases of the input gradient repeat."""
    return window.strides[axis] // math.gcd(window.strides[axis], window.dilation[axis])
