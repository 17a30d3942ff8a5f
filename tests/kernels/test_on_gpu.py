"""The operators and a whole model on an NVIDIA GPU, against the same references."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo_kernels as kernels
from tests.kernels.bias_act import test_sampled_pointwise as pointwise
from tests.kernels.cases import HALVES, fewer
from tests.kernels.cases import convolutions as cases
from tests.kernels.conv import test_sampled_convolutions as convolutions
from tests.kernels.conv.test_convolutions import check, draw_operands
from tests.kernels.core import test_triton

# jax deprecates the kernels' backend, of which jax-zoo warns.
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:jax has deprecated the backend"),
]


@pytest.fixture(autouse=True)
def on_gpu():
    """Runs everything on the first GPU, without TF32's shorter mantissa."""
    try:
        device = jax.devices("gpu")[0]
    except RuntimeError:
        pytest.skip("this machine has no GPU that jax can use")
    with jax.default_device(device), jax.default_matmul_precision("float32"):
        yield


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("op", [kernels.depthwise_conv, kernels.conv])
def test_convolutions_match_reference(op, strides):
    groups = 8 if op is kernels.depthwise_conv else 1
    x, w = draw_operands({"size": (15, 14), "channels": 8}, (3, 3, 8 // groups, 16))
    geometry = {"strides": strides, "padding": ((1, 1), (0, 1)), "dilation": (1, 1)}
    check(op, x, w, geometry, groups)


@fewer
@given(case=cases(depthwise=True, dtypes=HALVES))
def test_sampled_depthwise_by_triton(case):
    convolutions.check("depthwise_conv", case, "triton")


@fewer
@given(case=pointwise.halves)
def test_sampled_bias_act_by_triton(case):
    pointwise.check_bias_act(case, "triton")


@fewer
@given(case=pointwise.halves, inference=st.booleans())
def test_sampled_batch_norm_by_triton(case, inference):
    pointwise.check_batch_norm(case, inference, "triton")


@pytest.mark.parametrize("name", test_triton.OPERATORS)
def test_two_runs_give_the_same_bits(name):
    op, operands = test_triton.OPERATORS[name]
    step = jax.jit(lambda *arrays: test_triton.gradients(op, "triton", *arrays))
    jax.tree.map(np.testing.assert_array_equal, step(*operands), step(*operands))


def test_photo_is_classified_as_on_a_cpu(lite, examples):
    x = lite.preprocess(examples / "cat.jpg")
    got = np.asarray(lite(x))
    with jax.default_device(jax.devices("cpu")[0]):
        want = np.asarray(jax.device_put(lite, jax.devices("cpu")[0])(x))
    np.testing.assert_allclose(got, want, atol=1e-3)
