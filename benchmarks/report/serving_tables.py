"""Tables of servers under load, in Markdown."""

from collections.abc import Callable

from benchmarks.report.markdown import Column, format_number, format_table, text_column
from benchmarks.report.records import Record, ResultRow


def format_serving(record: Record) -> list[str]:
    """A row for each number of clients and server: requests a second, latencies, what was lost."""
    content = record.content
    versions = "; ".join(
        f"{name}: {', '.join(f'{package} {version}' for package, version in each.items())}"
        for name, each in content["versions"].items()
    )
    columns: list[Column] = [
        *map(text_column, ("clients", "server")),
        ("requests a second", lambda row: format_number(row["requests_a_second"]["median"])),
        ("quartiles", _format_quartiles),
        *((f"{name}, ms", _latency_of(name)) for name in ("p50", "p90", "p99")),
        ("requests", lambda row: f"{row['requests']:,}"),
        ("lost", lambda row: str(sum(row["lost"].values()))),
    ]
    return [
        f"### Serving {content['model']}, jax {record.jax or 'unknown'}",
        "",
        f"{content['device']}; {versions}; commit {content['commit']}.",
        *(f"`{command}`" for command in record.commands),
        "",
        *format_table(columns, record.rows, left=2),
    ]


def _format_quartiles(row: ResultRow) -> str:
    rate = row["requests_a_second"]
    return f"{format_number(rate['lower'])} to {format_number(rate['upper'])}"


def _latency_of(name: str) -> Callable[[ResultRow], str]:
    """A column's cells: a percentile in milliseconds, a dash where nothing was answered."""

    def format_cell(row: ResultRow) -> str:
        seconds = row["seconds"][name]
        return "–" if seconds is None else format_number(1e3 * seconds)

    return format_cell
