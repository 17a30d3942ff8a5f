"""Which pixels meet in a convolution, along one axis, for a tile of neighbouring outputs.

A thread computes a tile of a few outputs in its registers, so that it loads a pixel once for all
of the outputs and taps that need it. Which those are is known when the kernel is written: `meet`
lists for each pixel, counted from the tile's first, the (output, tap) pairs that it serves.
"""

import math
from typing import NamedTuple

from zoo_kernels.core.pallas.tiles import cdiv
from zoo_kernels.core.window import Window


class Axis(NamedTuple):
    """One axis of a pass that makes outputs from pixels.

    Args:
      outputs, pixels: how many there are.
      tile: how many outputs a thread computes.
      step: by how many pixels one tile's first pixel is behind the tile's before.
      start: the first tile's first pixel.
      meet: pixel → [(output, tap), …], from the tile's first.
      chunk: by how many pixels all of this moves where the taps are the next so many.
    """

    outputs: int
    pixels: int
    tile: int
    step: int
    start: int
    meet: dict[int, list[tuple[int, int]]]
    chunk: int

    @property
    def tiles(self) -> int:
        """How many tiles cover the outputs."""
        return cdiv(self.outputs, self.tile)

    @property
    def ragged(self) -> bool:
        """Whether the last tile juts out."""
        return self.outputs % self.tile > 0

    def inside(self, pixel: int) -> bool:
        """Whether that pixel of every tile is inside the image."""
        first = self.start + pixel
        return first >= 0 and first + (self.tiles - 1) * self.step < self.pixels


def forward(window: Window, axis: int, tile: int, taps: int) -> Axis:
    """For x → y: output h takes pixel h · stride + tap · dilation − padding."""
    s, d = window.strides[axis], window.dilation[axis]
    pairs = [(a * s + i * d, a, i) for a in range(tile) for i in range(taps)]
    low = window.padding[axis][0]
    return Axis(window.out[axis], window.size[axis], tile, tile * s, -low, _meet(pairs), taps * d)


def input_grad(window: Window, axis: int, tile: int, taps: int) -> Axis:
    """For dy → dx: output h takes pixel (h + padding − tap · dilation) / stride, if that is whole.

    So the outputs of one tile are of all sub-pixel phases, each of which has taps of its own, and
    no zero is multiplied.
    """
    s, d = window.strides[axis], window.dilation[axis]
    low = window.padding[axis][0]
    pairs = [
        ((a + low - i * d) // s, a, i)
        for a in range(tile)
        for i in range(taps)
        if (a + low - i * d) % s == 0
    ]
    return Axis(
        window.size[axis], window.out[axis], tile, tile // s, 0, _meet(pairs), -taps * d // s
    )


def _meet(pairs: list[tuple[int, int, int]]) -> dict[int, list[tuple[int, int]]]:
    meet: dict[int, list[tuple[int, int]]] = {}
    for pixel, output, tap in sorted(pairs):
        meet.setdefault(pixel, []).append((output, tap))
    return meet


def period(window: Window, axis: int) -> int:
    """After how many taps the phases of the input gradient repeat."""
    return window.strides[axis] // math.gcd(window.strides[axis], window.dilation[axis])
