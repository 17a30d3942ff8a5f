"""The JSON files of the benchmarks: read, held against what they have to hold, and told apart."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Row = Mapping[str, Any]

RESULTS = Path(__file__).parent.parent / "results"

_MODEL = ("model", "pass", "batch", "size", "dtype")
# What tells a row from every other of its file, by the kind of benchmark. Where no dtype is told,
# it is float32.
KEYS = {
    "models": _MODEL,
    "layers": _MODEL,
    "scaling": ("model", "pass", "axis", "value", "batch", "size", "devices", "dtype"),
    "operators": ("op", "case", "pass", "dtype"),
}
_SUMMARY: Mapping[str, Any] = {
    **dict.fromkeys(("op", "pass", "of", "peer"), str),
    **dict.fromkeys(("times_as_fast", "worst"), (int, float)),
}
# What a row may have besides its key and seconds.
_OPTIONAL: Mapping[str, Any] = {
    "limit": (int, float, type(None)),
    **dict.fromkeys(("compile", "peak", "refusals", "versions"), dict),
}
# Kinds whose figures the top README tells; only their names are known here.
ELSEWHERE = ("classify", "weights", "gpu_code")
# The order in which candidates are told; any other comes after these.
CANDIDATES = ("ours", "ours, options", "ours, plain jit", "triton", "flax", "lax", "torch")


class RecordError(ValueError):
    """A file is not what it should be; the message names it and says what was expected."""


class Record(NamedTuple):
    """A file of results.

    Args:
      path: where it lies.
      kind: of `KEYS` or `ELSEWHERE`.
      told: all that it holds.
    """

    path: Path
    kind: str
    told: Mapping[str, Any]

    @property
    def rows(self) -> list[Row]:
        """The timed rows."""
        return self.told["rows"]

    @property
    def commands(self) -> list[str]:
        """What repeats it: several where the runs of several commands were put together."""
        command = self.told["command"]
        return [command] if isinstance(command, str) else list(command)

    @property
    def part(self) -> str:
        """What a file is about, of several alike: "peers" of `models-cpu-peers-jax0.12.json`."""
        found = re.match(r"\w+-\w+-(\w+)-jax", self.path.name)
        return found[1] if found else ""

    @property
    def gpu(self) -> bool:
        """Whether a GPU was measured."""
        return any(re.search(r"--device[ =]gpu\b", each) for each in self.commands)

    @property
    def candidates(self) -> list[str]:
        """Who was timed or refused, ours first."""
        names = dict.fromkeys(
            name for row in self.rows for name in (*row["seconds"], *row.get("refusals", {}))
        )
        known = [name for name in CANDIDATES if name in names]
        return known + [name for name in names if name not in known]

    def versions(self, candidate: str) -> dict[str, str]:
        """What a candidate ran on, by name; empty where it does not say."""
        timings = (row["seconds"].get(candidate, {}) for row in self.rows)
        inside = (timing["versions"] for timing in timings if "versions" in timing)
        return self.told.get("versions", {}).get(candidate) or next(inside, {})

    @property
    def jax(self) -> str:
        """The version of jax that ours ran on, "" where none is told."""
        told = (self.versions(name).get("jax", "") for name in self.candidates if own(name))
        return next(filter(None, told), "")

    @property
    def jax_numbers(self) -> tuple[int, ...]:
        """The version of jax as numbers, to be compared; () where none is told."""
        return tuple(map(int, re.findall(r"\d+", self.jax)))


def own(candidate: str) -> bool:
    """Whether a candidate is one of ours, rather than a peer."""
    return candidate.startswith("ours") or candidate == "triton"


def key(record: Record, row: Row) -> tuple[Any, ...]:
    """What tells a row from every other of its file."""
    return tuple(row.get(name, "float32") for name in KEYS[record.kind])


def read(path: Path) -> Record:
    """A file of results.

    Raises:
      RecordError: there is none, or it does not hold what it should.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{path}: expected a file of results: {error.strerror}") from None
    except ValueError as error:
        raise RecordError(f"{path}: expected JSON: {error}") from None
    if not isinstance(told, dict):
        raise RecordError(f"{path}: expected a JSON object, got a {type(told).__name__}")
    record = Record(path, _kind(path, told), told)
    if record.kind in KEYS:
        _check(record)
    return record


