"""Counts how often NVIDIA's machine code executes each instruction, from `cuobjdump -sass`.

Triton, LLVM and ptxas unroll, join and rewrite loops, so those of the source say little. Here a
warp is followed through the code, with the values that constants alone determine: a loop's counter,
but neither data nor the program's id.
"""

import collections
import functools
import operator
import re
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# More iterations of a loop than any kernel here has.
MAX_ITERATIONS = 2**14
COMPARE = {
    "NE": operator.ne,
    "EQ": operator.eq,
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
}
# CALL.REL.NOINC leaves loops as well: it is a jump unless a RET follows.
JUMPS = ("BRA", "CALL")
CONSTANTS = {"RZ": 0, "URZ": 0, "SRZ": 0, "PT": 1, "UPT": 1}
# Part of a name → registers that it writes, where that is more than its width says.
WRITES = {"CS2R": 2, ".WIDE": 2, ".F64": 2, "DADD": 2, "DMUL": 2, "DFMA": 2, "MMA.": 4, "LDSM": 4}
PREDICATE = re.compile(r"!?U?P(T|\d+)")
# Class → how its instructions begin; the first class that fits counts.
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


def parse(listing: str) -> list[Instruction]:
    """The instructions in what `cuobjdump -sass` prints."""
    lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z]\S*)\s*(.*?)\s*;", listing)
    return [
        Instruction(
            int(at, 16), guard or "PT", name, tuple(re.split(r",\s*", rest.replace(".reuse", "")))
        )
        for at, guard, name, rest in lines
    ]


def count_instructions(listing: str) -> dict[str, int]:
    """How often one warp executes each instruction, by its full name.

    What data may switch off or jump over counts as executed.

    Raises:
      ValueError: data, or what is not understood here, decides how often a loop runs.
    """
    code = parse(listing)
    positions = {instruction.address: i for i, instruction in enumerate(code)}
    written = [_written_registers(instruction) for instruction in code]
    executed, at = [0] * len(code), 0
    known = dict(CONSTANTS)
    # Position → registers that may have been written on one of the paths to it.
    uncertain: dict[int, set[str]] = collections.defaultdict(set)
    while at < len(code):
        instruction = code[at]
        executed[at] += 1
        for register in uncertain.pop(at, ()):
            known.pop(register, None)
        runs = _evaluate(instruction.guard, known)
        if instruction.name.startswith(JUMPS):
            *conditions, to = instruction.operands
            target = positions[int(to, 16)]
            values = [runs, *(_evaluate(c, known) for c in conditions)]
            if all(values):
                if target == at:
                    break  # the end of the program; padding follows
                if executed[at] > MAX_ITERATIONS:
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
                uncertain[target].update(*written[at:target])
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
    totals: collections.Counter[str] = collections.Counter()
    for instruction, n in zip(code, executed, strict=True):
        totals[instruction.name] += n
    return dict(+totals)


def access_bits(name: str) -> int:
    """How many bits of a thread a load or store moves, by its full name."""
    widths = {"128": 128, "64": 64, "U16": 16, "S16": 16, "U8": 8, "S8": 8}
    return next((widths[part] for part in name.split(".") if part in widths), 32)


def instruction_class(name: str) -> str:
    """The class of an instruction, of `CLASSES`, or "other"."""
    return next((c for c, prefixes in CLASSES.items() if name.startswith(prefixes)), "other")


def _written_registers(instruction: Instruction) -> frozenset[str]:
    """The registers and predicates that an instruction may write."""
    name, operands = instruction.name, (*instruction.operands, "")
    if name.startswith(("ST", "RED", "EXIT", *JUMPS)):
        return frozenset()
    if name == "R2P":
        return frozenset(f"P{i}" for i in range(7))
    may_be_written = 3 if "IADD3" in name else 2  # an addition of three may carry twice
    predicates = [operand for operand in operands[:may_be_written] if PREDICATE.fullmatch(operand)]
    position = operands[0] in predicates  # 1 as of SHFL.BFLY PT, R13, R8…
    registers = []
    if found := re.fullmatch(r"(U?R)(\d+)", operands[position]):
        size = max(
            1,
            access_bits(name) // 32,
            *(n * (part in name) for part, n in WRITES.items()),
        )
        registers = [f"{found[1]}{int(found[2]) + i}" for i in range(size)]
    return frozenset([*predicates, *registers]) - CONSTANTS.keys()


