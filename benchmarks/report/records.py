"""Reads the JSON files of results, and checks that they hold what the tables need."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# A row of figures as it stands in a file of results.
ResultRow = Mapping[str, Any]

RESULTS = Path(__file__).parent.parent / "results"

_MODEL = ("model", "pass", "batch", "size", "dtype")
# Kinds of benchmark whose rows hold timings by candidate, and the fields that identify a row in its
# file. Without a dtype it is float32.
ROW_KEYS = {
    "models": _MODEL,
    "layers": _MODEL,
    "scaling": ("model", "pass", "axis", "value", "batch", "size", "devices", "dtype"),
    "latency": ("model", "batch", "size", "mode"),
    "operators": ("op", "case", "pass", "dtype"),
    "training": ("case", "batch"),
    "visualize": ("model", "method"),
    "style": ("workload",),
    "detection": ("model", "work", "batch"),
}
# Topics of the benchmark of training whose rows have a ratio of two candidates' seconds.
COMPARED_TOPICS = ("loop", "input")
# What files of other kinds hold. A "gpu_survey" is a run on a GPU outside of these benchmarks.
_COMMAND: Mapping[str, Any] = {"device": str, "command": (str, list)}
_CONTENT: Mapping[str, Mapping[str, Any]] = {
    "classify": {**_COMMAND, "start_s": dict, "batch": int, "seconds_a_batch": dict},
    "serving": {
        **dict.fromkeys(("device", "command", "commit", "model", "jax"), str),
        "versions": dict,
        "rows": list,
    },
    "weights": {**_COMMAND, "seconds_warm": dict, "seconds_cold": dict, "peak_bytes": dict},
    "style_quality": {**_COMMAND, "commit": str, "judge": str, "versions": dict, "rows": list},
    "gpu_model": {"arch": int, "jax": str, "rows": list},
    "gpu_calibration": {"arch": int, "jax": str, "measured": list, "rows": list},
    "gpu_survey": {
        **dict.fromkeys(("device", "jax", "torch", "method"), str),
        "copy_bytes_per_s": (int, float),
        "rows": list,
        "training": dict,
    },
}
KINDS = (*ROW_KEYS, *_CONTENT)
_SUMMARY: Mapping[str, Any] = {
    **dict.fromkeys(("op", "pass", "of", "peer"), str),
    **dict.fromkeys(("times_as_fast", "worst"), (int, float)),
}
# What a row may have besides its key and seconds.
_OPTIONAL: Mapping[str, Any] = {
    "limit": (int, float, type(None)),
    **dict.fromkeys(("compile", "peak", "refusals", "versions"), dict),
}
# What a timing of single calls has besides its quartiles.
_PERCENTILES: Mapping[str, Any] = {"p90": float, "p99": float, "count": int}
# The order of candidates in tables; any other comes after these.
CANDIDATES = (
    *("ours", "ours, native", "ours, compiled", "ours, options", "ours, plain jit", "triton"),
    *("flax", "lax", "torch", "onnxruntime"),
)


class RecordError(ValueError):
    """A file does not hold what it should; the message names it and says what was expected."""


class Record(NamedTuple):
    """A file of results.

    Args:
      path: of the file.
      kind: of benchmark, one of `KINDS`.
      content: all that it holds.
    """

    path: Path
    kind: str
    content: Mapping[str, Any]

    @property
    def rows(self) -> list[ResultRow]:
        """The rows of figures."""
        return self.content["rows"]

    @property
    def commands(self) -> list[str]:
        """Commands that repeat it; several where a file joins several runs, none of a survey."""
        command = self.content.get("command", [])
        return [command] if isinstance(command, str) else list(command)

    @property
    def topic(self) -> str:
        """What tells files of a kind apart: "peers" in `models-cpu-peers-jax0.12.json`."""
        found = re.match(r"\w+-\w+-(\w+)-jax", self.path.name)
        return found[1] if found else ""

    @property
    def gpu(self) -> bool:
        """Whether a benchmark ran on a GPU."""
        return any(re.search(r"--device[ =]gpu\b", each) for each in self.commands)

    @property
    def candidates(self) -> list[str]:
        """The candidates that were timed or refused, ours first."""
        names = dict.fromkeys(
            name for row in self.rows for name in (*row["seconds"], *row.get("refusals", {}))
        )
        ordered = [name for name in CANDIDATES if name in names]
        return ordered + [name for name in names if name not in ordered]

    def versions(self, candidate: str) -> dict[str, str]:
        """Versions of what a candidate ran on, by name; empty if they were not recorded."""
        timings = (row["seconds"].get(candidate, {}) for row in self.rows)
        row_versions = (timing["versions"] for timing in timings if "versions" in timing)
        return self.content.get("versions", {}).get(candidate) or next(row_versions, {})

    @property
    def about(self) -> str:
        """A sentence: the device, the versions of what was timed, and the commit."""
        versions = dict.fromkeys(
            f"{package} {version}"
            for name in self.candidates
            for package, version in self.versions(name).items()
        )
        commit = f"commit {self.content['commit']}"
        return "; ".join([self.content["device"], *versions, commit]) + "."

    def heading(self, title: str) -> list[str]:
        """The first lines of its section: a title, what it is of, and commands that repeat it."""
        return [f"### {title}", "", self.about, *(f"`{command}`" for command in self.commands)]

    @property
    def jax(self) -> str:
        """The version of jax that ours ran on; empty if it was not recorded."""
        if self.kind == "classify":
            versions = _as_mapping(self.content["seconds_a_batch"].get("jax-zoo")).get("versions")
            return str(_as_mapping(versions).get("jax", ""))
        if self.kind not in ROW_KEYS:
            versions = _as_mapping(self.content.get("versions"))
            return str(self.content.get("jax") or versions.get("jax", ""))
        found = (self.versions(name).get("jax", "") for name in self.candidates if is_ours(name))
        return next(filter(None, found), "")

    @property
    def jax_numbers(self) -> tuple[int, ...]:
        """The version of jax as numbers that can be compared; () if it was not recorded."""
        return tuple(map(int, re.findall(r"\d+", self.jax)))


def is_ours(candidate: str) -> bool:
    """Whether a candidate is the zoo's, not a peer."""
    return candidate.startswith("ours") or candidate == "triton"


