"""The GPU kernels as machine code, compiled without a GPU."""

import math
import sys

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu_model import sass
from benchmarks.gpu_model.machine_code import compile_launch, list_launches
from benchmarks.gpu_model.passes import CasePass, list_passes
from benchmarks.operators.cases import Case
from tests.kernels.cases import fewer

compiles = pytest.mark.skipif(sys.platform != "linux", reason="Triton has wheels for Linux alone")
ARCHS = (80, 90)
# Kernels that store sums, one element a thread: nothing else, or beside elementwise results.
STORE_SUMS_ONLY = ("depthwise_weight_grad", "batch_norm_statistics", "batch_norm_reductions")
STORE_SUMS_TOO = ("bias_act_backward",)


@pytest.fixture(autouse=True, scope="module")
def _fresh_triton_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton-cache")))
        yield


def depthwise(kernel, strides=1, channels=64, dtype="float32"):
    return Case("depthwise", "", 8, 28, channels, channels, kernel, strides, dtype=dtype)


def pointwise(op, act, channels=64, dtype="float32"):
    return Case(op, "", 8, 28, channels, channels, act=act, dtype=dtype)


CASES = [
    *(
        CasePass(case, pass_name)
        for case in (depthwise(3), depthwise(3, 2, dtype="bfloat16"), depthwise(7))
        for pass_name in case.passes
    ),
    CasePass(depthwise(3, dtype="bfloat16"), "forward", "bias"),
    *(
        CasePass(pointwise(op, act, dtype=dtype), "forward and backward", extra)
        for op, act, dtype, extra in (
            ("bias_act", "relu", "float32", ""),
            ("bias_act", "silu", "bfloat16", "residual"),
            ("batch_norm", "relu", "float32", ""),
            ("batch_norm", "relu", "bfloat16", ""),
        )
    ),
]


@compiles
@pytest.mark.triton
def test_multiplications_in_a_kernels_loop_are_counted():
    """Whatever the compilers make of a loop, its multiplications stay the same."""
    function, avals = CasePass(depthwise(7), "forward").function()
    (launch,) = list_launches(function, *avals)
    assert "scf.for" in launch.ir
    for arch in ARCHS:
        threads = 32 * launch.warps * math.prod(launch.grid)
        executed = compile_launch(launch, arch).counts["FFMA"] * threads
        needed = math.prod(avals[-1].shape) * 7**2
        assert needed <= executed < 1.5 * needed


def check(case_pass, arch):
    """No spills, and activations move 16 bytes a thread, where the channels allow."""
    function, avals = case_pass.function()
    launches = list_launches(function, *avals)
    assert launches, f"{case_pass} launches no kernel"
    aligned = case_pass.case.channels * jnp.dtype(case_pass.case.dtype).itemsize % 16 == 0
    for launch in launches:
        code = compile_launch(launch, arch)
        usage = f"{code.registers} registers, {code.stack} B"
        description = f"{launch.name} of {case_pass} for sm_{arch}: {usage}"
        assert code.stack == 0, description
        assert launch.grid[1:] == (1, 1), description  # other axes end at 65535 programs
        if aligned:
            check_vector_accesses(launch.name, code, description)


def check_vector_accesses(kernel, code, description):
    """Everything is loaded and stored 16 bytes at a time, but for sums."""
    names = [instruction.name for instruction in sass.parse(code.listing)]
    loads = {sass.access_bits(name) for name in names if name.startswith("LDG")}
    stores = {sass.access_bits(name) for name in names if name.startswith("STG")}
    assert loads == {128}, description
    assert kernel in STORE_SUMS_ONLY or 128 in stores, description
    assert kernel in STORE_SUMS_ONLY + STORE_SUMS_TOO or stores == {128}, description


@compiles
@pytest.mark.triton
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("case_pass", CASES, ids=str)
def test_no_spills_and_vector_accesses(case_pass, arch):
    check(case_pass, arch)


@compiles
@pytest.mark.triton
@pytest.mark.sampled
@fewer
@given(case_pass=st.sampled_from(list(list_passes())), arch=st.sampled_from(ARCHS))
def test_no_spills_and_vector_accesses_in_benchmarks(case_pass, arch):
    check(case_pass, arch)
