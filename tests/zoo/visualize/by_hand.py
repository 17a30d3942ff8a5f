"""Tiny nets whose logits, gradients and feature maps can be worked out by hand."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Info, Trained, make_labels
from zoo.models.base import Model
from zoo.models.layers import Conv

SIZE = 8


class Plain(Model, kw_only=True):
    """logits = head(mean of relu(1x1 convolution of x)); the feature map is "features"."""

    features: int = 2

    @nn.compact
    def __call__(self, x, train=False):
        conv = Conv(self.features, 1, use_bias=True, act="relu", name="features")
        return self.logits(conv(x), train)


class Linear(Model, kw_only=True):
    """Logits are sums of pixels times weights, without any activation."""

    @nn.compact
    def __call__(self, x, train=False):
        return self.logits(x.reshape(len(x), -1), train)


def make_trained(model, params, channels=3, size=SIZE):
    """A `Trained` whose normalised images are pixels from 0 to 1, as they are."""
    colors = {1: "grey", 3: "RGB"}[channels]
    preprocessing = Preprocessing(
        size, size, "nearest", (0.0,) * channels, (1.0,) * channels, colors
    )
    labels = make_labels([f"kind {n}" for n in range(model.num_classes)], model.num_classes)
    info = Info("Tiny", "by hand", "", "", preprocessing, labels, None)
    return Trained(model, {"params": params}, info)


def plain(kernel, bias, head, head_bias=None):
    """Plain with a convolution's kernel [3, K] and bias [K], and a head [K, num_classes]."""
    kernel, head = np.float32(kernel), np.float32(head)
    head_bias = np.zeros(head.shape[1]) if head_bias is None else head_bias
    params = {
        "features": {"kernel": jnp.asarray(kernel[None, None]), "bias": jnp.float32(bias)},
        "head": {"kernel": jnp.asarray(head), "bias": jnp.float32(head_bias)},
    }
    return make_trained(Plain(num_classes=head.shape[1], features=kernel.shape[1]), params)


def linear(weights, bias):
    """Linear with weights [num_classes, SIZE, SIZE, 3] and a bias [num_classes]."""
    weights = np.float32(weights)
    kernel = jnp.asarray(weights.reshape(len(weights), -1).T)
    params = {"head": {"kernel": kernel, "bias": jnp.float32(bias)}}
    return make_trained(Linear(num_classes=len(weights)), params)


def photo(seed=0, size=SIZE):
    """A random photo [size, size, 3], uint8."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def pixels(image):
    """What the tiny nets see of a photo: [SIZE, SIZE, 3] from 0 to 1, float64."""
    return np.float64(image) / 255
