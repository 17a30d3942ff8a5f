"""Instance normalisation: `batch_norm` of each image alone, with the implementations of that."""

import jax

from zoo_kernels.batch_norm import batch_norm
from zoo_kernels.core import dispatch

OP = "instance_norm"


def instance_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    eps: float = 1e-5,
    act: str = "identity",
    residual: jax.Array | None = None,
    implementation: dispatch.Requested = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each channel of each image by its statistics over the image (arXiv 1607.08022).

    y = act((x − mean) / √(var + eps) · scale + bias + residual)

    Args:
      x: [N, H, W, C], floating point.
      scale, bias: [C], or [N, C] for others in each image (arXiv 1610.07629).
      eps: added to the variance, at least 0.
      act: an activation's name, as for `bias_act`.
      residual: like x, added before the activation.
      implementation: of "batch_norm"; None chooses by platform, a name is strict, a sequence is
        tried in order.

    Returns:
      y like x, and each image's mean and biased variance, [N, C], in float32 (float64 for float64).

    Raises:
      ValueError: arguments that do not fit each other.
      NotImplementedError: the implementation asked for cannot do the call.
    """
    if x.ndim != 4:
        raise ValueError(f"{OP}: x must be [N, H, W, C], got {x.shape}")
    n, channels = x.shape[0], x.shape[-1]
    for name, array in (("scale", scale), ("bias", bias)):
        if array.shape not in ((channels,), (n, channels)):
            raise ValueError(
                f"{OP}: {name} must be [{channels}] or [{n}, {channels}] for x of {x.shape}, "
                f"got {array.shape}"
            )
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"{OP}: residual must be like x, {x.shape}, got {residual.shape}")

    def normalise(
        x: jax.Array, scale: jax.Array, bias: jax.Array, residual: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        y, mean, var = batch_norm(
            x, scale, bias, eps=eps, act=act, residual=residual, implementation=implementation
        )
        return y, mean, var

    axes = (0, 0 if scale.ndim == 2 else None, 0 if bias.ndim == 2 else None, 0)
    result: tuple[jax.Array, jax.Array, jax.Array] = jax.vmap(normalise, in_axes=axes)(
        x, scale, bias, residual
    )
    return result
