"""Tables of models, layers, scaling and operators, in Markdown."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.report.growth import fit_exponent, group_by_axis, group_by_line
from benchmarks.report.markdown import (
    Column,
    format_exponent,
    format_milliseconds,
    format_number,
    format_table,
    text_column,
)
from benchmarks.report.records import Record, ResultRow
from benchmarks.report.targets import TIME_RATIO, check_targets

# What a run may vary, in the order of its columns.
SETTINGS = ("batch", "size", "dtype", "devices")


def format_models(record: Record) -> list[str]:
    """A row for each model (or layer) and pass: every candidate's time, targets, limit, costs."""
    varying, fixed = split_settings(record.rows)
    checks = [(row, check) for row in record.rows for check in check_targets(record, row)]
    columns: list[Column] = [
        (record.kind.removesuffix("s"), lambda row: row["model"]),
        *map(text_column, ("pass", *varying)),
    ]
    left = len(columns)
    columns += [(f"{name}, ms", _milliseconds_of(name)) for name in record.candidates]
    if {"ours", "torch"} <= {*record.candidates}:
        columns.append(("ours / torch", lambda row: format_number(time_ratio(row, "torch"))))
    if any(check.name == TIME_RATIO for _, check in checks):
        columns.append(("target", lambda row: _format_target(record, row)))
    columns.append(("limit, ms", lambda row: format_number(1e3 * (row.get("limit") or math.nan))))
    for field, unit, scale in (("compile", "s", 1), ("peak", "MB", 1e-6)):
        measured = {name for row in record.rows for name in row.get(field, {})}
        if names := [name for name in record.candidates if name in measured]:
            title = f"{field}, {unit}: {' / '.join(names)}"
            columns.append((title, _figures_of(field, names, scale)))
    missed = [
        f"- {row['model']}, {row['pass']}: {check.name} {check.text}"
        for row, check in checks
        if not check.reached
    ]
    return [
        *format_heading(record, fixed),
        *format_table(columns, record.rows, left),
        *summarize_targets(len(checks), missed),
        *list_refusals(record),
    ]


def format_scaling(record: Record) -> list[str]:
    """A table for each axis: milliseconds at each of its values, and the exponent."""
    text = format_heading(record, [])
    for axis, rows in group_by_axis(record.rows).items():
        values = sorted({row["value"] for row in rows})
        _, fixed = split_settings(rows)
        columns: list[Column] = [
            *map(text_column, ("model", "pass", "candidate")),
            *((f"{axis} {value}", _milliseconds_of(value)) for value in values),
            ("exponent", lambda line: format_exponent(line["exponent"])),
        ]
        if any(row.get("marginal") for row in rows):
            title = "ms an extra image"
            columns.append((title, lambda line: format_number(1e3 * line["marginal"])))
        lines = [
            {
                "model": model,
                "pass": pass_name,
                "candidate": candidate,
                "seconds": {row["value"]: row["seconds"][candidate] for row in line},
                "exponent": fit_exponent(line, candidate),
                "marginal": line[0].get("marginal", {}).get(candidate, math.nan),
            }
            for (model, pass_name, candidate), line in group_by_line(rows).items()
        ]
        title = f"Milliseconds against {axis}"
        text += [f"{title} ({', '.join(fixed)}):" if fixed else f"{title}:", ""]
        text += [*format_table(columns, lines, left=3), ""]
    return [*text[:-1], *list_refusals(record)]


def format_operators(record: Record) -> list[str]:
    """How many times as fast as each peer, by operator and pass: geometric mean and worst case."""
    summary = record.content["summary"]
    fields = ["op", "pass", *["dtype"] * any("dtype" in line for line in summary)]
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    pairs = []
    for line in summary:
        pairs.append(pair := f"{line['of']}, beside {line['peer']}")
        cell = f"{format_number(line['times_as_fast'])} ({format_number(line['worst'])})"
        rows.setdefault(tuple(line.get(field, "–") for field in fields), {})[pair] = cell
    body = [{**dict(zip(fields, group, strict=True)), **cells} for group, cells in rows.items()]
    columns = [text_column(name) for name in (*fields, *dict.fromkeys(pairs))]
    return [*format_heading(record, []), *format_table(columns, body, len(fields))]


