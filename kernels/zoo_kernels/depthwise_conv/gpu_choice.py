"""Where XLA's convolution is the better default on a GPU, as an H100 and an H200 measured.

The rows are in benchmarks/results/h100-jax0.11.json and h200-jax0.11.json;
tests/kernels/core/test_gpu_choice.py holds the table against them. Kernels that were improved after
the measurement stay in the table until they are measured again.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec


class Slower(NamedTuple):
    """A class of calls in which the Triton kernel was slower than XLA's convolution.

    Args:
      pass_name: of the operator.
      kernel: the least and the largest side of the kernels.
      strided: whether a stride is more than 1.
      bytes: of an element.
      ratios: how many times XLA's time it took on the H200 and on the H100, the worst row of each.
      min_size: the least side of the images.
      not_multiple_of: where it is given, only numbers of channels that this does not divide.
    """

    pass_name: str
    kernel: tuple[int, int]
    strided: bool
    bytes: int
    ratios: tuple[float, float]
    min_size: int = 1
    not_multiple_of: int = 0


SLOWER = (
    # Each thread's load was in a cache line of its own. Tiles have been made wider since.
    Slower(FORWARD, (1, 3), False, 4, (1.30, 1.36), min_size=32, not_multiple_of=16),
    Slower(FORWARD, (1, 3), False, 2, (1.91, 2.11), not_multiple_of=32),
    Slower(INPUT_GRAD, (1, 3), False, 4, (1.20, 1.25), min_size=32, not_multiple_of=16),
    Slower(INPUT_GRAD, (1, 3), False, 2, (1.82, 2.10), not_multiple_of=32),
    Slower(FORWARD, (4, 6), True, 4, (1.52, 1.79)),
    # The weight gradient waits for its loads in each step.
    Slower(WEIGHT_GRAD, (1, 3), False, 4, (2.93, 2.58), min_size=15),
    Slower(WEIGHT_GRAD, (1, 3), False, 2, (3.99, 3.80), not_multiple_of=32),
    Slower(WEIGHT_GRAD, (1, 3), True, 4, (1.38, 1.23)),
    Slower(WEIGHT_GRAD, (1, 3), True, 2, (1.25, 1.12)),
    Slower(WEIGHT_GRAD, (4, 6), False, 4, (1.28, 1.11)),
    Slower(WEIGHT_GRAD, (4, 6), False, 2, (2.36, 2.29)),
    Slower(WEIGHT_GRAD, (4, 6), True, 2, (1.99, 1.93)),
    Slower(WEIGHT_GRAD, (7, 9), False, 2, (1.49, 1.47), min_size=15),
)


def defers(pass_name: str, spec: ConvSpec, *arrays: jax.Array) -> str | None:
    """The reason why XLA's convolution is the better default for a pass, or None."""
    found = find_slower(pass_name, spec.window, arrays[0].dtype)
    if found is None:
        return None
    h200, h100 = found.ratios
    return f"took up to {h200} and {h100} times XLA's time on an H200 and an H100"


def find_slower(pass_name: str, window: Any, dtype: Any) -> Slower | None:
    """The class that a pass of a window is in, or None."""
    if max(window.dilation) > 1:  # which was not measured
        return None
    side, size, strided = max(window.kernel), max(window.size), max(window.strides) > 1
    for each in SLOWER:
        if (
            (each.pass_name, each.strided) == (pass_name, strided)
            and each.bytes == jnp.dtype(dtype).itemsize
            and each.kernel[0] <= side <= each.kernel[1]
            and size >= each.min_size
            and (not each.not_multiple_of or window.channels % each.not_multiple_of)
        ):
            return each
    return None
