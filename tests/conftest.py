"""What all tests share."""

from pathlib import Path

import pytest

import zoo

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder of example photos."""
    return ROOT / "examples"


@pytest.fixture(scope="session")
def lite() -> zoo.Trained:
    """EfficientNet-Lite0 with its ImageNet weights."""
    return zoo.trained(zoo.EfficientNetLite0)
