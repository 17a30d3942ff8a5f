"""Traces a model to a program in which each layer is one equation.

The layers of `zoo.models.layers` become equations of primitives of our own, with the layer's
parameters as operands and its settings as parameters; everything between them is plain lax.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive

import zoo_kernels as kernels
from zoo.models import layers
from zoo.models.base import Model
from zoo.surgery.intercept import Call, intercept

# A batch of a size that no other side has: in shapes it stands for any.
BATCH = 100_003

CONV, DENSE, BATCH_NORM, ACTIVATION, MAX_POOL = (
    Primitive(f"zoo_{name}") for name in ("conv", "dense", "batch_norm", "activation", "max_pool")
)
PRIMITIVES = (CONV, DENSE, BATCH_NORM, ACTIVATION, MAX_POOL)


def _abstract(*operands: Any, result: tuple[int, ...], **_: Any) -> Any:
    return jax.core.ShapedArray(result, operands[0].dtype)


for _primitive in PRIMITIVES:
    _primitive.def_abstract_eval(_abstract)


def trace_layers(model: Model, variables: Any, shape: tuple[int, ...]) -> ClosedJaxpr:
    """The program of a model in inference; its inputs are the leaves of variables, and images.

    Args:
      model: the definition.
      variables: of the model.
      shape: of the images, [H, W, C].
    """
    images = jax.ShapeDtypeStruct((BATCH, *shape), jnp.float32)

    def run(variables: Any, x: jax.Array) -> Any:
        with intercept(_replace):
            return model.apply(variables, x)

    with kernels.using("lax"):
        return jax.make_jaxpr(run)(variables, images)


def _replace(call: Call) -> Any:
    """The output of a layer's equation in place of what the layer computes."""
    make = _LAYERS.get(type(call.module))
    return call.run() if make is None else make(call)


def _bind(
    primitive: Primitive, shape: tuple[int, ...], path: str, *operands: Any, **config: Any
) -> Any:
    return primitive.bind(*operands, result=shape, path=path, **config)


def _finish(y: jax.Array, call: Call, residual: jax.Array | None) -> jax.Array:
    """Adds a residual, and applies the layer's activation."""
    if residual is not None:
        y = y + residual
    act: str = call.module.act
    return y if act == "identity" else _bind(ACTIVATION, y.shape, call.path, y, act=act)


def _arguments(call: Call) -> tuple[Any, Any]:
    """The input, and the residual or None."""
    given: Mapping[str, Any] = dict(
        zip(("x", "train", "residual"), call.args, strict=False), **call.kwargs
    )
    return given["x"], given.get("residual")


def _parameter(call: Call, name: str, collection: str = "params") -> Any:
    return call.module.get_variable(collection, name)


def _trace_conv(call: Call) -> Any:
    module, (x, residual) = call.module, _arguments(call)
    shape = jax.eval_shape(lambda x: call.run(x=x, residual=None), x).shape
    k, padding = module.kernel_size, module.padding
    if padding is None:
        padding = module.options.padding
    extent = (k - 1) * module.dilation + 1
    if padding == "symmetric":
        padding = (extent - 1) // 2
    if isinstance(padding, str):
        windows = (extent, extent), (module.strides, module.strides)
        pads = jax.lax.padtype_to_pads(x.shape[1:3], *windows, padding)
    elif isinstance(padding, int):
        pads = [(padding, padding)] * 2
    else:
        pads = [(low, high) for low, high in padding]
    operands = [_parameter(call, "kernel")]
    if module.use_bias:
        operands.append(_parameter(call, "bias"))
    y = _bind(
        CONV,
        shape,
        call.path,
        x,
        *operands,
        strides=module.strides,
        dilation=module.dilation,
        groups=module.groups,
        pads=tuple(map(tuple, pads)),
    )
    return _finish(y, call, residual)


def _trace_dense(call: Call) -> Any:
    x, _ = _arguments(call)
    kernel, bias = _parameter(call, "kernel"), _parameter(call, "bias")
    y = _bind(DENSE, (*x.shape[:-1], kernel.shape[-1]), call.path, x, kernel, bias)
    return _finish(y, call, None)


def _trace_batch_norm(call: Call) -> Any:
    x, residual = _arguments(call)
    scale, bias = _parameter(call, "scale"), _parameter(call, "bias")
    if call.module.options.fused:
        mean, var, eps = jnp.zeros_like(bias), jnp.ones_like(bias), 0.0
    else:
        mean, var = (_parameter(call, name, "batch_stats") for name in ("mean", "var"))
        eps = call.module.options.norm_eps
    y = _bind(BATCH_NORM, x.shape, call.path, x, scale, bias, mean, var, eps=eps)
    return _finish(y, call, residual)


def _trace_activation(call: Call) -> Any:
    return _finish(_arguments(call)[0], call, None)


def _trace_max_pool(call: Call) -> Any:
    module, (x, _) = call.module, _arguments(call)
    shape = jax.eval_shape(lambda x: call.run(x=x), x).shape
    return _bind(
        MAX_POOL,
        shape,
        call.path,
        x,
        size=module.size,
        strides=module.strides,
        dilation=module.dilation,
        pads=tuple(map(tuple, module.pads(x.shape[1:3]))),
    )


_LAYERS = {
    layers.Conv: _trace_conv,
    layers.Dense: _trace_dense,
    layers.BatchNorm: _trace_batch_norm,
    layers.Activation: _trace_activation,
    layers.MaxPool: _trace_max_pool,
}