def format_operator_cases(record: Record) -> list[str]:
    """Every case of the operators: each candidate's median milliseconds, by pass."""
    candidates = record.candidates
    cases: dict[tuple[str, ...], dict[str, str]] = {}
    for row in record.rows:
        medians = (row["seconds"].get(name, {}).get("median", math.nan) for name in candidates)
        cell = " / ".join(format_number(1e3 * median) for median in medians)
        key = tuple(row.get(field, "float32") for field in ("op", "case", "dtype"))
        cases.setdefault(key, {})[row["pass"]] = cell
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}  # cases with the same passes
    for (op, case, dtype), cells in cases.items():
        groups.setdefault(tuple(cells), []).append(
            {"op": op, "case": case, "dtype": dtype, **cells}
        )
    text = [
        f"### Operators case by case, jax {record.jax or 'unknown'}",
        "",
        f"Milliseconds: {' / '.join(candidates)}.",
    ]
    fields = ["op", "case", *["dtype"] * any("dtype" in row for row in record.rows)]
    for passes, rows in groups.items():
        columns = [text_column(name) for name in (*fields, *passes)]
        text += ["", *format_table(columns, rows, len(fields))]
    return text


def format_heading(record: Record, fixed: Sequence[str]) -> list[str]:
    """Title, machine, versions, fixed settings, and commands that repeat it; a blank line after."""
    versions = dict.fromkeys(
        f"{library} {version}"
        for name in record.candidates
        for library, version in record.versions(name).items()
        if library in ("jax", "torch", "onnxruntime")
    )
    topic = f" ({record.topic})" if record.topic else ""
    title = f"### {record.kind.capitalize()}{topic}, jax {record.jax or 'unknown'}"
    about = [record.content["device"], *versions, *fixed]
    for field, name, unit in (("bandwidth", "copy", "GB/s"), ("rate", "product", "GFLOP/s")):
        if rates := record.content.get(field):
            rates = rates if isinstance(rates, list) else [rates]
            about.append(f"{name} {', '.join(format_number(rate / 1e9) for rate in rates)} {unit}")
    if commit := record.content.get("commit"):
        about.append(f"commit {commit}")
    commands = [f"`{command}`" for command in record.commands]
    return [title, "", "; ".join(about) + ".", *commands, ""]


def split_settings(rows: Sequence[ResultRow]) -> tuple[list[str], list[str]]:
    """(names of the settings that vary from row to row, the others with their values)."""
    values = {name: {row.get(name) for row in rows} - {None} for name in SETTINGS}
    varying = [name for name, each in values.items() if len(each) > 1]
    fixed = [f"{name} {each.pop()}" for name, each in values.items() if len(each) == 1]
    return varying, fixed


def time_ratio(row: ResultRow, peer: str) -> float:
    """Our median over a peer's; NaN where either was not timed."""
    seconds = row["seconds"]
    if "ours" not in seconds or peer not in seconds:
        return math.nan
    return seconds["ours"]["median"] / seconds[peer]["median"]


def _milliseconds_of(name: Any) -> Callable[[ResultRow], str]:
    def format_cell(row: ResultRow) -> str:
        return format_milliseconds(row["seconds"][name]) if name in row["seconds"] else "–"

    return format_cell


def _figures_of(field: str, names: Sequence[str], scale: float) -> Callable[[ResultRow], str]:
    def format_cell(row: ResultRow) -> str:
        figures = row.get(field, {})
        return " / ".join(format_number(scale * (figures.get(name) or math.nan)) for name in names)

    return format_cell


def _format_target(record: Record, row: ResultRow) -> str:
    """A row's target beside PyTorch, if it has one; bold where it is reached."""
    for check in check_targets(record, row):
        if check.name == TIME_RATIO:
            return f"**{check.text}**" if check.reached else check.text
    return ""


def summarize_targets(count: int, missed: Sequence[str]) -> list[str]:
    """How many targets are reached, and a list of those that are not."""
    if not count:
        return []
    reached = f"Targets reached: {count - len(missed)} of {count}."
    return ["", f"{reached} Missed:", "", *missed] if missed else ["", reached]


def list_refusals(record: Record) -> list[str]:
    """The candidates that were not timed, and why."""
    refusals = dict.fromkeys(
        f"- {row.get('model')}, {row.get('pass') or row['mode']}: {name} was not timed: {reason}"
        for row in record.rows
        for name, reason in row.get("refusals", {}).items()
    )
    return ["", *refusals] if refusals else []
