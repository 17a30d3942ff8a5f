"""Runs a handful of native layers, and prints a digest of all bits of their results.

    python -m tests.kernels.native.in_another_process FOLDER [FLAG …]

The library is compiled into the folder, with the flags in place of `-march=native`. What is made of
whole numbers is compared with its definition; real numbers enter the digest alone.
"""

import functools
import hashlib
import sys
from pathlib import Path

import jax
import numpy as np

from tests.kernels.native.whole_numbers import (
    ACTIVATIONS,
    check_conv,
    check_depthwise,
    check_max_pool,
    check_pointwise,
)
from zoo_kernels import native
from zoo_kernels.core.window import resolve_pool, resolve_window
from zoo_kernels.native import build

SAME3, SAME5 = ((1, 1), (1, 1)), ((2, 2), (2, 2))


def compare():
    """Compares layers with their definition, in all ways that their code depends on."""
    for outputs in (1, 5, 9, 17, 40):
        check_conv((1, 9, 13, 5), (3, 3), outputs, residual=True, padding=SAME3)
        check_conv((2, 7, 6, 33), (1, 1), outputs, strides=(2, 1))
    check_conv((1, 3, 230, 512), (3, 3), 24, padding=SAME3, strides=(1, 2))
    check_conv((1, 9, 9, 1024), (1, 1), 70)
    check_pointwise((2, 7, 9), (9, 16, 3), 21, norm=True, cell=2)
    for act in ACTIVATIONS:
        check_conv((1, 5, 6, 7), (3, 3), 19, act, padding=SAME3)
        check_depthwise((1, 9, 10, 21), (3, 3), 21, act, padding=SAME3)
        check_depthwise((1, 9, 10, 5), (3, 3), 21, act, expansion_act=act, padding=SAME3)
    for kernel, strides in (((5, 5), (2, 2)), ((7, 7), (1, 1)), ((2, 3), (3, 1))):
        check_depthwise((2, 15, 14, 37), kernel, 37, strides=strides, padding=SAME5)
        check_max_pool((2, 15, 14, 37), kernel, strides=strides, padding=SAME5)


@functools.cache
def network():
    """A few layers in a row, large enough for all threads: x → y."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return np.float32(rng.normal(size=shape) / np.prod(shape[:-1]) ** 0.5)

    stem, expand, depthwise = normal(3, 3, 3, 24), normal(1, 1, 24, 130), normal(5, 5, 1, 130)
    project, wide = normal(1, 1, 130, 24), normal(3, 3, 24, 512)
    narrow = normal(1, 1, 512, 100)
    bias = native.pad_channels(normal(512))
    pack = native.pack

    @jax.jit
    def run(x):
        window = resolve_window("conv", x, (3, 3), 2, 1, 1, 1)
        x = native.conv([x], pack(stem), bias, outputs=24, window=window, act="relu")
        x, window = resolve_pool("max_pool", x, 3, 1, 1, 1)
        x = native.max_pool(x, window)
        shape = np.zeros((*x.shape[:3], 130))
        y = native.depthwise_conv(
            x,
            pack(depthwise, depthwise=True),
            bias,
            window=resolve_window("conv", shape, (5, 5), 1, 2, 1, 130),
            act="hard_swish",
            expansion=(pack(expand), bias, "relu6"),
        )
        window = resolve_window("conv", y, (1, 1), 1, 0, 1, 1)
        x = native.conv([y], pack(project), bias, outputs=24, window=window, residual=x)
        window = resolve_window("conv", x, (3, 3), 2, 1, 1, 1)
        x = native.conv([x], pack(wide), bias, outputs=512, window=window, act="relu6")
        window = resolve_window("conv", x, (1, 1), 1, 0, 1, 1)
        return native.conv([x], pack(narrow), bias, outputs=100, window=window)

    return run


def images(count, size=57, seed=0):
    return np.float32(np.random.default_rng(seed).normal(size=(count, size, size, 3)))


def main(folder, flags):
    """Does what the module's docstring says."""
    if flags:
        kept = tuple(flag for flag in build.FLAGS if not flag.startswith("-march"))
        build.compile_library = functools.partial(build.compile_library, flags=(*kept, *flags))
    build._cache_folder = lambda: Path(folder)
    assert native.unavailable() is None, native.unavailable()
    compare()
    digest = hashlib.sha256()
    for count in (1, 2, 5):
        digest.update(np.asarray(network()(images(count))).tobytes())
    print(build.library().lanes, digest.hexdigest())


if __name__ == "__main__":
    main(sys.argv[1], tuple(sys.argv[2:]))