def _effect(instruction: Instruction, known: Known) -> dict[str, int]:
    """The values that an instruction writes, by register, as far as they are known."""
    opcode, *modifiers = instruction.name.split(".")
    compute = EFFECTS.get(opcode.removeprefix("U"))
    effect = compute(modifiers, instruction.operands, known) if compute else {}
    return {register: value for register, value in effect.items() if register not in CONSTANTS}


def _evaluate(operand: str, known: Known) -> int | None:
    """An operand's value, modulo 2**32, or None."""
    if re.fullmatch(r"-?0x[0-9a-f]+", operand):
        return int(operand, 16) % 2**32
    if operand.startswith("!"):
        value = known.get(operand[1:])
        return None if value is None else 1 - value
    return known.get(operand)


def _evaluate_all(operands: Sequence[str], known: Known) -> list[int] | None:
    """All operands' values, or None where one is not known."""
    evaluated = (_evaluate(operand, known) for operand in operands)
    values = [value for value in evaluated if value is not None]
    return values if len(values) == len(operands) else None


def _move(modifiers: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """MOV R5, 0x7."""
    values = _evaluate_all(operands[-1:], known)
    return {operands[0]: values[0]} if values else {}


def _multiply(modifiers: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """IMAD R5, R4, 0x70, R3; IMAD.MOV.U32 R5, RZ, RZ, R3; IMAD.X R5, RZ, RZ, R5, P0."""
    values = _evaluate_all(operands[1:], known)
    if values is None or {"HI", "WIDE"} & {*modifiers} or PREDICATE.fullmatch(operands[1]):
        return {}
    a, b, *others = values
    return {operands[0]: (a * b + sum(others)) % 2**32}


def _clear(modifiers: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """CS2R R4, SRZ: R4 and R5."""
    if operands[1] != "SRZ":
        return {}
    number = int(operands[0].removeprefix("R"))
    return {f"R{number + i}": 0 for i in range(1 if "32" in modifiers else 2)}


def _move_halves(modifiers: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """HFMA2.MMA R5, -RZ, RZ, 0, 5.96e-08: a constant, given as its two halves."""
    numbers = [operand for operand in operands[3:] if re.fullmatch(r"[-+.\de]+", operand)]
    if operands[1:3] != ("-RZ", "RZ") or len(numbers) != 2 or "BF16" in "".join(modifiers):
        return {}
    packed = struct.pack("<2e", *map(float, reversed(numbers)))
    return {operands[0]: int.from_bytes(packed, "little")}


def _add(modifiers: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """IADD3 R5, P0, R5, 0x1, RZ, and of 64 bits' high half IADD3.X R6, RZ, R6, RZ, P0, !PT."""
    carry = operands[1] if PREDICATE.fullmatch(operands[1]) else "PT"
    values = _evaluate_all(operands[1 + (carry == operands[1]) :], known)
    if values is None or PREDICATE.fullmatch(operands[2]):
        return {}
    return {operands[0]: sum(values) % 2**32, carry: min(1, sum(values) >> 32)}


def _compare(modifiers: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """ISETP.NE.U32.AND P0, PT, R5, 0x7, PT, and of high halves ISETP.NE.AND.EX …, PT, P0."""
    relation, *others = modifiers
    values = _evaluate_all(operands[2:], known)
    if values is None or "AND" not in others or operands[1] != operands[4]:
        return {}
    left, right = values[:2] if "U32" in others else [(v ^ 2**31) - 2**31 for v in values[:2]]
    result = COMPARE[relation](left, right)
    if "EX" in others and left == right:
        result = values[3]
    return {operands[0]: int(result)}


def _logic(modifiers: Sequence[str], operands: Sequence[str], known: Known) -> dict[str, int]:
    """PLOP3.LUT P1, PT, PT, PT, UP0, 0x80, 0x0: three predicates, by a truth table."""
    values = _evaluate_all(operands[2:6], known)
    if values is None:
        return {}
    *inputs, table = values
    return {operands[0]: table >> functools.reduce(lambda n, bit: 2 * n + bit, inputs) & 1}


EFFECTS = {
    "MOV": _move,
    "IMAD": _multiply,
    "CS2R": _clear,
    "HFMA2": _move_halves,
    "IADD3": _add,
    "VIADD": _add,
    "ISETP": _compare,
    "PLOP3": _logic,
}
