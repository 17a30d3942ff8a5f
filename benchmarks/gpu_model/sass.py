"""How often each instruction of NVIDIA's machine code is executed, read off `cuobjdump -sass`.

Triton, LLVM and ptxas unroll, join and rewrite loops, so those of the source say little. Here a
warp's way through the code is followed, with what constants alone decide: a loop's counter, but
neither data nor a program's place in the grid.
"""

import collections
import functools
import operator
import re
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# More rounds of a loop than any kernel here has.
MOST = 2**14
COMPARE = {
    "NE": operator.ne,
    "EQ": operator.eq,
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
}
# CALL.REL.NOINC leaves loops, too: it is a jump unless a RET follows.
JUMPS = ("BRA", "CALL")
CONSTANTS = {"RZ": 0, "URZ": 0, "SRZ": 0, "PT": 1, "UPT": 1}
# Part of a name → registers that it writes, where that is more than its width tells.
WIDE = {"CS2R": 2, ".WIDE": 2, ".F64": 2, "DADD": 2, "DMUL": 2, "DFMA": 2, "MMA.": 4, "LDSM": 4}
PREDICATE = re.compile(r"!?U?P(T|\d+)")
# Class → how its instructions begin; the first that fits.
CLASSES = {
    "load": ("LDG", "LDL"),
    "store": ("STG", "STL", "RED", "ATOMG"),
    "shared": ("LDS", "STS", "ATOMS", "SHFL"),
    "fma": ("FFMA", "FADD", "FMUL"),
    "special": ("MUFU",),
    "convert": ("F2", "I2F", "I2I", "HADD2.F32", "FRND"),
    "move": ("MOV", "UMOV", "IMAD.MOV", "CS2R", "S2", "R2", "P2", "LDC", "ULDC", "PRMT", "UPRMT"),
    "float": ("F", "H"),
    "integer": ("I", "UI", "L", "UL", "P", "UP", "S", "US", "VIADD"),
    "control": ("B", "CALL", "RET", "EXIT", "WARPSYNC", "NOP", "DEPBAR", "YIELD"),
}

Known = Mapping[str, int]


class Instruction(NamedTuple):
    """One line of machine code; it runs where its guard, a predicate such as "!P0", is true."""

    address: int
    guard: str
    name: str
    operands: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.address:#x} @{self.guard} {self.name} {', '.join(self.operands)}"


def instructions(sass: str) -> list[Instruction]:
    """What `cuobjdump -sass` lists."""
    lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z]\S*)\s*(.*?)\s*;", sass)
    return [
        Instruction(
            int(at, 16), guard or "PT", name, tuple(re.split(r",\s*", rest.replace(".reuse", "")))
        )
        for at, guard, name, rest in lines
    ]


def counts(sass: str) -> dict[str, int]:
    """How often one warp executes each instruction, by its full name.

    What data may switch off or jump over counts as executed.

    Raises:
      ValueError: data, or what is not understood here, decides how often a loop runs.
    """
    code = instructions(sass)
    places = {instruction.address: i for i, instruction in enumerate(code)}
    written = [_written(instruction) for instruction in code]
    times, at = [0] * len(code), 0
    known = dict(CONSTANTS)
    # Place → what may have been written on one of the ways to there.
    doubtful: dict[int, set[str]] = collections.defaultdict(set)
    while at < len(code):
        instruction = code[at]
        times[at] += 1
        for register in doubtful.pop(at, ()):
            known.pop(register, None)
        runs = _read(instruction.guard, known)
        if instruction.name.startswith(JUMPS):
            *conditions, to = instruction.operands
            target, values = places[int(to, 16)], [runs, *(_read(c, known) for c in conditions)]
            if all(values):
                if target == at:
                    break  # where a program is over; padding follows
                if times[at] > MOST:
                    raise ValueError(f"the loop at {to} has no end: {instruction}")
                at = target
                continue
            if 0 not in values:
                if target <= at:
                    raise ValueError(
                        f"how often the loop at {to} runs is not understood: {instruction}"
                    )
                if not instruction.name.startswith("BRA"):
                    raise ValueError(f"whether it is taken is not understood: {instruction}")
                doubtful[target].update(*written[at:target])
        elif instruction.name.startswith("RET"):
            raise ValueError(f"subroutines are not understood: {instruction}")
        elif instruction.name == "EXIT" and runs:
            break
        elif runs != 0:
            effect = _effect(instruction, known) if runs else {}
            for register in written[at]:
                known.pop(register, None)
            known.update(effect)
        at += 1
    found: collections.Counter[str] = collections.Counter()
    for instruction, n in zip(code, times, strict=True):
        found[instruction.name] += n
    return dict(+found)


def bits(name: str) -> int:
    """How wide a load or store is, by its full name."""
    widths = {"128": 128, "64": 64, "U16": 16, "S16": 16, "U8": 8, "S8": 8}
    return next((widths[part] for part in name.split(".") if part in widths), 32)


def kind(name: str) -> str:
    """An instruction's class."""
    return next((kind for kind, begins in CLASSES.items() if name.startswith(begins)), "other")


