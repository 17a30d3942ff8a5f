"""What all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

import zoo

settings.register_profile("quick", max_examples=12)
settings.register_profile("thorough", max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

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
