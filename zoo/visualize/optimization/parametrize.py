"""Images as parameters that gradient ascent changes well: frequencies of independent colours.

Olah et al. 2017, "Feature Visualization", distill.pub/2017/feature-visualization, with the
constants of its library lucid.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# A square root of the covariance of the colours of ImageNet's photos, as published with lucid.
COLOR_SQRT = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
INITIAL_STD = 0.01
# Those that a user may name.
NAMES = ("fourier", "pixels")


@dataclasses.dataclass(frozen=True)
class Parametrization:
    """How numbers become the pixels of images.

    Args:
      name: "fourier", the image's frequencies, of which each has as much weight as it has in
        photos; "pixels"; or "linear", pixels without bounds and as they are.
      size: height and width of the image in pixels.
      channels: 3, or 1 for grey images.
      decorrelate: parametrises colours by axes along which photos vary independently.
      decay: a frequency f has the weight f ** -decay: 1 as in photos; more makes smooth pictures.
      blur: standard deviation in pixels of a Gaussian that "linear" pixels are smoothed by.
    """

    name: str
    size: int
    channels: int = 3
    decorrelate: bool = True
    decay: float = 1.0
    blur: float = 0.0

    def init(self, key: jax.Array) -> jax.Array:
        """Small random parameters of one image."""
        shape: tuple[int, ...] = (self.size, self.size, self.channels)
        if self.name == "fourier":
            shape = (self.size, self.size // 2 + 1, self.channels, 2)
        return INITIAL_STD * jax.random.normal(key, shape)

    def to_pixels(self, params: jax.Array) -> jax.Array:
        """Parameters of one image → [size, size, channels], from 0 to 1."""
        values = params
        if self.name == "linear":
            return blur(values, self.blur)
        if self.name == "fourier":
            spectrum = jax.lax.complex(params[..., 0], params[..., 1])
            spectrum *= spectrum_scale(self.size, self.decay)[..., None]
            values = jnp.fft.irfft2(spectrum, (self.size, self.size), axes=(0, 1), norm="ortho") / 4
        if self.decorrelate and self.channels == 3:
            values @= color_matrix().T
        return jax.nn.sigmoid(values)

    def from_pixels(self, pixels: Any) -> jax.Array:
        """The parameters of an image [size, size, channels], with values from 0 to 1."""
        values = np.clip(np.asarray(pixels, np.float64), 0.01, 0.99)
        values = np.log(values / (1 - values))
        if self.decorrelate and self.channels == 3:
            values = values @ np.linalg.inv(color_matrix().T)
        if self.name == "fourier":
            spectrum = np.fft.rfft2(4 * values, axes=(0, 1), norm="ortho")
            spectrum /= spectrum_scale(self.size, self.decay)[..., None]
            values = np.stack([spectrum.real, spectrum.imag], axis=-1)
        return jnp.asarray(values, jnp.float32)


def spectrum_scale(size: int, decay: float = 1.0) -> np.ndarray:
    """The weight of each frequency of a square image, [size, size // 2 + 1].

    It is 1 / f where decay is 1; with any decay the lowest frequencies have the weight `size`.
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    scale: np.ndarray = np.asarray(size * np.maximum(size * frequency, 1) ** -decay, np.float32)
    return scale


def color_matrix() -> np.ndarray:
    """Independent colours → RGB, [3, 3]: its longest column has the length 1."""
    longest = np.linalg.norm(COLOR_SQRT, axis=0).max()
    matrix: np.ndarray = np.asarray(COLOR_SQRT / longest, np.float32)
    return matrix


def blur(values: jax.Array, sigma: float) -> jax.Array:
    """Values [size, size, C], smoothed by a Gaussian, as if they went on at the opposite edges."""
    size = len(values)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    weight = np.asarray(np.exp(-2 * np.square(np.pi * sigma * frequency)), np.float32)
    spectrum = jnp.fft.rfft2(values, axes=(0, 1)) * weight[..., None]
    smoothed: jax.Array = jnp.fft.irfft2(spectrum, (size, size), axes=(0, 1))
    return smoothed
