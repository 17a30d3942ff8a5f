"""The layers that the model families share, on the project's own operators.

Every layer takes `options`, which all layers of a model have in common.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

import zoo_kernels as kernels
from zoo.models.initializers import ONES, ZEROS, Initializer, Normal, he_normal, record
from zoo_kernels import RecomputableArray
from zoo_kernels.core import activations
from zoo_kernels.core.window import Padding


@dataclasses.dataclass(frozen=True)
class LayerOptions:
    """What all layers of a model have in common.

    Args:
      dtype: of the computation.
      param_dtype: of the parameters.
      padding: of the convolutions. "symmetric" as in PyTorch's models: half the kernel's extent,
        so that without strides the size stays; or what `kernels.conv` takes.
      norm_eps, norm_momentum: batch normalisation's epsilon, and decay of running statistics.
      fused: batch norms have been folded into the convolutions (`zoo.fuse`).
      recompute: lets `blocks.chain` recompute activations for the gradients, on a CPU.
    """

    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    padding: str = "symmetric"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.9
    fused: bool = False
    recompute: bool = True


def get_parameter(
    module: Any,
    name: str,
    initializer: Initializer,
    shape: tuple[int, ...],
    x: jax.Array | RecomputableArray,
) -> jax.Array:
    """A layer's parameter: from the variables, or in `module.init` by the initializer.

    `module.param` would trace the initializer in every call only to compare shapes, which is
    nearly half of the time it takes to trace a model.

    Args:
      module: the layer; has `options`.
      name: the parameter's.
      initializer: for a random key, a shape and a dtype.
      shape: what the layer needs for x.
      x: the layer's input.

    Raises:
      ValueError: the variables lack it, or have another shape.
    """
    path = "/".join((*module.path, name))
    if module.is_initializing() or module.is_mutable_collection("params"):
        make = record(("params", *module.path, name), initializer)
        parameter: jax.Array = module.param(name, make, shape, module.options.param_dtype)
        return parameter
    if not module.has_variable("params", name):
        raise ValueError(
            f"{model_title(module)}: the variables lack params/{path}, which is of shape {shape}; "
            f"those of a fused model and of a plain one differ, see zoo.fuse"
        )
    parameter = module.get_variable("params", name)
    if parameter.shape != shape:
        raise ValueError(
            f"{model_title(module)}: parameter {path} has shape {parameter.shape}; an input of "
            f"shape {x.shape} to that layer needs {shape}"
        )
    return parameter


def model_title(module: Any) -> str:
    """The name of the model that a layer is in, or of the outermost module."""
    while not hasattr(module, "title") and isinstance(module.parent, nn.Module):
        module = module.parent
    return getattr(module, "title", type(module).__name__)


def _check_array(module: nn.Module, x: Any) -> None:
    """Raises TypeError for an activation that only a convolution can recompute."""
    if isinstance(x, RecomputableArray):
        raise TypeError(
            f"{model_title(module)}: {type(module).__name__} {'/'.join(module.path)!r} got a "
            f"RecomputableArray of shape {x.shape}, which only a convolution takes"
        )


class Conv(nn.Module):
    """Convolution, with a bias and an activation where asked for.

    Parameters: kernel [kh, kw, in / groups, features]; bias [features] if `use_bias`.
    As many groups as input channels make it a depthwise convolution. `padding` overrides that of
    the options. `kernel_init` is by default He et al.'s.
    """

    begins_with_conv: ClassVar[bool] = True

    features: int
    kernel_size: int = 1
    strides: int = 1
    padding: Padding | None = None
    dilation: int = 1
    groups: int = 1
    use_bias: bool = False
    act: str = "identity"
    options: LayerOptions = LayerOptions()
    kernel_init: Initializer | None = None
    bias_init: Initializer = ZEROS

    @property
    def explicit_padding(self) -> Padding:
        """The padding as `kernels.conv` takes it."""
        padding = self.options.padding if self.padding is None else self.padding
        if padding == "symmetric":
            return (self.kernel_size - 1) * self.dilation // 2
        return padding

    @nn.compact
    def __call__(
        self,
        x: jax.Array | RecomputableArray,
        train: bool = False,
        residual: jax.Array | None = None,
    ) -> jax.Array:
        """[N, H, W, C] → [N, H', W', features]; the residual is added before the activation.

        `train` changes nothing; it is there because all layers are called alike.
        """
        k, channels, dtype = self.kernel_size, x.shape[-1], self.options.dtype
        shape = (k, k, channels // self.groups, self.features)
        kernel_init = self.kernel_init or he_normal(shape, self.groups)
        kernel = get_parameter(self, "kernel", kernel_init, shape, x)
        kernel, x = kernel.astype(dtype), x.astype(dtype)
        depthwise = self.groups == channels > 1
        if depthwise:
            convolve = kernels.depthwise_conv
        else:
            convolve = functools.partial(kernels.conv, groups=self.groups)
        convolve = functools.partial(
            convolve, strides=self.strides, padding=self.explicit_padding, dilation=self.dilation
        )
        if self.use_bias:
            bias = get_parameter(self, "bias", self.bias_init, (self.features,), x)
        elif self.act == "identity" and residual is None:
            return convolve(x, kernel)
        else:
            bias = jnp.zeros(self.features, dtype)
        if depthwise and residual is None:  # one kernel on a GPU
            return convolve(x, kernel, bias=bias, act=self.act)
        return kernels.bias_act(convolve(x, kernel), bias, self.act, residual=residual)


class Dense(nn.Module):
    """A product with a matrix, a bias and an activation.

    Parameters: kernel [in, features]; bias [features].
    """

    features: int
    act: str = "identity"
    options: LayerOptions = LayerOptions()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, C] → [N, features]."""
        _check_array(self, x)
        shape, dtype = (x.shape[-1], self.features), self.options.dtype
        kernel = get_parameter(self, "kernel", Normal(0.01), shape, x).astype(dtype)
        bias = get_parameter(self, "bias", ZEROS, (self.features,), x)
        return kernels.bias_act(x.astype(dtype) @ kernel, bias, self.act)


