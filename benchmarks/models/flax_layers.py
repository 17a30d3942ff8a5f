"""The zoo's models on layers of flax.linen and lax, as people write them, without `zoo_kernels`.

The definitions and parameters are the zoo's own. Inside `flax_layers()` each layer computes what
flax.linen's layer of that name does: `lax.conv_general_dilated`, batch statistics by flax's
formula, `jax.nn`'s activations, and jax's own gradients of all that.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from zoo.models.layers import BatchNorm, Conv, Dense, MaxPool
from zoo.surgery.intercept import Call, intercept


def flax_layers() -> AbstractContextManager[None]:
    """Replaces the zoo's layers in everything that is traced inside the `with` block."""
    return intercept(_compute_by_flax)


def _compute_by_flax(call: Call) -> Any:
    compute = _LAYERS.get(type(call.module))
    return compute(call.module, *call.args, **call.kwargs) if compute else call.run()


def _conv(
    module: Any, x: jax.Array, train: bool = False, residual: jax.Array | None = None
) -> jax.Array:
    x, kernel = nn.dtypes.promote_dtype(
        x, module.get_variable("params", "kernel"), dtype=module.options.dtype
    )
    padding = module.options.padding if module.padding is None else module.padding
    if padding == "symmetric":
        padding = (module.kernel_size - 1) * module.dilation // 2
    y = lax.conv_general_dilated(
        x,
        kernel,
        (module.strides,) * 2,
        [(padding, padding)] * 2 if isinstance(padding, int) else padding,
        rhs_dilation=(module.dilation,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=module.groups,
    )
    if module.use_bias:
        y += module.get_variable("params", "bias").astype(y.dtype)
    return _activate(module.act, y if residual is None else y + residual)


def _dense(module: Any, x: jax.Array) -> jax.Array:
    kernel, bias = (module.get_variable("params", name) for name in ("kernel", "bias"))
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=module.options.dtype)
    return _activate(module.act, x @ kernel + bias)


def _batch_norm(
    module: Any,
    x: jax.Array,
    train: bool = False,
    residual: jax.Array | None = None,
    recompute: bool = False,
) -> jax.Array:
    scale, bias = (module.get_variable("params", name) for name in ("scale", "bias"))
    options = module.options
    mean: Any
    var: Any
    if options.fused:
        mean, var, eps = 0.0, 1.0, 0.0
    elif train:
        mean, var, eps = *_batch_statistics(module, x), options.norm_eps
    else:
        mean, var = (module.get_variable("batch_stats", name) for name in ("mean", "var"))
        eps = options.norm_eps
    y = (x - mean) * (lax.rsqrt(var + eps) * scale) + bias
    y = y.astype(options.dtype)
    return _activate(module.act, y if residual is None else y + residual)


def _batch_statistics(module: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The batch's mean and biased variance in float32 or better; updates the running ones."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    var = jnp.maximum(0.0, jnp.square(x).mean(axes) - jnp.square(mean))
    count = x.size // x.shape[-1]
    momentum = module.options.norm_momentum
    for name, batch in (("mean", mean), ("var", var * (count / max(count - 1, 1)))):
        running = module.get_variable("batch_stats", name)
        module.put_variable("batch_stats", name, momentum * running + (1 - momentum) * batch)
    return mean, var


def _max_pool(module: Any, x: jax.Array) -> jax.Array:
    """As `flax.linen.max_pool`, which has no dilation."""
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, module.size, module.size, 1),
        (1, module.strides, module.strides, 1),
        ((0, 0), *module.pads(x.shape[1:3]), (0, 0)),
        window_dilation=(1, module.dilation, module.dilation, 1),
    )


def _activate(act: str, z: jax.Array) -> jax.Array:
    if act == "identity":
        return z
    if act == "gelu_exact":
        return jax.nn.gelu(z, approximate=False)
    activation: Callable[[jax.Array], jax.Array] = getattr(jax.nn, act)
    return activation(z)


_LAYERS: dict[type[nn.Module], Callable[..., jax.Array]] = {
    Conv: _conv,
    Dense: _dense,
    BatchNorm: _batch_norm,
    MaxPool: _max_pool,
}
