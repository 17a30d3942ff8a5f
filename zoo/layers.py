"""The layers that the model families share, on the project's own operators."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import kernels
from kernels.window import Padding

Dtype = Any


def parameter(
    module: nn.Module, name: str, init: Callable[..., jax.Array], shape: tuple[int, ...]
) -> jax.Array:
    """A module's parameter: made by `init` in `module.init`, else the one that was given.

    `module.param` would trace the initialiser in every call only to compare shapes, which is
    nearly half of the time it takes to trace a model.
    """
    if module.is_initializing() or not module.has_variable("params", name):
        return module.param(name, init, shape, module.param_dtype)
    given: jax.Array = module.get_variable("params", name)
    if given.shape != shape:
        path = "/".join((*module.path, name))
        raise ValueError(
            f"parameter {path} has shape {given.shape}; this model and input need {shape}"
        )
    return given


class Conv(nn.Module):
    """Convolution, with a bias and an activation where asked for.

    Parameters: kernel [kh, kw, in / groups, features]; bias [features] if `use_bias`.
    As many groups as input channels make it a depthwise convolution.
    """

    features: int
    kernel_size: int = 1
    strides: int = 1
    padding: Padding = "SAME"
    dilation: int = 1
    groups: int = 1
    use_bias: bool = False
    act: str = "identity"
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] → [N, H', W', features]."""
        k, channels = self.kernel_size, x.shape[-1]
        # He et al. 2015 by fan-out; a group's outputs are all that one input feeds.
        init = nn.initializers.variance_scaling(2.0 * self.groups, "fan_out", "normal")
        shape = (k, k, channels // self.groups, self.features)
        kernel = parameter(self, "kernel", init, shape).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.groups == channels > 1:
            convolve = kernels.depthwise_conv
        else:
            convolve = functools.partial(kernels.conv, groups=self.groups)
        y = convolve(x, kernel, strides=self.strides, padding=self.padding, dilation=self.dilation)
        if self.use_bias:
            bias = parameter(self, "bias", nn.initializers.zeros, (self.features,))
        elif self.act == "identity":
            return y
        else:
            bias = jnp.zeros(self.features, self.dtype)
        return kernels.bias_act(y, bias, self.act)


class BatchNorm(nn.Module):
    """Batch normalisation and activation; statistics in float32 whatever the compute dtype.

    Parameters: scale, bias [C]. State (`batch_stats`): mean, var [C], moved in training by
    old · momentum + new · (1 − momentum). The batch is normalised by its biased variance; what is
    averaged is the unbiased one, as in PyTorch and TensorFlow.
    """

    eps: float = 1e-5
    momentum: float = 0.9
    act: str = "identity"
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[..., C] → [..., C]."""
        shape = x.shape[-1:]
        scale = parameter(self, "scale", nn.initializers.ones, shape)
        bias = parameter(self, "bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        x = x.astype(self.dtype)
        if train:
            y, now_mean, now_var = kernels.batch_norm(x, scale, bias, eps=self.eps, act=self.act)
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                now_var = now_var * (count / max(count - 1, 1))
                for old, now in ((mean, now_mean), (var, now_var)):
                    old.value = self.momentum * old.value + (1 - self.momentum) * now
            return y
        return kernels.batch_norm_inference(
            x, scale, bias, mean.value, var.value, eps=self.eps, act=self.act
        )


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and activation, as submodules "conv" and "norm".

    With `fused`, the norm has been folded into the convolution's kernel and bias (`zoo.fuse`).
    """

    features: int
    kernel_size: int = 1
    strides: int = 1
    padding: Padding = "SAME"
    dilation: int = 1
    groups: int = 1
    act: str = "relu"
    eps: float = 1e-5
    momentum: float = 0.9
    fused: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H', W', features]."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            self.padding,
            self.dilation,
            self.groups,
            use_bias=self.fused,
            act=self.act if self.fused else "identity",
            name="conv",
            **dtypes,
        )(x)
        if self.fused:
            return x
        return BatchNorm(self.eps, self.momentum, self.act, name="norm", **dtypes)(x, train)


class Stage(nn.Module):
    """Blocks in a row, named block1, block2 and so on.

    Args:
      blocks: called in turn with `name=`, each gives a module of (x, train).
    """

    blocks: Sequence[Callable[..., nn.Module]]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H', W', C']."""
        for number, block in enumerate(self.blocks, start=1):
            x = block(name=f"block{number}")(x, train)
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
