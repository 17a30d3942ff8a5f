"""The layers that the model families share, on the project's own operators."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import zoo_kernels as kernels
from zoo.models.initializers import ONES, ZEROS, Initial, Normal, he, note
from zoo_kernels import RecomputableArray
from zoo_kernels.core.window import Padding

Dtype = Any


def parameter(
    module: nn.Module,
    name: str,
    initial: Initial,
    shape: tuple[int, ...],
    x: jax.Array | RecomputableArray,
) -> jax.Array:
    """A module's parameter: made by `initial` in `module.init`, else the one that was given.

    `module.param` would trace the initialiser in every call only to compare shapes, which is
    nearly half of the time it takes to trace a model.

    Raises:
      ValueError: there is none, or it is not of this shape, which input x asks for.
    """
    path = "/".join((*module.path, name))
    if module.is_initializing() or module.is_mutable_collection("params"):
        make = note(("params", *module.path, name), initial)
        return module.param(name, make, shape, module.param_dtype)
    if not module.has_variable("params", name):
        raise ValueError(
            f"{_title(module)}: the variables lack params/{path}, which is of shape {shape}; those "
            f"of a fused model and of a plain one differ, see zoo.fuse"
        )
    given: jax.Array = module.get_variable("params", name)
    if given.shape != shape:
        raise ValueError(
            f"{_title(module)}: parameter {path} has shape {given.shape}; an input of shape "
            f"{x.shape} to that layer needs {shape}"
        )
    return given


def _title(module: Any) -> str:
    """The name of the model that a layer is in, or of the outermost module."""
    while not hasattr(module, "title") and isinstance(module.parent, nn.Module):
        module = module.parent
    return getattr(module, "title", type(module).__name__)


class Conv(nn.Module):
    """Convolution, with a bias and an activation where asked for.

    Parameters: kernel [kh, kw, in / groups, features]; bias [features] if `use_bias`.
    As many groups as input channels make it a depthwise convolution. Besides what `kernels.conv`
    takes, padding may be "symmetric": as PyTorch's models have it, half the kernel's extent, so
    that without strides the size stays.
    """

    features: int
    kernel_size: int = 1
    strides: int = 1
    padding: Padding = "symmetric"
    dilation: int = 1
    groups: int = 1
    use_bias: bool = False
    act: str = "identity"
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array | RecomputableArray, residual: jax.Array | None = None
    ) -> jax.Array:
        """[N, H, W, C] → [N, H', W', features]; the residual is added before the activation."""
        k, channels = self.kernel_size, x.shape[-1]
        shape = (k, k, channels // self.groups, self.features)
        kernel = parameter(self, "kernel", he(shape, self.groups), shape, x).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.groups == channels > 1:
            convolve = kernels.depthwise_conv
        else:
            convolve = functools.partial(kernels.conv, groups=self.groups)
        padding = (k - 1) * self.dilation // 2 if self.padding == "symmetric" else self.padding
        convolve = functools.partial(
            convolve, strides=self.strides, padding=padding, dilation=self.dilation
        )
        if self.use_bias:
            bias = parameter(self, "bias", ZEROS, (self.features,), x)
        elif self.act == "identity" and residual is None:
            return convolve(x, kernel)
        else:
            bias = jnp.zeros(self.features, self.dtype)
        if self.groups == channels > 1 and residual is None:  # one kernel on a GPU
            return convolve(x, kernel, bias=bias, act=self.act)
        return kernels.bias_act(convolve(x, kernel), bias, self.act, residual=residual)


class Dense(nn.Module):
    """A product with a matrix, a bias and an activation.

    Parameters: kernel [in, features]; bias [features].
    """

    features: int
    act: str = "identity"
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, C] → [N, features]."""
        shape = (x.shape[-1], self.features)
        kernel = parameter(self, "kernel", Normal(0.01), shape, x).astype(self.dtype)
        bias = parameter(self, "bias", ZEROS, (self.features,), x)
        return kernels.bias_act(x.astype(self.dtype) @ kernel, bias, self.act)


