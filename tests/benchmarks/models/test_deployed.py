"""Deployed models: the same logits from all candidates, with weights that count."""

import jax
import numpy as np
import pytest

from benchmarks.models import deployed
from benchmarks.models.random_weights import make_trained, perturb
from tests.zoo.models.small_models import SMALL

SIZE = 32
MODEL = SMALL["mobilenet_v2"]


def test_no_weight_can_be_left_out():
    trained = make_trained(MODEL, SIZE)
    for path, leaf in jax.tree.leaves_with_path(trained.variables):
        if path[-1].key != "kernel":
            assert not np.isin(leaf, (0, 1)).any(), path
            assert np.ptp(leaf) > 0.1
        assert leaf.dtype == np.float32


def test_the_weights_are_always_the_same():
    variables = {"params": {"b": {"bias": np.zeros(3)}, "a": {"scale": np.ones(3)}}}
    first, traced = perturb(variables), jax.jit(perturb)(variables)
    jax.tree.map(np.testing.assert_allclose, first, traced)
    assert not np.array_equal(first["params"]["b"]["bias"], first["params"]["a"]["scale"])


@pytest.mark.parametrize(
    ("name", "fused"),
    [
        (deployed.OURS, True),
        (deployed.COMPILED, True),
        pytest.param(deployed.ONNXRUNTIME, True, marks=pytest.mark.peer),
        pytest.param(deployed.ONNXRUNTIME, False, marks=pytest.mark.peer),
    ],
)
def test_logits_are_those_of_the_model(name, fused):
    if name == deployed.ONNXRUNTIME:
        pytest.importorskip("onnxruntime", reason="the extra `peers` has it")
    images = np.random.default_rng(0).standard_normal((2, SIZE, SIZE, 3), np.float32)
    call, seconds, initial_bytes = deployed.deploy(name, MODEL, 2, SIZE, fused)
    logits = call(deployed.arrange_images(name, images))
    assert type(logits) is np.ndarray
    assert (seconds is None) == (name == deployed.OURS)
    assert (initial_bytes is None) == (name != deployed.ONNXRUNTIME)
    # Sums in another order, which random norms multiply.
    expected = make_trained(MODEL, SIZE)(images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
