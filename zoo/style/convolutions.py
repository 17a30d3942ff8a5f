"""The convolutions of style networks, in forms that are fast on a CPU.

All have mirrored borders: zeros would leave a frame around each picture.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import zoo_kernels as kernels


def mirrored_conv(x: jax.Array, kernel: jax.Array, strides: int = 1, block: int = 1) -> jax.Array:
    """A convolution of an input whose borders are mirrored, [N, H, W, C] → [N, H', W', features].

    Args:
      x: the input.
      kernel: [k, k, C, features], k odd.
      strides: in both directions.
      block: computes so many outputs a side at once, as channels of a convolution with a stride.
        Few channels leave most of a processor's width idle; more of them are worth the products
        with zeros that the larger kernel has. Divides height and width; needs strides of 1.
    """
    k, _, channels, features = kernel.shape
    x = mirror(x, k // 2)
    if block == 1:
        return kernels.conv(x, kernel, strides=strides, padding=0)
    shifts = range(block)
    shifted = [
        [
            jnp.pad(kernel, [(down, block - 1 - down), (right, block - 1 - right), (0, 0), (0, 0)])
            for right in shifts
        ]
        for down in shifts
    ]
    wide = jnp.stack([jnp.stack(row, axis=3) for row in shifted], axis=3)
    wide = wide.reshape(k + block - 1, k + block - 1, channels, block**2 * features)
    return _spread(kernels.conv(x, wide, strides=block, padding=0), block)


def repeated_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A 3x3 convolution of an input each of whose pixels is repeated 2x2.

    Of the nine products for an output pixel only four have different inputs; their kernels are
    added before. The outputs at even and odd positions are channels of one convolution.

    Args:
      x: [N, H, W, C].
      kernel: [3, 3, C, features].

    Returns:
      [N, 2 H, 2 W, features].
    """
    even, odd = (
        jnp.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]]),
        jnp.array([[0, 0, 0], [1, 1, 0], [0, 0, 1]]),
    )
    sums = jnp.stack([even, odd]).astype(kernel.dtype)  # [parity, tap of the input, tap]
    wide = jnp.einsum("pik,qjl,klcf->ijcpqf", sums, sums, kernel)
    wide = wide.reshape(3, 3, kernel.shape[2], -1)
    # To mirror repeated pixels at their borders is to repeat the border of the input.
    return _spread(kernels.conv(extend(x, 1), wide, padding=0), 2)


def transposed_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution with stride 2, transposed: [N, H, W, C] → [N, 2 H, 2 W, features].

    As PyTorch's ConvTranspose2d with stride 2, padding (k − 1) / 2 and output padding 1; borders
    are not mirrored.

    Args:
      x: the input.
      kernel: [k, k, C, features], k odd.
    """
    n, height, width, _ = x.shape
    k, _, _, features = kernel.shape

    def halve(y: jax.Array) -> jax.Array:
        return kernels.conv(y, kernel.swapaxes(2, 3), strides=2, padding=k // 2)

    zeros = jnp.zeros((n, 2 * height, 2 * width, features), x.dtype)
    result: jax.Array = jax.vjp(halve, zeros)[1](x)[0]
    return result


def mirror(x: jax.Array, pad: int) -> jax.Array:
    """[N, H, W, C] → [N, H + 2 pad, W + 2 pad, C], mirrored at the middle of border pixels."""
    return _border("reflect", pad, x)


def extend(x: jax.Array, pad: int) -> jax.Array:
    """[N, H, W, C] → [N, H + 2 pad, W + 2 pad, C], with border pixels repeated."""
    return _border("edge", pad, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _border(mode: str, pad: int, x: jax.Array) -> jax.Array:
    """As `jnp.pad`, whose concatenated parts jax 0.10's CPU copies slowly before a convolution."""
    rows, columns = (np.pad(np.arange(length), pad, mode) for length in x.shape[1:3])  # type: ignore[call-overload]
    return x[:, rows][:, :, columns]


def _pad(mode: str, pad: int, x: jax.Array) -> jax.Array:
    return jnp.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)], mode)


def _border_fwd(mode: str, pad: int, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _border(mode, pad, x), x


def _border_bwd(mode: str, pad: int, x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    # That of the gathered pixels would be a scatter, which runs on one core.
    return tuple(jax.linear_transpose(functools.partial(_pad, mode, pad), x)(dy))


_border.defvjp(_border_fwd, _border_bwd)


def _spread(x: jax.Array, block: int) -> jax.Array:
    """[N, H, W, block² · C] → [N, block H, block W, C]: channels become blocks of pixels."""
    n, height, width, _ = x.shape
    x = x.reshape(n, height, width, block, block, -1).swapaxes(2, 3)
    return x.reshape(n, height * block, width * block, -1)
