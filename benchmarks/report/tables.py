"""The tables of `benchmarks/README.md`, in Markdown, from the files of results."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.report.records import Record, Row
from benchmarks.report.targets import verdicts

Column = tuple[str, Callable[[Row], str]]

# What a run may vary, in the order of its columns.
SETTINGS = ("batch", "size", "dtype", "devices")


def models(record: Record) -> list[str]:
    """A row for each model (or layer) and pass: everybody's time, targets, limit, costs."""
    varying, fixed = settings(record.rows)
    judged = [(row, verdict) for row in record.rows for verdict in verdicts(record, row)]
    columns: list[Column] = [
        (record.kind.removesuffix("s"), lambda row: row["model"]),
        ("pass", lambda row: row["pass"]),
        *((name, _plain(name)) for name in varying),
    ]
    words = len(columns)
    columns += [(f"{name}, ms", _timed(name)) for name in record.candidates]
    if {"ours", "torch"} <= {*record.candidates}:
        columns.append(("ours / torch", lambda row: digits(ratio(row, "ours", "torch"))))
    if any(verdict.what == "ours / torch" for _, verdict in judged):
        columns.append(("target", lambda row: _target(record, row)))
    columns.append(("limit, ms", lambda row: digits(1e3 * (row.get("limit") or math.nan))))
    for field, unit, scale in (("compile", "s", 1), ("peak", "MB", 1e-6)):
        told = {name for row in record.rows for name in row.get(field, {})}
        if names := [name for name in record.candidates if name in told]:
            columns.append((f"{field}, {unit}: {' / '.join(names)}", _each(field, names, scale)))
    missed = [
        f"- {row['model']}, {row['pass']}: {verdict.what} {verdict.words}"
        for row, verdict in judged
        if not verdict.reached
    ]
    return [
        *_heading(record, fixed),
        *_table(columns, record.rows, words),
        *_targets(len(judged), missed),
        *_refusals(record),
    ]


def scaling(record: Record) -> list[str]:
    """A table for each thing that grows: milliseconds at each of its values, and the exponent."""
    out = _heading(record, [])
    for axis, rows in by_axis(record.rows).items():
        values = sorted({row["value"] for row in rows})
        _, fixed = settings(rows)
        columns: list[Column] = [
            ("model", lambda line: line["model"]),
            ("pass", lambda line: line["pass"]),
            ("who", lambda line: line["who"]),
            *((f"{axis} {value}", _timed(value)) for value in values),
            ("exponent", lambda line: slope(line["exponent"])),
        ]
        if any(row.get("marginal") for row in rows):
            columns.append(("ms a further image", lambda line: digits(1e3 * line["marginal"])))
        body = [
            {
                **dict(zip(("model", "pass", "who"), names, strict=True)),
                "seconds": {row["value"]: row["seconds"][names[-1]] for row in line},
                "exponent": exponent(line, names[-1]),
                "marginal": line[0].get("marginal", {}).get(names[-1], math.nan),
            }
            for names, line in lines(rows).items()
        ]
        title = f"Milliseconds against {axis}"
        out += [f"{title} ({', '.join(fixed)}):" if fixed else f"{title}:", ""]
        out += [*_table(columns, body, words=3), ""]
    return [*out[:-1], *_refusals(record)]


def operators(record: Record) -> list[str]:
    """How many times as fast as each peer, by operator and pass: geometric means, and the worst."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    summary = record.told["summary"]
    kinds = ["op", "pass", *["dtype"] * any("dtype" in line for line in summary)]
    pairs = []
    for line in summary:
        pairs.append(pair := f"{line['of']}, beside {line['peer']}")
        cell = f"{digits(line['times_as_fast'])} ({digits(line['worst'])})"
        rows.setdefault(tuple(line.get(kind, "–") for kind in kinds), {})[pair] = cell
    body = [{**dict(zip(kinds, names, strict=True)), **row} for names, row in rows.items()]
    columns = [(name, _plain(name)) for name in (*kinds, *dict.fromkeys(pairs))]
    return [*_heading(record, []), *_table(columns, body, len(kinds))]


def by_axis(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of a scaling, by what grows."""
    out: dict[str, list[Row]] = {}
    for row in rows:
        out.setdefault(row["axis"], []).append(row)
    return out


