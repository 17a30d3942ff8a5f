"""A tiny network of a known formula, and photos."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import numpy as np

from tests.zoo.models.small_models import random_variables
from zoo.checkpoints.load import as_trained
from zoo.models.base import Model

# The images' shape of each time that TinyNet is traced.
TRACES = []
# Of the images, in pixels.
SIZE = 24


class TinyNet(Model):
    """A convolution over single pixels, then two over 3x3; nothing is strided."""

    input_conv: ClassVar[str] = "mix"

    @nn.compact
    def __call__(self, x, train=False):
        TRACES.append(x.shape)
        x = nn.Conv(4, (1, 1), name="mix")(x)
        x = nn.Conv(6, (3, 3), name="conv1")(nn.relu(x))
        x = nn.Conv(5, (3, 3), name="conv2")(nn.relu(x))
        return self.logits(x, train)


def tiny(channels=3):
    model = TinyNet(num_classes=3)
    variables = random_variables(model)
    if channels != 3:
        kernel = variables["params"]["mix"]["kernel"][:, :, :channels]
        mix = {**variables["params"]["mix"], "kernel": kernel}
        variables = {"params": {**variables["params"], "mix": mix}}
    trained = as_trained((model, variables))
    preprocessing = trained.info.preprocessing.resized(SIZE)
    return trained.replace(info=dataclasses.replace(trained.info, preprocessing=preprocessing))


def photo(height=48, width=64, seed=0):
    """Smooth colours with some noise, [H, W, 3], uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 16
    waves = np.stack([np.sin(x + seed), np.cos(y), np.sin(x - y)], -1)
    return np.uint8(np.clip(127 + 60 * waves + random.normal(0, 10, (height, width, 3)), 0, 255))
