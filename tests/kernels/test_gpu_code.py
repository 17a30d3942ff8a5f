"""The GPU kernels as machine code, compiled with no GPU; and how that code is read."""

import sys

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import sass
from benchmarks.cases import Case
from benchmarks.gpu_code import Work, works
from benchmarks.machine_code import launches, machine_code
from tests.kernels.cases import fewer

compiles = pytest.mark.skipif(sys.platform != "linux", reason="Triton has wheels for Linux alone")
ARCHS = (80, 90)
# Kernels that store nothing else.
SUMS_ALONE = ("depthwise_weight_grad", "batch_norm_statistics", "batch_norm_reductions")


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton-cache")))
        yield


def depthwise(kernel, strides=1, channels=64, dtype="float32"):
    return Case("depthwise", "", 8, 28, channels, channels, kernel, strides, dtype=dtype)


def pointwise(op, act, channels=64, dtype="float32"):
    return Case(op, "", 8, 28, channels, channels, act=act, dtype=dtype)


CASES = [
    *(
        Work(case, pass_)
        for case in (
            depthwise(3),
            depthwise(3, 2, dtype="bfloat16"),
            depthwise(5, dtype="bfloat16"),
            depthwise(7),
        )
        for pass_ in case.passes
    ),
    Work(depthwise(3, dtype="bfloat16"), "forward", "bias"),
    *(
        Work(pointwise(op, act, dtype=dtype), "forward and backward", extra)
        for op, act, dtype, extra in (
            ("bias_act", "relu", "float32", ""),
            ("bias_act", "silu", "bfloat16", "residual"),
            ("batch_norm", "relu", "float32", ""),
            ("batch_norm", "relu", "bfloat16", ""),
        )
    ),
]


LISTING = """
        /*0000*/                   MOV R5, RZ ;                        /* 0x00 */
        /*0010*/                   IADD3 R5, R5, 0x1, RZ ;             /* 0x00 */
        /*0020*/                   LDG.E.128 R8, [R2.64] ;             /* 0x00 */
        /*0030*/                   ISETP.NE.U32.AND P0, PT, R5, 0x7, PT ;
        /*0040*/               @P0 BRA 0x10 ;                          /* 0x00 */
        /*0050*/                   STG.E.64 [R2.64], R8 ;              /* 0x00 */
        /*0060*/                   EXIT ;                              /* 0x00 */
        /*0070*/                   BRA 0x70;                           /* 0x00 */
"""


def test_loops_of_machine_code_are_followed():
    """A counter from 0 to 7, and the padding behind the end."""
    counted = sass.counts(LISTING)
    assert (counted["LDG.E.128"], counted["STG.E.64"]) == (7, 1)
    assert [sass.bits(name) for name in ("LDG.E.128.CONSTANT", "STG.E.U16")] == [128, 16]
    data = LISTING.replace("MOV R5, RZ", "LDG.E R5, [R2.64]")
    with pytest.raises(ValueError, match="how often the loop at 0x10 runs is not understood"):
        sass.counts(data)


def check(work, arch):
    """No spills; and what moves activations moves 16 bytes a thread, where the channels allow."""
    f, avals = work.function()
    found = launches(f, *avals)
    assert found, f"{work} launches no kernel"
    whole = work.case.channels * jnp.dtype(work.case.dtype).itemsize % 16 == 0
    for launch in found:
        code = machine_code(launch, arch)
        what = f"{launch.name} of {work} for sm_{arch}: {code.registers} registers, {code.stack} B"
        assert code.stack == 0, what
        if whole:
            vectors(code, what)


def vectors(code, what):
    """All is loaded 16 bytes at a time; of what is stored, sums of programs may go one by one."""
    names = [each.name for each in sass.instructions(code.listing)]
    loads = {sass.bits(name) for name in names if name.startswith("LDG")}
    stores = {sass.bits(name) for name in names if name.startswith("STG")}
    assert loads == {128}, what
    assert 128 in stores or what.startswith(SUMS_ALONE), what


@compiles
@pytest.mark.triton
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("work", CASES, ids=str)
def test_machine_code(work, arch):
    check(work, arch)


@compiles
@pytest.mark.triton
@pytest.mark.sampled
@fewer
@given(work=st.sampled_from(list(works())), arch=st.sampled_from(ARCHS))
def test_machine_code_of_the_benchmarks(work, arch):
    check(work, arch)