def lines(rows: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """The rows of each model, pass and candidate that was timed, by the value that grows."""
    out: dict[tuple[str, str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["value"]):
        for name in row["seconds"]:
            out.setdefault((row["model"], row["pass"], name), []).append(row)
    return out


def exponent(line: Sequence[Row], candidate: str) -> float:
    """How a candidate's time grows: the slope between logarithms by least squares, NaN of one."""
    if len(line) < 2:
        return math.nan
    x = [math.log(row["value"]) for row in line]
    y = [math.log(row["seconds"][candidate]["median"]) for row in line]
    return statistics.linear_regression(x, y).slope


def ratio(row: Row, one: str, other: str) -> float:
    """One candidate's median over another's; NaN where either was not timed."""
    seconds = row["seconds"]
    if one not in seconds or other not in seconds:
        return math.nan
    return seconds[one]["median"] / seconds[other]["median"]


def digits(figure: float) -> str:
    """Three significant digits of what is not negative, a dash for NaN."""
    return "–" if math.isnan(figure) else f"{figure:.{_places(figure)}f}"


def slope(figure: float) -> str:
    """An exponent, of any sign; a dash for NaN."""
    return "–" if math.isnan(figure) else f"{figure:.2f}".replace("-", "−")


def milliseconds(timing: Row) -> str:
    """A timing's median, ± half the range between its quartiles."""
    median, spread = 1e3 * timing["median"], 500 * (timing["upper"] - timing["lower"])
    places = _places(median)
    return f"{median:.{places}f} ± {spread:.{places}f}"


def _places(figure: float) -> int:
    return max(0, 2 - math.floor(math.log10(figure))) if figure > 0 else 0


def _plain(name: str) -> Callable[[Row], str]:
    return lambda row: str(row.get(name, "–"))


def _timed(candidate: Any) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        return milliseconds(row["seconds"][candidate]) if candidate in row["seconds"] else "–"

    return cell


def _each(field: str, names: Sequence[str], scale: float) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        told = row.get(field, {})
        return " / ".join(digits(scale * (told.get(name) or math.nan)) for name in names)

    return cell


def _target(record: Record, row: Row) -> str:
    """How a row stands to its target beside PyTorch, where it has one; bold where reached."""
    for verdict in verdicts(record, row):
        if verdict.what == "ours / torch":
            return f"**{verdict.words}**" if verdict.reached else verdict.words
    return ""


def _targets(count: int, missed: Sequence[str]) -> list[str]:
    """How many targets are reached, and which are not."""
    if not count:
        return []
    reached = f"Targets reached: {count - len(missed)} of {count}."
    return ["", f"{reached} Missed:", "", *missed] if missed else ["", reached]


def settings(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """The names of the settings that vary from row to row, and the others with their values."""
    values = {name: {row.get(name) for row in rows} - {None} for name in SETTINGS}
    varying = [name for name, each in values.items() if len(each) > 1]
    fixed = [f"{name} {each.pop()}" for name, each in values.items() if len(each) == 1]
    return varying, fixed


def _heading(record: Record, fixed: Sequence[str]) -> list[str]:
    """What was measured, where and how it is repeated; a blank line after it."""
    versions = dict.fromkeys(
        f"{library} {version}"
        for name in record.candidates
        for library, version in record.versions(name).items()
        if library in ("jax", "torch")
    )
    part = f" ({record.part})" if record.part else ""
    title = f"### {record.kind.capitalize()}{part}, jax {record.jax or 'unknown'}"
    about = [record.told["device"], *versions, *fixed]
    for field, words, unit in (("bandwidth", "copy", "GB/s"), ("rate", "product", "GFLOP/s")):
        if told := record.told.get(field):
            each = told if isinstance(told, list) else [told]
            about.append(f"{words} {', '.join(digits(rate / 1e9) for rate in each)} {unit}")
    if commit := record.told.get("commit"):
        about += [f"commit {commit}"]
    commands = [f"`{command}`" for command in record.commands]
    return [title, "", "; ".join(about) + ".", *commands, ""]


def _refusals(record: Record) -> list[str]:
    """Who could not do what, and why, below a table."""
    told = dict.fromkeys(
        f"- {row.get('model')}, {row['pass']}: {name} was not timed: {reason}"
        for row in record.rows
        for name, reason in row.get("refusals", {}).items()
    )
    return ["", *told] if told else []


def _table(columns: Sequence[Column], rows: Sequence[Row], words: int) -> list[str]:
    """Markdown; the first `words` columns are set to the left, figures to the right."""
    rule = ["---"] * words + ["--:"] * (len(columns) - words)
    body = [[cell(row) for _, cell in columns] for row in rows]
    titles = [title for title, _ in columns]
    return [f"| {' | '.join(cells)} |" for cells in (titles, rule, *body)]
