"""The settings of a training of styles."""

import math

import pytest

from zoo.runtime.checks import ArgumentError
from zoo.style import LossWeights, StyleSettings


def test_changes_go_before_settings():
    settings = StyleSettings(size=64, rate=0.1)
    changed = StyleSettings.of(settings, rate=0.2)
    assert (changed.size, changed.rate, settings.rate) == (64, 0.2, 0.1)


def test_none_are_the_defaults():
    assert StyleSettings.of(None) == StyleSettings()


def test_a_misspelt_setting():
    with pytest.raises(ArgumentError, match=r"no setting 'batchsize'; did you mean batch_size"):
        StyleSettings.of(None, batchsize=3)


def test_an_unknown_setting_that_resembles_none():
    with pytest.raises(ArgumentError, match=r"no setting 'qqq'; there are steps, epochs, minutes,"):
        StyleSettings.of(None, qqq=3)


# The values beside the limits on both sides, and others of a wrong type.
REFUSED = {
    "steps": (0, 1.5, "10", True),
    "epochs": (0, -1, math.nan, math.inf, "1", True),
    "minutes": (0, -1, math.nan, math.inf),
    "batch_size": (0, 1.5),
    "size": (28, 34, 64.0),
    "style_size": (31, 64.0),
    "content_weight": (-1e-9, math.nan, math.inf),
    "style_weight": (-1e-9, math.inf),
    "variation_weight": (-1e-9, math.inf),
    "rate": (0, 10, -1, math.nan),
    "average_decay": (-0.1, 1),
    "copy_steps": (-1, 0.5),
    "width": (1 / 33, 8.1),
    "upsampling": ("bilinear",),
    "crop_scale": (0, 0.009, 1.1),
    "validation": (-0.1, 0.91),
    "evaluate_steps": (0, 1.5),
    "patience": (-1, 0.5),
    "seed": (-1, 0.5),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values]
)
def test_a_value_that_a_setting_does_not_take(name, value):
    with pytest.raises(ArgumentError, match=rf"^{name} must be "):
        StyleSettings(**{name: value})


@pytest.mark.parametrize("name", sorted({*REFUSED} - {"steps", "epochs", "minutes", "upsampling"}))
def test_only_limits_may_be_none(name):
    with pytest.raises(ArgumentError, match=rf"^{name} must be "):
        StyleSettings(**{name: None})


ALLOWED = {
    "steps": (1, None),
    "epochs": (0.1, None),
    "minutes": (0.1, None),
    "batch_size": (1,),
    "size": (32, 36),
    "style_size": (32, 33),
    "content_weight": (0,),
    "rate": (1e-9, 9.9),
    "average_decay": (0, 0.99999),
    "copy_steps": (0,),
    "width": (1 / 32, 8),
    "crop_scale": (0.01, 1),
    "validation": (0, 0.9),
    "evaluate_steps": (1,),
    "patience": (0,),
    "seed": (0,),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in ALLOWED.items() for value in values]
)
def test_a_value_at_a_limit(name, value):
    assert getattr(StyleSettings(**{name: value}), name) == value


def test_the_weights_of_the_loss():
    settings = StyleSettings(content_weight=2, style_weight=3, variation_weight=4)
    assert settings.loss_weights == LossWeights(content=2, style=3, total_variation=4)


# Of 10 photos in batches of 4.
STEPS = {
    "by default": ({}, 4000),
    "steps": ({"steps": 7}, 7),
    "epochs": ({"epochs": 4}, 10),
    "a part of a step": ({"epochs": 0.1}, 1),
    "steps before epochs": ({"steps": 7, "epochs": 4}, 7),
    "epochs before steps": ({"steps": 11, "epochs": 4}, 10),
    "minutes alone": ({"minutes": 3}, None),
    "minutes and steps": ({"minutes": 3, "steps": 7}, 7),
}


@pytest.mark.parametrize("case", STEPS)
def test_the_number_of_steps(case):
    given, expected = STEPS[case]
    assert StyleSettings(batch_size=4, **given).count_steps(10) == expected
