"""Markdown of tables, and of the figures in them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# A title, and the text of a row's cell.
Column = tuple[str, Callable[[Mapping[str, Any]], str]]


def format_table(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], left: int
) -> list[str]:
    """Lines of a table; the first `left` columns are aligned left, the others right."""
    alignment = ["---"] * left + ["--:"] * (len(columns) - left)
    body = [[cell(row) for _, cell in columns] for row in rows]
    titles = [title for title, _ in columns]
    return [f"| {' | '.join(cells)} |" for cells in (titles, alignment, *body)]


def text_column(name: str) -> Column:
    """A column of a row's field as it is; a dash where it is missing."""
    return name, lambda row: str(row.get(name, "–"))


def format_number(figure: float) -> str:
    """Three significant digits of a number that is not negative; a dash for NaN."""
    return "–" if math.isnan(figure) else f"{figure:.{_count_decimals(figure)}f}"


def format_rate(images: float | None) -> str:
    """Images a second; a dash where they were not measured."""
    return "–" if images is None else f"{images:,.0f}"


def format_exponent(figure: float) -> str:
    """An exponent of any sign; a dash for NaN."""
    return "–" if math.isnan(figure) else f"{figure:.2f}".replace("-", "−")


def format_milliseconds(timing: Mapping[str, Any]) -> str:
    """A timing's median, ± half the range between its quartiles."""
    median, spread = 1e3 * timing["median"], 500 * (timing["upper"] - timing["lower"])
    decimals = _count_decimals(median)
    return f"{median:.{decimals}f} ± {spread:.{decimals}f}"


def milliseconds_of(name: str) -> Callable[[Mapping[str, Any]], str]:
    """A column's cells: a candidate's milliseconds, a dash where it has none."""

    def format_cell(row: Mapping[str, Any]) -> str:
        return format_milliseconds(row["seconds"][name]) if name in row["seconds"] else "–"

    return format_cell


def bold(text: str, reached: bool) -> str:
    """A text, bold where a target is reached."""
    return f"**{text}**" if reached else text


def geometric_mean(figures: Sequence[float]) -> float:
    """Of positive numbers."""
    return math.exp(math.fsum(map(math.log, figures)) / len(figures))


def _count_decimals(figure: float) -> int:
    return max(0, 2 - math.floor(math.log10(figure))) if figure > 0 else 0
