"""Fixtures: a small network that judges pictures."""

from typing import ClassVar

import flax.linen as nn
import pytest

from tests.zoo.models.small_models import random_variables
from zoo.checkpoints.load import as_trained
from zoo.models.base import Model


class Judge(Model):
    """Three convolutions, at strides 2, 4 and 8."""

    input_conv: ClassVar[str] = "conv1"

    @nn.compact
    def __call__(self, x, train=False):
        for number, features in enumerate((8, 12, 16), start=1):
            x = nn.relu(nn.Conv(features, (3, 3), 2, name=f"conv{number}")(x))
        return self.logits(x, train)


@pytest.fixture(scope="session")
def judge():
    """It, with random weights: its Gram matrices tell textures apart, too."""
    model = Judge(num_classes=3)
    return as_trained((model, random_variables(model)))
