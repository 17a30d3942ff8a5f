"""Styles: their names, their weights, and their checkpoints."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.zoo.style.small import random_styles
from zoo.runtime.checks import ArgumentError
from zoo.style.styles import StyleError, load_styles
from zoo_pretrained import catalogue, checkpoint
from zoo_pretrained.checkpoint import CheckpointError

TWO = random_styles(("dots", "lines"))


@pytest.mark.parametrize(
    ("style", "weights"),
    [
        ("dots", [1, 0]),
        ("lines", [0, 1]),
        ({"lines": 1}, [0, 1]),
        ({"lines": 3, "dots": 1}, [0.25, 0.75]),
        ({"dots": 0.5, "lines": 0.5}, [0.5, 0.5]),
        ({"dots": 2, "lines": 0}, [1, 0]),
    ],
)
def test_weights_are_in_the_order_of_names_and_add_up_to_1(style, weights):
    np.testing.assert_array_equal(TWO.weigh(style), np.float32(weights))


def test_without_a_name_the_only_style_is_meant():
    np.testing.assert_array_equal(random_styles(("alone",)).weigh(), [1])


def test_without_a_name_several_styles_are_an_error_that_lists_them():
    with pytest.raises(StyleError, match="style must be one of dots, lines, got None"):
        TWO.weigh()


@pytest.mark.parametrize("style", ["dost", {"lines": 1, "dost": 0}])
def test_an_unknown_style_is_an_error_that_lists_and_suggests(style):
    message = r"no style 'dost'; there are dots, lines; did you mean dots\?"
    with pytest.raises(StyleError, match=message):
        TWO.weigh(style)


@pytest.mark.parametrize("weight", [-0.5, float("nan"), float("inf"), "1", None, True])
def test_a_weight_that_is_no_number_of_at_least_0_is_an_error(weight):
    with pytest.raises(ArgumentError, match="the weight of 'dots' must be a number"):
        TWO.weigh({"dots": weight, "lines": 1})


@pytest.mark.parametrize("style", [{}, {"dots": 0, "lines": 0.0}])
def test_weights_of_0_alone_are_an_error(style):
    with pytest.raises(ArgumentError, match="style must have a weight above 0"):
        TWO.weigh(style)


def test_a_checkpoint_holds_all(tmp_path):
    styles = dataclasses.replace(
        random_styles(("eins", "zwei", "drei"), width=1 / 16, upsampling="transposed"),
        noise=0.25,
        licence="CC0-1.0",
        source="https://example.org/styles",
        extra={"steps": 7, "settings": {"rate": 0.5}},
    )
    styles.save(tmp_path / "mine")
    found = load_styles(tmp_path / "mine")
    assert found.network == styles.network
    for field in ("names", "noise", "licence", "source", "extra"):
        assert getattr(found, field) == getattr(styles, field)
    jax.tree.map(np.testing.assert_array_equal, found.variables, styles.variables)


def test_an_existing_checkpoint_is_replaced_only_if_told(tmp_path):
    TWO.save(tmp_path / "mine")
    other = random_styles(("alone",))
    with pytest.raises(FileExistsError):
        other.save(tmp_path / "mine")
    assert load_styles(tmp_path / "mine").names == TWO.names
    other.save(tmp_path / "mine", overwrite=True)
    assert load_styles(tmp_path / "mine").names == ("alone",)


def test_no_checkpoint_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="nothing"):
        load_styles(tmp_path / "nothing")


def test_a_checkpoint_of_a_classifier_is_an_error():
    path = catalogue.embedded_checkpoint_path({"checkpoint": "efficientnet_lite0-imagenet1k"})
    with pytest.raises(CheckpointError, match="holds no styles, but EfficientNetLite0"):
        load_styles(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arguments": {"width": 1 / 4, "upsampling": "nearest"}}, "has shape .* network needs"),
        ({"arguments": {"width": 1 / 8, "upsampling": "?"}}, "upsampling must be one of"),
        ({"arguments": {"depth": 3}}, "unexpected keyword argument 'depth'"),
        ({"styles": ["a", "b", "c"]}, r"has shape \(2, .*needs \(3, "),
        ({"noise": "much"}, "noise must be a number"),
        ({"styles": []}, "holds no styles"),
        ({"network": "Other"}, "holds no styles"),
    ],
)
def test_a_checkpoint_that_contradicts_itself_is_an_error(tmp_path, change, message):
    TWO.save(tmp_path / "mine")
    variables, metadata = checkpoint.restore(tmp_path / "mine")
    checkpoint.save(tmp_path / "other", variables, {"extra": {**metadata["extra"], **change}})
    with pytest.raises(CheckpointError, match=message):
        load_styles(tmp_path / "other")
