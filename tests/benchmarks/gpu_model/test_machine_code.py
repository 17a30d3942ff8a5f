"""The GPU kernels as machine code, compiled with no GPU; and how that code is read."""

import math
import sys

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu_model import sass
from benchmarks.gpu_model.machine_code import launches, machine_code
from benchmarks.gpu_model.time_model import Work, works
from benchmarks.operators.cases import Case
from tests.kernels.cases import fewer

compiles = pytest.mark.skipif(sys.platform != "linux", reason="Triton has wheels for Linux alone")
ARCHS = (80, 90)
# Kernels that store sums, element by element: nothing else, or beside what they compute.
SUMS_ALONE = ("depthwise_weight_grad", "batch_norm_statistics", "batch_norm_reductions")
SUMS_BESIDE = ("bias_act_backward",)


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
        for case in (depthwise(3), depthwise(3, 2, dtype="bfloat16"), depthwise(7))
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


def listing(*lines):
    """As `cuobjdump -sass` prints it; the padding behind the end is no loop."""
    lines = (*lines, "EXIT", f"BRA {16 * len(lines) + 16:#x}", "NOP")
    return "\n".join(
        f"        /*{16 * i:04x}*/   {line} ; /* 0x00 */" for i, line in enumerate(lines)
    )


# Name → how often a loop runs, and the code around its load: what sets it up, and what ends it.
LOOPS = {
    "a counter upwards": (
        7,
        ["MOV R5, RZ"],
        ["IADD3 R5, R5, 0x1, RZ", "ISETP.NE.U32.AND P0, PT, R5, 0x7, PT", "@P0 BRA 0x20"],
    ),
    "to zero, in 64 bits": (
        9,
        ["MOV R5, 0xfffffff7", "MOV R4, 0xffffffff"],
        [
            "IADD3 R5, P0, R5, 0x1, RZ",
            "IADD3.X R4, RZ, R4, RZ, P0, !PT",
            "ISETP.NE.U32.AND P0, PT, RZ, R5, PT",
            "ISETP.NE.AND.EX P0, PT, RZ, R4, PT, P0",
            "@P0 BRA 0x30",
        ],
    ),
    "by a uniform register, left by a far jump": (
        5,
        ["UMOV UR4, URZ"],
        [
            "UIADD3 UR4, UR4, 0x40, URZ",
            "UISETP.NE.U32.AND UP0, UPT, UR4, 0x140, UPT",
            "PLOP3.LUT P0, PT, PT, PT, UP0, 0x80, 0x0",
            "@!P0 CALL.REL.NOINC 0x80",
            "BRA 0x20",
        ],
    ),
    "a flag": (
        2,
        ["UPLOP3.LUT UP0, UPT, UPT, UPT, UPT, 0x80, 0x0"],
        [
            "PLOP3.LUT P1, PT, PT, PT, UP0, 0x80, 0x0",
            "UPLOP3.LUT UP0, UPT, UPT, UPT, UPT, 0x40, 0x0",
            "@P1 BRA 0x20",
        ],
    ),
    "a constant in two halves, a step by a multiplication's unit": (
        16,
        ["HFMA2.MMA R5, -RZ, RZ, 0, 5.9604644775390625e-08"],
        ["IMAD.IADD R5, R5, 0x1, R5", "ISETP.GT.AND P0, PT, R5, 0xffff, PT", "@!P0 BRA 0x20"],
    ),
    "twice a loop of three": (
        6,
        ["CS2R R4, SRZ", "MOV R5, RZ"],
        [
            "IADD3 R5, R5, 0x2, RZ",
            "ISETP.LT.AND P0, PT, R5, 0x6, PT",
            "@P0 BRA 0x30",
            "IADD3 R4, R4, 0x1, RZ",
            "ISETP.GE.AND P0, PT, R4, 0x2, PT",
            "@!P0 BRA 0x20",
        ],
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_of_machine_code_are_followed(name):
    times, before, after = LOOPS[name]
    found = sass.counts(listing("S2R R0, SR_TID.X", *before, "@P3 LDG.E.128 R8, [R2.64]", *after))
    assert (found["LDG.E.128"], found["S2R"], found["EXIT"]) == (times, 1, 1)
    assert "NOP" not in found


@pytest.mark.parametrize(
    ("start", "then"),
    [
        ("LDG.E R5, [R2.64]", "NOP"),  # data
        ("LDG.E.64 R4, [R2.64]", "NOP"),
        ("MOV R5, c[0x0][0x160]", "NOP"),  # an argument
        ("@P3 MOV R5, RZ", "NOP"),
        ("MOV R5, RZ", "@P3 IADD3 R5, R5, 0x1, RZ"),
        ("MOV R5, RZ", "SHFL.BFLY PT, R5, R8, 0x4, 0x1f"),
        ("MOV R5, RZ", "@P3 BRA 0x50"),  # around the step
    ],
)
def test_loops_that_constants_do_not_decide_are_errors(start, then):
    step = ["IADD3 R5, R5, 0x1, RZ", "ISETP.NE.U32.AND P0, PT, R5, 0x7, PT", "@P0 BRA 0x20"]
    with pytest.raises(ValueError, match="how often the loop at 0x20 runs is not understood"):
        sass.counts(listing("NOP", start, "NOP", then, *step))


def test_machine_code_without_loops():
    """What data jump over counts; what nothing understood jumps to does not pass."""
    code = ["@P0 BRA 0x20", "STG.E.U16 [R2.64], R8", "@P1 EXIT", "STG.E.128 [R2.64], R8"]
    found = sass.counts(listing(*code))
    assert found == {"BRA": 1, "STG.E.U16": 1, "EXIT": 2, "STG.E.128": 1}
    assert {sass.bits(name) for name in found if name.startswith("STG")} == {16, 128}
    for more in ("RET.REL.NODEC R4, 0x0", "@P0 CALL.REL.NOINC 0x50"):
        with pytest.raises(ValueError, match="understood"):
            sass.counts(listing(*code, more))


@compiles
@pytest.mark.triton
def test_loops_of_a_kernel_are_followed():
    """Whatever the compilers make of a loop, its multiplications stay the same."""
    work = Work(depthwise(7), "forward")
    f, avals = work.function()
    (launch,) = launches(f, *avals)
    assert "scf.for" in launch.ir
    for arch in ARCHS:
        done = (
            machine_code(launch, arch).counts["FFMA"] * 32 * launch.warps * math.prod(launch.grid)
        )
        needed = math.prod(avals[-1].shape) * 7**2
        assert needed <= done < 1.5 * needed


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
        assert launch.grid[1:] == (1, 1), what  # other axes end at 65535 programs
        if whole:
            vectors(launch.name, code, what)


def vectors(name, code, what):
    """All is loaded and stored 16 bytes at a time, sums apart."""
    instructions = [each.name for each in sass.instructions(code.listing)]
    loads = {sass.bits(each) for each in instructions if each.startswith("LDG")}
    stores = {sass.bits(each) for each in instructions if each.startswith("STG")}
    assert loads == {128}, what
    assert name in SUMS_ALONE or 128 in stores, what
    assert name in SUMS_ALONE + SUMS_BESIDE or stores == {128}, what


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
