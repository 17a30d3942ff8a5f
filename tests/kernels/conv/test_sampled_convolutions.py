"""Both convolutions on sampled calls, against their definition in float64.

Values, both gradients, and the gradients of the gradients: the convolution is bilinear, so
they are known exactly, without finite differences.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import zoo_kernels as kernels
from tests.kernels.cases import (
    HALVES,
    assert_close,
    convolutions,
    draw,
    fewer,
    rounding,
    sampled,
    unit,
)
from tests.kernels.reference import convolution, explicit_padding

# An algorithm's error may be so many times that of a plain sum. Winograd's transforms multiply by
# up to 8 and add up to 6 terms, twice each way. Both mix entries of a whole tile or image before
# they multiply, so their errors are relative to the largest sum and not to an entry's own.
SLACK = {"winograd": 64.0, "fft": 8.0}
OPS = {"conv": kernels.conv, "depthwise_conv": kernels.depthwise_conv}


def results(op, x, w, dy, u, v):
    """Computes everything that is compared, in one compilation."""

    def gradients(x, w, dy):
        return jax.vjp(op, x, w)[1](dy)

    y = op(x, w)
    (dx, dw), second = jax.vjp(gradients, x, w, dy)
    return {"y": y, "dx": dx, "dw": dw} | dict(
        zip(("dx of gradients", "dw of gradients", "ddy of gradients"), second((u, v)), strict=True)
    )


def references(x, w, dy, u, v, **geometry):
    """Computes the same by definition."""
    y, dx, dw = convolution(x, w, dy, **geometry)
    return {
        "y": y,
        "dx": dx,
        "dw": dw,
        "dx of gradients": convolution(x, v, dy, **geometry)[1],
        "dw of gradients": convolution(u, w, dy, **geometry)[2],
        "ddy of gradients": convolution(u, w, dy, **geometry)[0]
        + convolution(x, v, dy, **geometry)[0],
    }


def check(name, case, implementation=None, jit=jax.jit):
    """Compares a sampled call with its references, within bounds on rounding."""
    geometry, groups, dtype = case["geometry"], case["groups"], case["dtype"]
    options = {**geometry, "flip": case["flip"]}
    if name == "conv":
        options |= {"groups": groups, "algo": case["algo"]}
    any_op = functools.partial(OPS[name], **options)
    op = functools.partial(any_op, implementation=implementation)
    pads = explicit_padding(geometry["padding"], case["x"], case["w"], geometry)
    exact = {**geometry, "padding": pads, "groups": groups}
    with jax.enable_x64(dtype == "float64"):
        x, u = draw(case["x"], dtype, 0), draw(case["x"], dtype, 1)
        w, v = draw(case["w"], dtype, 2), draw(case["w"], dtype, 3)
        dy = draw(jax.eval_shape(any_op, x, w).shape, dtype, 4)
        got = jit(functools.partial(results, op))(x, w, dy, u, v)
        assert {a.dtype for a in got.values()} == {x.dtype}
        got = {key: np.asarray(a, np.float64) for key, a in got.items()}
    arrays = [np.asarray(a, np.float64) for a in (x, w, dy, u, v)]
    if case["flip"]:
        arrays[1], arrays[4] = arrays[1][::-1, ::-1], arrays[4][::-1, ::-1]
    want = references(*arrays, **exact)
    sums = references(*map(np.abs, arrays), **exact)
    terms = {
        "y": np.prod(case["w"][:3]),
        "dx": np.prod(case["w"][:2]) * case["w"][3] // groups,
        "dw": np.prod(dy.shape[:3]),
    }
    slack = SLACK.get(case["algo"], 1.0)
    largest = max(total.max() for total in sums.values())
    largest = max(largest, max(np.abs(a).max() for a in arrays) ** 2)
    for key, value in got.items():
        if case["flip"] and key.startswith("dw"):
            value = value[::-1, ::-1]
        count = terms.get(key, max(terms.values())) + 2  # one product, one cast
        size = largest if slack > 1 else sums[key]
        bound = slack * count * rounding(dtype) * size + 1.01 * unit(dtype) * np.abs(want[key])
        # Results below float16's smallest normal number are rounded absolutely.
        bound += float(jnp.finfo(dtype).tiny)
        # The last is a sum of two, each rounded to the dtype first.
        if key.startswith("ddy"):
            bound += 2 * unit(dtype) * sums[key]
        assert_close(value, want[key], bound, f"{key} of {name} {case}")


@pytest.mark.sampled
@sampled
@given(case=convolutions(depthwise=True))
def test_depthwise(case):
    check("depthwise_conv", case)


@pytest.mark.sampled
@fewer
@given(case=convolutions(depthwise=True))
def test_depthwise_by_xla(case):
    check("depthwise_conv", case, "xla")


@pytest.mark.triton
@pytest.mark.sampled
@fewer
@given(case=convolutions(depthwise=True, dtypes=HALVES))
def test_depthwise_by_triton(interpreted, case):
    check("depthwise_conv", case, "triton")


@pytest.mark.sampled
@sampled
@given(case=convolutions(depthwise=False, algos=("auto", "direct", "gemm", "winograd", "fft")))
def test_conv(case):
    check("conv", case)


@pytest.mark.sampled
@fewer
@given(case=convolutions(depthwise=False, algos=("direct", "gemm", "winograd", "fft")))
def test_conv_by_xla(case):
    check("conv", case, "xla")
