"""Dense 3x3 convolution by Winograd's minimal filtering (Lavin and Gray 2016, arXiv 1509.09308).

F(4x4, 3x3): each tile of 4x4 outputs comes from 6x6 inputs by 36 products instead of 144. The
gradients are products of the same transforms, transposed, and save as much.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zoo_kernels.core import convolution
from zoo_kernels.core.dtypes import accumulation_dtype
from zoo_kernels.core.linear_vjp import ConvSpec

TAPS, TILE = 3, 4
PATCH = TILE + TAPS - 1

# The points where the polynomials are evaluated, besides infinity; these lose least accuracy
# (Barabasz et al. 2020, arXiv 1803.10986).
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)


def _evaluation_matrix(count: int) -> np.ndarray:
    """Maps a polynomial's `count` coefficients to its values at the points and at infinity."""
    infinity = np.eye(1, count, count - 1)
    return np.concatenate([np.array(POINTS)[:, None] ** np.arange(count), infinity])


# Y = OUTPUTS [(KERNEL g KERNELᵀ) ⊙ (INPUTS d INPUTSᵀ)] OUTPUTSᵀ: Toom and Cook's product of
# polynomials, transposed to give a correlation.
OUTPUTS, KERNEL = _evaluation_matrix(TILE).T, _evaluation_matrix(TAPS)
INPUTS = np.linalg.inv(_evaluation_matrix(PATCH)).T


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """(x, w) → y."""
    (ho, wo), padding = spec.window.out, spec.window.padding
    dtype = accumulation_dtype(x.dtype)
    outputs, kernel, inputs = (jnp.asarray(m, dtype) for m in (OUTPUTS, KERNEL, INPUTS))
    rows, columns = -(-ho // TILE), -(-wo // TILE)
    pads = [
        (low, tiles * TILE + TAPS - 1 - size - low, 0)
        for (low, _), size, tiles in zip(padding, spec.window.size, (rows, columns), strict=True)
    ]
    none = (0, 0, 0)
    padded = lax.pad(x.astype(dtype), jnp.zeros((), dtype), (none, *pads, none))
    patches = _cut_patches(_cut_patches(padded, 1, rows), 3, columns)  # [N, rows, 6, columns, 6, C]
    values = jnp.einsum("ai,nhiwjc,bj->abnhwc", inputs, patches, inputs)
    taps = jnp.einsum("ai,ijco,bj->abco", kernel, w.astype(dtype), kernel)
    products = jnp.einsum("abnhwc,abco->abnhwo", values, taps)
    y = jnp.einsum("ia,abnhwo,jb->nhiwjo", outputs, products, outputs)
    y = y.reshape(x.shape[0], rows * TILE, columns * TILE, w.shape[3])
    return y[:, :ho, :wo].astype(x.dtype)


def _cut_patches(x: jax.Array, axis: int, tiles: int) -> jax.Array:
    """Cuts an axis into overlapping patches, [..., tiles, 6, ...]."""
    shifts = [lax.slice_in_dim(x, i, i + (tiles - 1) * TILE + 1, TILE, axis) for i in range(PATCH)]
    return jnp.stack(shifts, axis + 1)


input_grad = functools.partial(convolution.input_grad, forward)
weight_grad = functools.partial(convolution.weight_grad, forward)


def unsupported(spec: ConvSpec) -> str | None:
    """The reason why the call cannot be done, or None."""
    window = spec.window
    if window.kernel == (TAPS, TAPS) and window.strides == window.dilation == (1, 1):
        return None
    return (
        f"winograd takes a 3x3 kernel with strides and dilation of 1, got {window.kernel[0]}x"
        f"{window.kernel[1]}, {window.strides} and {window.dilation}"
    )