def read_all(folder: Path) -> list[Record]:
    """All files of results in a folder: the newest jax first, then what is about no part."""
    if not folder.is_dir():
        raise RecordError(f"{folder}: expected a folder of results")
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    kept = [record for record in found if record.kind in KEYS]
    kept.sort(key=lambda record: record.part)
    return sorted(kept, key=lambda record: record.jax_numbers, reverse=True)


def _kind(path: Path, told: Mapping[str, Any]) -> str:
    """The kind of benchmark, which older files tell only in their command."""
    command = told.get("command", "")
    first = command[0] if isinstance(command, list) and command else command
    found = re.search(r"-m benchmarks\.(\w+)", first) if isinstance(first, str) else None
    kind = told.get("benchmark") or (found and found[1]) or ("arch" in told and "gpu_code")
    if kind not in (*KEYS, *ELSEWHERE):
        known = ", ".join((*KEYS, *ELSEWHERE))
        raise RecordError(f"{path}: expected a benchmark of these: {known}; got {kind or 'none'!r}")
    if kind == "models" and _mapping(told.get("options")).get("layers"):
        return "layers"
    return str(kind)


def _check(record: Record) -> None:
    """Raises RecordError where something is missing or no figure."""
    where = f"{record.path}, a benchmark of {record.kind}"
    _expect(where, record.told, {"device": str, "command": (str, list), "rows": list})
    if not all(isinstance(command, str) for command in record.commands):
        raise RecordError(f"{where}: expected commands as strings, got {record.told['command']!r}")
    if record.kind == "operators":
        _expect(where, record.told, {"summary": list})
        for number, line in enumerate(record.told["summary"]):
            _expect(f"{where}, summary[{number}]", _mapping(line), _SUMMARY)
    if any("rehearsal" in command for command in record.commands):
        raise RecordError(f"{where}: expected measurements, got those of a rehearsal")
    if not record.rows:
        raise RecordError(f"{where}: expected at least one row")
    required = [name for name in KEYS[record.kind] if name != "dtype"]
    seen = set()
    for number, row in enumerate(record.rows):
        place = f"{where}, rows[{number}]"
        if not isinstance(row, Mapping):
            raise RecordError(f"{place}: expected an object, got {row!r}")
        _expect(place, row, {**dict.fromkeys(required, object), "seconds": dict})
        _expect(place, row, {name: kind for name, kind in _OPTIONAL.items() if name in row})
        for name, timing in row["seconds"].items():
            _timing(f"{place}['seconds'][{name!r}]", timing)
        if (this := key(record, row)) in seen:
            raise RecordError(f"{place}: expected each row once, got {this} again")
        seen.add(this)


def _timing(place: str, timing: Any) -> None:
    figures = [_mapping(timing).get(name, math.nan) for name in ("lower", "median", "upper")]
    numbers = [each for each in figures if isinstance(each, int | float) and 0 < each < math.inf]
    if len(numbers) < 3 or numbers != sorted(numbers):
        raise RecordError(f"{place}: expected 0 < lower ≤ median ≤ upper seconds, got {timing!r}")


def _expect(place: str, told: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    for name, kind in fields.items():
        if name not in told:
            raise RecordError(f"{place}: expected {name!r}, got only {_listed(told)}")
        if not isinstance(told[name], kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            expected = " or ".join(each.__name__ for each in kinds)
            raise RecordError(f"{place}: expected {name!r} as {expected}, got {told[name]!r}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"


def _mapping(what: Any) -> Mapping[str, Any]:
    return what if isinstance(what, Mapping) else {}
