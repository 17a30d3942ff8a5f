"""The zoo's models as people write them: flax.linen and lax, and nothing of `kernels`.

The definitions are the zoo's own; inside `plainly()` each of their layers computes what
`flax.linen`'s layer of that name does, from the same parameters: `lax.conv_general_dilated`, batch
statistics by flax's formula, `jax.nn`'s activations, and jax's own gradients of all that.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

import zoo_kernels as kernels
from zoo.models.layers import BatchNorm, Conv, Dense


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """What is traced inside takes no operator of `kernels`."""
    # Pools have no parameters, so that the zoo's models call a function: no layer to intercept.
    with nn.intercept_methods(_intercept), mock.patch.object(kernels, "max_pool", _max_pool):
        yield


def _intercept(
    call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
    layer = _LAYERS.get(type(context.module))
    if layer is None or context.method_name != "__call__":
        return call(*args, **kwargs)
    return layer(context.module, *args, **kwargs)


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
    options = module.options
    scale, bias = (module.get_variable("params", name) for name in ("scale", "bias"))
    mean: Any
    var: Any
    if options.fused:
        mean, var, eps = 0.0, 1.0, 0.0
    elif train:
        mean, var, eps = *_statistics(module, x), options.norm_eps
    else:
        mean, var = (module.get_variable("batch_stats", name) for name in ("mean", "var"))
        eps = options.norm_eps
    y = (x - mean) * (lax.rsqrt(var + eps) * scale) + bias
    y = y.astype(options.dtype)
    return _activate(module.act, y if residual is None else y + residual)


def _statistics(module: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The batch's mean and biased variance in float32 or better; moves the running ones."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    var = jnp.maximum(0.0, jnp.square(x).mean(axes) - jnp.square(mean))
    count = x.size // x.shape[-1]
    for name, now in (("mean", mean), ("var", var * (count / max(count - 1, 1)))):
        old = module.get_variable("batch_stats", name)
        momentum = module.options.norm_momentum
        new = momentum * old + (1 - momentum) * now
        module.put_variable("batch_stats", name, new)
    return mean, var


def _max_pool(
    x: jax.Array, size: int, *, strides: int, padding: Sequence[tuple[int, int]], dilation: int
) -> jax.Array:
    """As `flax.linen.max_pool`, which knows no dilation."""
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, size, size, 1),
        (1, strides, strides, 1),
        ((0, 0), *padding, (0, 0)),
        window_dilation=(1, dilation, dilation, 1),
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
}
