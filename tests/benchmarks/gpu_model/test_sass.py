"""Counting the instructions of machine code."""

import pytest

from benchmarks.gpu_model import sass


def listing(*lines):
    """Code as `cuobjdump -sass` prints it; the jump of the padding at its end is no loop."""
    lines = (*lines, "EXIT", f"BRA {16 * len(lines) + 16:#x}", "NOP")
    return "\n".join(
        f"        /*{16 * i:04x}*/   {line} ; /* 0x00 */" for i, line in enumerate(lines)
    )


# Name → how often a loop runs, and the code before and after its load: the set-up and the end.
LOOPS = {
    "a counter that goes up": (
        7,
        ["MOV R5, RZ"],
        ["IADD3 R5, R5, 0x1, RZ", "ISETP.NE.U32.AND P0, PT, R5, 0x7, PT", "@P0 BRA 0x20"],
    ),
    "a 64-bit counter that ends at zero": (
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
    "a counter in a uniform register, left by a far jump": (
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
    "a constant in two halves, a step by the multiplication unit": (
        16,
        ["HFMA2.MMA R5, -RZ, RZ, 0, 5.9604644775390625e-08"],
        ["IMAD.IADD R5, R5, 0x1, R5", "ISETP.GT.AND P0, PT, R5, 0xffff, PT", "@!P0 BRA 0x20"],
    ),
    "a loop of three inside a loop of two": (
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
def test_loop_iterations_are_counted(name):
    iterations, before, after = LOOPS[name]
    code = listing("S2R R0, SR_TID.X", *before, "@P3 LDG.E.128 R8, [R2.64]", *after)
    counts = sass.count_instructions(code)
    assert (counts["LDG.E.128"], counts["S2R"], counts["EXIT"]) == (iterations, 1, 1)
    assert "NOP" not in counts


@pytest.mark.parametrize(
    ("initialise", "inside"),
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
def test_loops_not_decided_by_constants_raise(initialise, inside):
    step = ["IADD3 R5, R5, 0x1, RZ", "ISETP.NE.U32.AND P0, PT, R5, 0x7, PT", "@P0 BRA 0x20"]
    with pytest.raises(ValueError, match="how often the loop at 0x20 runs is not understood"):
        sass.count_instructions(listing("NOP", initialise, "NOP", inside, *step))


def test_code_without_loops():
    """What data may jump over counts; returns and conditional calls raise."""
    code = ["@P0 BRA 0x20", "STG.E.U16 [R2.64], R8", "@P1 EXIT", "STG.E.128 [R2.64], R8"]
    counts = sass.count_instructions(listing(*code))
    assert counts == {"BRA": 1, "STG.E.U16": 1, "EXIT": 2, "STG.E.128": 1}
    assert {sass.access_bits(name) for name in counts if name.startswith("STG")} == {16, 128}
    for unknown in ("RET.REL.NODEC R4, 0x0", "@P0 CALL.REL.NOINC 0x50"):
        with pytest.raises(ValueError, match="understood"):
            sass.count_instructions(listing(*code, unknown))