def row_key(record: Record, row: ResultRow) -> tuple[Any, ...]:
    """The values that identify a row in its file."""
    return tuple(row.get(name, "float32") for name in ROW_KEYS[record.kind])


def read_record(path: Path) -> Record:
    """Reads a file of results.

    Raises:
      RecordError: there is none, or it does not hold what it should.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{path}: expected a file of results: {error.strerror}") from None
    except ValueError as error:
        raise RecordError(f"{path}: expected JSON: {error}") from None
    if not isinstance(content, dict):
        raise RecordError(f"{path}: expected a JSON object, got a {type(content).__name__}")
    record = Record(path, _find_kind(path, content), content)
    if record.kind in ROW_KEYS:
        _check(record)
    else:
        _expect(f"{path}, a benchmark of {record.kind}", content, _CONTENT[record.kind])
    return record


def read_folder(folder: Path) -> list[Record]:
    """Reads all files of results in a folder: the newest jax first, then those without a topic."""
    if not folder.is_dir():
        raise RecordError(f"{folder}: expected a folder of results")
    records = [read_record(path) for path in sorted(folder.glob("*.json"))]
    records.sort(key=lambda record: record.topic)
    return sorted(records, key=lambda record: record.jax_numbers, reverse=True)


def _find_kind(path: Path, content: Mapping[str, Any]) -> str:
    """The kind of benchmark, which older files name only in their command."""
    command = content.get("command", "")
    first = command[0] if isinstance(command, list) and command else command
    found = re.search(r"-m benchmarks\.(?:\w+\.)*(\w+)", first) if isinstance(first, str) else None
    kind = content.get("benchmark") or (found and found[1]) or ("arch" in content and "gpu_model")
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise RecordError(f"{path}: expected a benchmark of these: {known}; got {kind or 'none'!r}")
    if kind == "models" and _as_mapping(content.get("options")).get("layers"):
        return "layers"
    return str(kind)


def _check(record: Record) -> None:
    """Raises RecordError where a timing, or what describes it, is missing or of a wrong type."""
    where = f"{record.path}, a benchmark of {record.kind}"
    _expect(where, record.content, {**_COMMAND, "rows": list})
    if not all(isinstance(command, str) for command in record.commands):
        raise RecordError(
            f"{where}: expected commands as strings, got {record.content['command']!r}"
        )
    if record.kind == "training":
        _expect(where, record.content, {"topic": str, "commit": str})
    if record.kind in ("visualize", "style", "detection"):
        _expect(where, record.content, {"commit": str})
    if record.kind == "detection":
        _expect(where, record.content, {"canvases": list})
    if record.kind == "operators":
        _expect(where, record.content, {"summary": list})
        for number, line in enumerate(record.content["summary"]):
            _expect(f"{where}, summary[{number}]", _as_mapping(line), _SUMMARY)
    if record.kind == "latency":
        for number, row in enumerate(record.content.get("starts", [])):
            _expect(f"{where}, starts[{number}]", _as_mapping(row), {"seconds": dict})
            for name, timing in row["seconds"].items():
                _check_timing(f"{where}, starts[{number}]['seconds'][{name!r}]", timing)
    if any(re.search("rehearsal|--quick", command) for command in record.commands):
        raise RecordError(f"{where}: expected measurements, got those of a rehearsal")
    if not record.rows:
        raise RecordError(f"{where}: expected at least one row")
    required = [name for name in ROW_KEYS[record.kind] if name != "dtype"]
    seen = set()
    for number, row in enumerate(record.rows):
        location = f"{where}, rows[{number}]"
        if not isinstance(row, Mapping):
            raise RecordError(f"{location}: expected an object, got {row!r}")
        _expect(location, row, {**dict.fromkeys(required, object), "seconds": dict})
        _expect(location, row, {name: kind for name, kind in _OPTIONAL.items() if name in row})
        for name, timing in row["seconds"].items():
            _check_timing(f"{location}['seconds'][{name!r}]", timing)
            if record.kind == "latency":
                _expect(f"{location}['seconds'][{name!r}]", timing, _PERCENTILES)
        if record.kind == "training" and record.content["topic"] in COMPARED_TOPICS:
            _check_timing(f"{location}['ratio']", row.get("ratio"))
        if record.kind in ("visualize", "style"):
            _expect(location, row, {"first": dict})
        if record.kind == "detection":
            _expect(location, row, {"compile": dict})
        if record.kind in ("visualize", "style", "detection") and len(row["seconds"]) > 1:
            _check_timing(f"{location}['ratio']", row.get("ratio"))
        if (key := row_key(record, row)) in seen:
            raise RecordError(f"{location}: expected each row once, got {key} again")
        seen.add(key)


def _check_timing(location: str, timing: Any) -> None:
    figures = [_as_mapping(timing).get(name, math.nan) for name in ("lower", "median", "upper")]
    valid = [each for each in figures if isinstance(each, int | float) and 0 < each < math.inf]
    if len(valid) < 3 or valid != sorted(valid):
        raise RecordError(
            f"{location}: expected 0 < lower ≤ median ≤ upper seconds, got {timing!r}"
        )


def _expect(location: str, content: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    for name, kind in fields.items():
        if name not in content:
            raise RecordError(f"{location}: expected {name!r}, got only {_list_names(content)}")
        if not isinstance(content[name], kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            expected = " or ".join(each.__name__ for each in kinds)
            raise RecordError(f"{location}: expected {name!r} as {expected}, got {content[name]!r}")


def _list_names(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"


def _as_mapping(content: Any) -> Mapping[str, Any]:
    return content if isinstance(content, Mapping) else {}