def _written(instruction: Instruction) -> frozenset[str]:
    """The registers and predicates that an instruction may write."""
    name, operands = instruction.name, (*instruction.operands, "")
    if name.startswith(("ST", "RED", "EXIT", *JUMPS)):
        return frozenset()
    if name == "R2P":
        return frozenset(f"P{i}" for i in range(7))
    first = 3 if "IADD3" in name else 2  # an addition of three may carry twice
    predicates = [each for each in operands[:first] if PREDICATE.fullmatch(each)]
    place = operands[0] in predicates  # as of SHFL.BFLY PT, R13, R8…
    registers = []
    if found := re.fullmatch(r"(U?R)(\d+)", operands[place]):
        size = max(1, bits(name) // 32, *(WIDE[part] * (part in name) for part in WIDE))
        registers = [f"{found[1]}{int(found[2]) + i}" for i in range(size)]
    return frozenset([*predicates, *registers]) - CONSTANTS.keys()


def _effect(instruction: Instruction, known: Known) -> dict[str, int]:
    """What an instruction writes, as far as it is known."""
    name, *kinds = instruction.name.split(".")
    compute = EFFECTS.get(name.removeprefix("U"))
    effect = compute(kinds, instruction.operands, known) if compute else {}
    return {register: value for register, value in effect.items() if register not in CONSTANTS}


def _read(operand: str, known: Known) -> int | None:
    """An operand's value, modulo 2**32, or None."""
    if re.fullmatch(r"-?0x[0-9a-f]+", operand):
        return int(operand, 16) % 2**32
    if operand.startswith("!"):
        value = known.get(operand[1:])
        return None if value is None else 1 - value
    return known.get(operand)


def _all(operands: Sequence[str], known: Known) -> list[int] | None:
    """All operands' values, or None where one is not known."""
    values = [value for value in (_read(each, known) for each in operands) if value is not None]
    return values if len(values) == len(operands) else None


def _move(kinds: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """MOV R5, 0x7."""
    values = _all(operands[-1:], known)
    return {operands[0]: values[0]} if values else {}


def _multiply(kinds: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """IMAD R5, R4, 0x70, R3; IMAD.MOV.U32 R5, RZ, RZ, R3; IMAD.X R5, RZ, RZ, R5, P0."""
    values = _all(operands[1:], known)
    if values is None or {"HI", "WIDE"} & {*kinds} or PREDICATE.fullmatch(operands[1]):
        return {}
    a, b, *others = values
    return {operands[0]: (a * b + sum(others)) % 2**32}


def _clear(kinds: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """CS2R R4, SRZ: R4 and R5."""
    if operands[1] != "SRZ":
        return {}
    number = int(operands[0].removeprefix("R"))
    return {f"R{number + i}": 0 for i in range(1 if "32" in kinds else 2)}


def _halves(kinds: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """HFMA2.MMA R5, -RZ, RZ, 0, 5.96e-08: a constant by its two halves."""
    numbers = [each for each in operands[3:] if re.fullmatch(r"[-+.\de]+", each)]
    if operands[1:3] != ("-RZ", "RZ") or len(numbers) != 2 or "BF16" in "".join(kinds):
        return {}
    packed = struct.pack("<2e", *(float(each) for each in reversed(numbers)))
    return {operands[0]: int.from_bytes(packed, "little")}


def _add(kinds: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """IADD3 R5, P0, R5, 0x1, RZ, and of 64 bits' high half IADD3.X R6, RZ, R6, RZ, P0, !PT."""
    carry = operands[1] if PREDICATE.fullmatch(operands[1]) else "PT"
    values = _all(operands[1 + (carry == operands[1]) :], known)
    if values is None or PREDICATE.fullmatch(operands[2]):
        return {}
    return {operands[0]: sum(values) % 2**32, carry: min(1, sum(values) >> 32)}


def _compare(kinds: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """ISETP.NE.U32.AND P0, PT, R5, 0x7, PT, and of high halves ISETP.NE.AND.EX …, PT, P0."""
    relation, *others = kinds
    values = _all(operands[2:], known)
    if values is None or "AND" not in others or operands[1] != operands[4]:
        return {}
    left, right = values[:2] if "U32" in others else [(v ^ 2**31) - 2**31 for v in values[:2]]
    result = COMPARE[relation](left, right)
    if "EX" in others and left == right:
        result = values[3]
    return {operands[0]: int(result)}


def _logic(kinds: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """PLOP3.LUT P1, PT, PT, PT, UP0, 0x80, 0x0: three predicates, by a table for their values."""
    values = _all(operands[2:6], known)
    if values is None:
        return {}
    *inputs, table = values
    return {operands[0]: table >> functools.reduce(lambda n, bit: 2 * n + bit, inputs) & 1}


EFFECTS = {
    "MOV": _move,
    "IMAD": _multiply,
    "CS2R": _clear,
    "HFMA2": _halves,
    "IADD3": _add,
    "VIADD": _add,
    "ISETP": _compare,
    "PLOP3": _logic,
}
