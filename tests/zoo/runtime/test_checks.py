"""What counts and numbers are, and the errors that say so."""

import jax.numpy as jnp
import numpy as np
import pytest

from zoo.runtime.checks import ArgumentError, check_count, check_number


@pytest.mark.parametrize("value", [2, np.int64(2), np.uint8(2)])
def test_integers_of_any_kind_are_counts(value):
    assert check_count("steps", value, 2) == 2


@pytest.mark.parametrize("value", [1, 2.0, "2", True, None, np.float32(2), np.array([2])])
def test_all_else_is_no_count(value):
    with pytest.raises(ArgumentError, match=r"^steps must be an integer of at least 2, got "):
        check_count("steps", value, 2)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), jnp.float32(0.5)])
def test_numbers_of_any_kind_are_numbers(value):
    assert check_number("share", value, 0, 1) == 0.5


@pytest.mark.parametrize(
    ("limits", "included", "wrong", "words"),
    [
        ((1,), True, (0.9, float("inf")), "of at least 1"),
        ((1,), False, (1, float("inf")), "above 1"),
        ((0.01, 50), True, (0.009, 50.1, float("inf")), "from 0.01 to 50"),
        ((0, 1), False, (0, 1, -1, 2), "between 0 and 1"),
    ],
)
def test_numbers_outside_the_limits_are_errors(limits, included, wrong, words):
    for value in (*wrong, float("nan"), "1", True, np.True_, None, [1], 1j):
        with pytest.raises(ArgumentError, match=f"^share must be a number {words}, got "):
            check_number("share", value, *limits, included=included)


def test_limits_are_numbers_where_they_are_included():
    assert [check_number("share", value, 0, 1) for value in (0, 1)] == [0, 1]