class BatchNorm(nn.Module):
    """Batch normalisation and activation; statistics in float32 whatever the compute dtype.

    Parameters: scale, bias [C]. State (`batch_stats`): mean, var [C], moved in training by
    old · momentum + new · (1 − momentum). The batch is normalised by its biased variance; what is
    averaged is the unbiased one, as in PyTorch and TensorFlow. In a fused model the statistics
    have been folded into scale and bias.
    """

    ends_with_norm: ClassVar[bool] = True

    act: str = "identity"
    options: LayerOptions = LayerOptions()

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        residual: jax.Array | None = None,
        recompute: bool = False,
    ) -> Any:
        """[..., C] → [..., C]; the residual is added before the activation.

        With `recompute` the output in training is a `kernels.RecomputableArray`, for the one
        convolution that reads it; see `blocks.chain`. It takes no residual.
        """
        _check_array(self, x)
        if recompute and residual is not None:
            raise ValueError(
                f"{model_title(self)}: norm {'/'.join(self.path)!r} adds a residual of shape "
                f"{residual.shape}, so that its output cannot be recomputed"
            )
        shape, options = x.shape[-1:], self.options
        scale = get_parameter(self, "scale", ONES, shape, x)
        bias = get_parameter(self, "bias", ZEROS, shape, x)
        x = x.astype(options.dtype)
        if options.fused:
            mean, var, eps = jnp.zeros(shape), jnp.ones(shape), 0.0
            return kernels.batch_norm_inference(
                x, scale, bias, mean, var, eps=eps, act=self.act, residual=residual
            )
        running_mean = self.statistic("mean", ZEROS, shape)
        running_var = self.statistic("var", ONES, shape)
        if not train:
            mean, var, eps = running_mean.value, running_var.value, options.norm_eps
            return kernels.batch_norm_inference(
                x, scale, bias, mean, var, eps=eps, act=self.act, residual=residual
            )
        y, mean, var = kernels.batch_norm(
            x,
            scale,
            bias,
            eps=options.norm_eps,
            act=self.act,
            residual=residual,
            recompute=recompute and options.recompute,
        )
        if not self.is_initializing():
            count = x.size // x.shape[-1]
            var = var * (count / max(count - 1, 1))
            momentum = options.norm_momentum
            for running, new in ((running_mean, mean), (running_var, var)):
                running.value = momentum * running.value + (1 - momentum) * new
        return y

    def statistic(
        self, name: str, initializer: Initializer, shape: tuple[int, ...]
    ) -> nn.Variable[Any]:
        """A running statistic."""
        make = record(("batch_stats", *self.path, name), initializer)
        return self.variable("batch_stats", name, make, None, shape, jnp.float32)


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and activation, as submodules "conv" and "norm".

    Without `norm` it has only "conv", with a bias: what `zoo.fuse` makes of one that has a norm.
    """

    begins_with_conv: ClassVar[bool] = True

    features: int
    kernel_size: int = 1
    strides: int = 1
    padding: Padding | None = None
    dilation: int = 1
    groups: int = 1
    use_bias: bool = False
    act: str = "relu"
    norm: bool = True
    options: LayerOptions = LayerOptions()

    @property
    def ends_with_norm(self) -> bool:
        """Whether its output is a batch norm's, or was before the norm was folded."""
        return self.norm

    @nn.compact
    def __call__(
        self,
        x: jax.Array | RecomputableArray,
        train: bool = False,
        residual: jax.Array | None = None,
        recompute: bool = False,
    ) -> Any:
        """[N, H, W, C] → [N, H', W', features]; the arguments are as for `BatchNorm`."""
        has_norm = self.norm and not self.options.fused
        conv = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            self.padding,
            self.dilation,
            self.groups,
            use_bias=self.use_bias or not has_norm,
            act="identity" if has_norm else self.act,
            options=self.options,
            name="conv",
        )
        if not has_norm:
            return conv(x, train, residual)
        norm = BatchNorm(self.act, self.options, name="norm")
        return norm(conv(x), train, residual, recompute)