class BatchNorm(nn.Module):
    """Batch normalisation and activation; statistics in float32 whatever the compute dtype.

    Parameters: scale, bias [C]. State (`batch_stats`): mean, var [C], moved in training by
    old · momentum + new · (1 − momentum). The batch is normalised by its biased variance; what is
    averaged is the unbiased one, as in PyTorch and TensorFlow. With `fused`, the statistics have
    been folded into scale and bias (`zoo.fuse`).

    What only one convolution reads need not be `kept`: in training it is then a
    `kernels.RecomputableArray`, which that convolution makes anew for its gradients.
    """

    eps: float = 1e-5
    momentum: float = 0.9
    act: str = "identity"
    kept: bool = True
    fused: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, residual: jax.Array | None = None) -> Any:
        """[..., C] → [..., C]; the residual is added before the activation."""
        shape = x.shape[-1:]
        scale = parameter(self, "scale", ONES, shape, x)
        bias = parameter(self, "bias", ZEROS, shape, x)
        x = x.astype(self.dtype)
        rest: dict[str, Any] = {"act": self.act, "residual": residual}
        if self.fused:
            zeros, ones = jnp.zeros(shape), jnp.ones(shape)
            return kernels.batch_norm_inference(x, scale, bias, zeros, ones, eps=0.0, **rest)
        mean = self.statistic("mean", ZEROS, shape)
        var = self.statistic("var", ONES, shape)
        if train:
            y, now_mean, now_var = kernels.batch_norm(
                x, scale, bias, eps=self.eps, recompute=not self.kept, **rest
            )
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                now_var = now_var * (count / max(count - 1, 1))
                for old, now in ((mean, now_mean), (var, now_var)):
                    old.value = self.momentum * old.value + (1 - self.momentum) * now
            return y
        return kernels.batch_norm_inference(
            x, scale, bias, mean.value, var.value, eps=self.eps, **rest
        )

    def statistic(self, name: str, initial: Initial, shape: tuple[int, ...]) -> nn.Variable[Any]:
        """A running statistic."""
        make = note(("batch_stats", *self.path, name), initial)
        return self.variable("batch_stats", name, make, None, shape, jnp.float32)


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and activation, as submodules "conv" and "norm".

    With `fused`, the norm has been folded into the convolution's kernel and bias (`zoo.fuse`).
    `kept` is as for BatchNorm.
    """

    features: int
    kernel_size: int = 1
    strides: int = 1
    padding: Padding = "symmetric"
    dilation: int = 1
    groups: int = 1
    use_bias: bool = False
    act: str = "relu"
    eps: float = 1e-5
    momentum: float = 0.9
    kept: bool = True
    fused: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array | RecomputableArray,
        train: bool = False,
        residual: jax.Array | None = None,
    ) -> Any:
        """[N, H, W, C] → [N, H', W', features]; the residual is added before the activation."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            self.padding,
            self.dilation,
            self.groups,
            use_bias=self.fused or self.use_bias,
            act=self.act if self.fused else "identity",
            name="conv",
            **dtypes,
        )
        if self.fused:
            return conv(x, residual)
        norm = BatchNorm(self.eps, self.momentum, self.act, self.kept, name="norm", **dtypes)
        return norm(conv(x), train, residual)


class Stage(nn.Module):
    """Blocks in a row, named block1, block2 and so on.

    Args:
      blocks: called in turn with `name=`, each gives a module of (x, train).
      remat: computes the blocks' inner values again in the backward pass instead of keeping them.
    """

    blocks: Sequence[Callable[..., nn.Module]]
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H', W', C']."""
        for number, block in enumerate(self.blocks, start=1):
            x = call(block(name=f"block{number}"), x, train, self.remat)
        return x


def call(module: nn.Module, x: jax.Array, train: bool, remat: bool) -> jax.Array:
    """module(x, train), whose inner values are not kept for the backward pass if `remat`."""

    def run(module: Any, x: jax.Array) -> jax.Array:
        return module(x, train)

    return nn.remat(run)(module, x) if remat else run(module, x)


def max_pool(
    x: jax.Array,
    size: int,
    strides: int,
    *,
    padding: str | int = "symmetric",
    dilation: int = 1,
    ceil: bool = False,
) -> jax.Array:
    """The largest value of each window; what lies outside never is.

    Args:
      x: [N, H, W, C].
      size, strides, dilation: of the window, in both directions.
      padding: "symmetric" or "SAME" as for `Conv`, or an integer.
      ceil: lets a last window overhang the far edge, as `ceil_mode` of PyTorch and Caffe do, if
        it begins inside.
    """
    extent = (size - 1) * dilation + 1
    if padding == "SAME":
        pads = jax.lax.padtype_to_pads(x.shape[1:3], (extent, extent), (strides, strides), "SAME")
    else:
        pad = padding if isinstance(padding, int) else (extent - 1) // 2
        pads = [
            (pad, pad + (_overhang(n, extent, strides, pad) if ceil else 0)) for n in x.shape[1:3]
        ]
    return kernels.max_pool(x, size, strides=strides, padding=pads, dilation=dilation)


def _overhang(n: int, extent: int, strides: int, pad: int) -> int:
    """By how much the last window overhangs the padded input of n rows."""
    last = -(-(n + 2 * pad - extent) // strides) * strides
    if last >= n + pad:  # it would begin outside
        last -= strides
    return max(last + extent - n - 2 * pad, 0)


def adaptive_mean(x: jax.Array, size: int) -> jax.Array:
    """[N, H, W, C] → [N, size, size, C]: means of even cells, as PyTorch's AdaptiveAvgPool2d.

    Cell i of n rows reaches from ⌊i·n / size⌋ to ⌈(i + 1)·n / size⌉, so cells may overlap.
    """
    for axis in (1, 2):
        n = x.shape[axis]
        if n == size:
            continue
        cells = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
        means = [
            jax.lax.slice_in_dim(x, start, stop, axis=axis).mean(axis, keepdims=True)
            for start, stop in cells
        ]
        x = jnp.concatenate(means, axis)
    return x


def drop_path(module: nn.Module, x: jax.Array, rate: float, train: bool) -> jax.Array:
    """Drops whole examples of a residual branch in training (Huang et al. 2016, 1603.09382).

    What is kept is divided by 1 − rate, so that the mean stays. Draws from the rng "dropout".
    """
    if not train or rate == 0:
        return x
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    kept = jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, shape)
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)
