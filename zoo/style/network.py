"""The network that turns photos into pictures in a style.

Johnson, Alahi and Fei-Fei 2016, arXiv 1603.08155, with instance norms (Ulyanov, Vedaldi and
Lempitsky 2016, arXiv 1607.08022), of which each style has scales and shifts of its own (Dumoulin,
Shlens and Kudlur 2017, arXiv 1610.07629).
"""

import math
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

import zoo_kernels as kernels
from zoo.models.initializers import ONES, ZEROS, Constant, Normal, he_normal
from zoo.models.layers import LayerOptions, get_parameter
from zoo.runtime.checks import ArgumentError, check_count, check_number
from zoo.style.convolutions import mirrored_conv, repeated_conv, transposed_conv

Upsampling = Literal["nearest", "transposed"]
UPSAMPLINGS: tuple[str, ...] = get_args(Upsampling)

CHANNELS = (32, 64, 128)  # at full width, from the border of the network to its middle
BLOCKS = 5
# Two strides of 2: sides of images are multiples of it.
STRIDE = 4
# How far an output pixel sees, in pixels: 4 of each 9x9 convolution; 1, 2 and 4 of the others at
# strides 1, 2 and 4 of the input, ten of them in the blocks.
RADIUS = 4 + 1 + 2 + 4 * 2 * BLOCKS + 4 + 2 + 4