class Activation(nn.Module):
    """An activation that no convolution, dense layer or batch norm applies."""

    act: str

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] → [..., C]."""
        return activations.ACTIVATIONS[self.act].value(x)


class MaxPool(nn.Module):
    """Max pooling; padding counts as −inf.

    Args:
      size, strides, dilation: of the window, in both directions.
      padding: "symmetric" or "SAME" as for the convolutions, or an integer.
      ceil: lets a last window overhang the far edge, as `ceil_mode` of PyTorch and Caffe do, if
        it begins inside.
    """

    size: int
    strides: int
    padding: str | int = "symmetric"
    dilation: int = 1
    ceil: bool = False

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] → [N, H', W', C]."""
        _check_array(self, x)
        pads = self.pads(x.shape[1:3])
        return kernels.max_pool(
            x, self.size, strides=self.strides, padding=pads, dilation=self.dilation
        )

    @nn.nowrap
    def pads(self, image_size: Sequence[int]) -> list[tuple[int, int]]:
        """((top, bottom), (left, right)) for images of that height and width."""
        extent, strides = (self.size - 1) * self.dilation + 1, self.strides
        if self.padding == "SAME":
            windows = (extent, extent), (strides, strides)
            return list(jax.lax.padtype_to_pads(image_size, *windows, "SAME"))
        pad = self.padding if isinstance(self.padding, int) else (extent - 1) // 2
        return [
            (pad, pad + (_overhang(n, extent, strides, pad) if self.ceil else 0))
            for n in image_size
        ]


def _overhang(n: int, extent: int, strides: int, pad: int) -> int:
    """By how much the last window overhangs the padded input of n rows."""
    last = -(-(n + 2 * pad - extent) // strides) * strides
    if last >= n + pad:  # it would begin outside
        last -= strides
    return max(last + extent - n - 2 * pad, 0)


def average_pool(x: jax.Array, size: int) -> jax.Array:
    """Means of windows side by side; rows and columns that fill no window are left out."""
    window = (1, size, size, 1)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID") / size**2


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
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


def promote_to_float32(x: jax.Array) -> jax.Array:
    """The array in float32, or in its own dtype if that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
