"""Timing a model's passes: what is measured, and arguments that are out of range."""

import json

import pytest

import zoo
from tests.zoo.models.small_models import small
from zoo.runtime import bench


def test_measurements_of_all_passes():
    model, _, _ = small("squeezenet")
    measurements = list(bench.measure(model, batch=2, size=33, rounds=3))
    assert [measurement.name for measurement in measurements] == list(bench.PASSES)
    inference = 2 * 2 * zoo.describe(model, size=33).multiply_adds
    assert [measurement.operations for measurement in measurements] == [
        inference, inference, 3 * inference
    ]  # fmt: skip
    for measurement in measurements:
        assert (
            measurement.batch,
            measurement.size,
            measurement.dtype,
            len(measurement.seconds),
        ) == (2, 33, "float32", 3)
        lower, median, upper = measurement.quartiles
        assert 0 < lower <= median <= upper
        assert measurement.images_per_second == pytest.approx(2 / median)
        assert measurement.reached == pytest.approx(measurement.operations / median)
        assert measurement.compile > 0
        assert measurement.rate > 1e8
        json.dumps(measurement.as_dict())
    images = 2 * 33 * 33 * 3 * 4
    assert measurements[2].peak > measurements[0].peak > images


def test_bfloat16():
    model, _, _ = small("squeezenet")
    (measurement,) = bench.measure(
        model, batch=1, size=33, passes=["inference, fused"], dtype="bfloat16", rounds=2
    )
    assert measurement.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"rounds": 1}, "rounds must be at least 2"),
        ({"passes": ["flight"]}, "got 'flight'"),
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, got 'int8'"),
        ({"size": 3}, "at least 17x17"),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(options, words):
    with pytest.raises(ValueError, match=words):
        bench.measure("SqueezeNet1_1", **options)