class StyleConv(nn.Module):
    """A convolution, an instance norm of the wanted style, and an activation.

    Borders are mirrored. Parameters: kernel [k, k, in, features]; scale, shift [styles, features].

    Args:
      features: the number of output channels.
      kernel_size: odd.
      strides: of the convolution.
      upsampling: doubles height and width first, see `StyleNetwork`; None does not.
      block: see `mirrored_conv`.
      styles: the number of styles that have norms; 0 is a bias [features] in place of norms.
      act: the activation.
      options: as of all layers.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    upsampling: Upsampling | None = None
    block: int = 1
    styles: int = 1
    act: str = "relu"
    options: LayerOptions = LayerOptions()

    @nn.compact
    def __call__(
        self, x: jax.Array, weights: jax.Array, residual: jax.Array | None = None
    ) -> jax.Array:
        """[N, H, W, C], weights of the styles [N, styles] → [N, H', W', features].

        The residual is added before the activation.
        """
        k, dtype = self.kernel_size, self.options.dtype
        shape = (k, k, x.shape[-1], self.features)
        # Training begins with pictures that are grey but for some noise.
        initializer = he_normal(shape) if self.styles else Normal(0.1 / math.sqrt(k * k * shape[2]))
        kernel = get_parameter(self, "kernel", initializer, shape, x).astype(dtype)
        x = x.astype(dtype)
        if self.upsampling == "transposed":
            x = transposed_conv(x, kernel)
        elif self.upsampling == "nearest":
            x = repeated_conv(x, kernel)
        else:
            x = mirrored_conv(x, kernel, self.strides, self.block)
        if not self.styles:
            bias = get_parameter(self, "bias", Constant(0.5), (self.features,), x)
            return kernels.bias_act(x, bias, self.act, residual=residual)
        norm = InstanceNorm(self.styles, self.act, self.options, name="norm")
        return norm(x, weights, residual)


class InstanceNorm(nn.Module):
    """Instance normalisation with a scale and a shift of each style, and an activation.

    Parameters: scale, shift [styles, C]. With a collection "statistics" it normalises by the mean
    and var [C] there instead of each image's own; where that is mutable, it puts those of the whole
    batch there. So tiles are normalised as one photo.
    """

    styles: int = 1
    act: str = "identity"
    options: LayerOptions = LayerOptions()

    @nn.compact
    def __call__(
        self, x: jax.Array, weights: jax.Array, residual: jax.Array | None = None
    ) -> jax.Array:
        """[N, H, W, C], weights [N, styles] → like x, by the weighted means of the parameters."""
        shape = (self.styles, x.shape[-1])
        scale, shift = (
            weights @ get_parameter(self, name, initializer, shape, x)
            for name, initializer in (("scale", ONES), ("shift", ZEROS))
        )
        x = x.astype(self.options.dtype)
        eps, act = self.options.norm_eps, self.act
        if self.is_mutable_collection("statistics") and not self.is_initializing():
            y, mean, var = kernels.batch_norm(
                x, scale[0], shift[0], eps=eps, act=act, residual=residual
            )
            self.put_variable("statistics", "mean", mean)
            self.put_variable("statistics", "var", var)
            return y
        if self.has_variable("statistics", "mean"):
            mean, var = (self.get_variable("statistics", name) for name in ("mean", "var"))
            return kernels.batch_norm_inference(
                x, scale[0], shift[0], mean, var, eps=eps, act=act, residual=residual
            )
        return kernels.instance_norm(x, scale, shift, eps=eps, act=act, residual=residual)[0]


class StyleBlock(nn.Module):
    """A residual block: two convolutions, whose result is added to the input."""

    features: int
    styles: int
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, weights: jax.Array) -> jax.Array:
        """[N, H, W, features], weights of the styles [N, styles] → the same shape."""
        shared: dict[str, Any] = {"styles": self.styles, "options": self.options}
        y = StyleConv(self.features, **shared, name="conv1")(x, weights)
        return StyleConv(self.features, act="identity", **shared, name="conv2")(y, weights, x)


class StyleNetwork(nn.Module):
    """A photo → a picture in one of its styles, or in a mixture of them.

    Modules: down1, down2, down3, block1 … block5, up1, up2, out.

    Args:
      styles: how many there are. They share all kernels, and each has norms of its own.
      width: the share of Johnson's channels (32, 64 and 128) that the layers have; 0.5 takes a
        third of the time.
      upsampling: "nearest" repeats pixels before a convolution; "transposed" is a convolution with
        stride 2 transposed, as in Johnson's code, which may leave a checkerboard.
      dtype: of the computation.

    Raises:
      ArgumentError: an argument has another type or range.
    """

    styles: int = 1
    width: float = 0.5
    upsampling: Upsampling = "nearest"
    dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_count("styles", self.styles)
        check_number("width", self.width, 1 / CHANNELS[0], 8)
        if self.upsampling not in UPSAMPLINGS:
            raise ArgumentError(
                f"upsampling must be one of {', '.join(UPSAMPLINGS)}, got {self.upsampling!r}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, weights: jax.Array) -> jax.Array:
        """Photos → pictures, [N, H, W, 3] in RGB, where black is 0 and white is 1.

        Args:
          x: the photos; height and width are multiples of 4.
          weights: of the styles, [N, styles]; of each photo they add up to 1.
        """
        n, height, width, channels = x.shape
        if channels != 3 or height % STRIDE or width % STRIDE or not n:
            raise ValueError(
                f"a StyleNetwork takes photos [N, H, W, 3] with H and W multiples of {STRIDE}, "
                f"got {x.shape}"
            )
        if weights.shape != (n, self.styles):
            raise ValueError(
                f"weights must be [{n}, {self.styles}], one for each photo and style, "
                f"got {weights.shape}"
            )
        shared: dict[str, Any] = {
            "styles": self.styles,
            "options": LayerOptions(dtype=self.dtype),
        }
        outer, middle, inner = (max(1, round(self.width * channels)) for channels in CHANNELS)
        up = self.upsampling
        x = StyleConv(outer, 9, block=2, **shared, name="down1")(x, weights)
        x = StyleConv(middle, strides=2, **shared, name="down2")(x, weights)
        x = StyleConv(inner, strides=2, **shared, name="down3")(x, weights)
        for number in range(1, BLOCKS + 1):
            x = StyleBlock(inner, **shared, name=f"block{number}")(x, weights)
        x = StyleConv(middle, upsampling=up, **shared, name="up1")(x, weights)
        x = StyleConv(outer, upsampling=up, **shared, name="up2")(x, weights)
        shared["styles"] = 0
        return StyleConv(3, 9, block=4, act="identity", **shared, name="out")(x, weights)
