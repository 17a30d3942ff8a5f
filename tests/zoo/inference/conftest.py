"""Fixtures for images."""

import numpy as np
import pytest

from tests.zoo.inference.image_files import GREEN, RED


@pytest.fixture
def corner():
    """A green image of 16 by 12 whose upper left quarter is red."""
    array = np.full((12, 16, 3), GREEN, np.uint8)
    array[:6, :8] = RED
    return array
