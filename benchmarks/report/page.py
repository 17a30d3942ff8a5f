"""Writes the generated parts of Markdown pages, and the plots beside the results."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from benchmarks.report import (
    detection_tables,
    gpu_tables,
    latency_tables,
    serving_tables,
    style_tables,
    tables,
    task_tables,
    training_tables,
    visualize_tables,
)
from benchmarks.report.records import Record, RecordError

PAGE = Path(__file__).parent.parent / "README.md"
NO_GPU_RESULTS = "No results with `--device gpu` yet."

# Kinds of benchmark that have a plot, and its description.
PLOTS = {
    "models": "Ours over each peer",
    "layers": "Ours over each peer",
    "scaling": "Time against what grows",
}
# The table of each kind of benchmark that has timings by candidate.
TABLES: dict[str, Callable[[Record], list[str]]] = {
    "models": tables.format_models,
    "layers": tables.format_models,
    "scaling": tables.format_scaling,
    "latency": latency_tables.format_latency,
    "operators": tables.format_operators,
    "training": training_tables.format_training,
    "visualize": visualize_tables.format_visualize,
    "style": style_tables.format_style,
    "detection": detection_tables.format_detection,
}
# Generated parts of the page: the kind of benchmark, and the table of one of its files.
PARTS: dict[str, tuple[str, Callable[[Record], list[str]]]] = {
    **{kind: (kind, table) for kind, table in TABLES.items()},
    "operator-cases": ("operators", tables.format_operator_cases),
    "classify": ("classify", task_tables.format_classify),
    "serving": ("serving", serving_tables.format_serving),
    "weights": ("weights", task_tables.format_weights),
    "style-quality": ("style_quality", style_tables.format_quality),
    "gpu-training": ("gpu_survey", gpu_tables.format_training),
    "gpu-operators": ("gpu_survey", gpu_tables.format_survey_summary),
    "gpu-operator-cases": ("gpu_survey", gpu_tables.format_survey_cases),
    "gpu-model": ("gpu_model", gpu_tables.format_gpu_model),
}
# The part for benchmarks of every kind that ran with `--device gpu`.
GPU_PART = "gpu"


def format_parts(records: Iterable[Record]) -> dict[str, str]:
    """The generated parts of the page, by name."""
    records = list(records)
    sections = {
        name: [
            format_section(record, table, plot=name == kind)
            for record in records
            if record.kind == kind and not record.gpu
        ]
        or [f"No results of {kind} yet."]
        for name, (kind, table) in PARTS.items()
    }
    sections[GPU_PART] = [
        format_section(record, TABLES[record.kind], plot=True) for record in records if record.gpu
    ] or [NO_GPU_RESULTS]
    return {name: "\n\n".join(each) for name, each in sections.items()}


def format_section(record: Record, table: Callable[[Record], list[str]], plot: bool) -> str:
    """A file's heading, table and, if it has one, the link to its plot."""
    lines = table(record)
    if plot and record.kind in PLOTS:
        lines += ["", f"![{PLOTS[record.kind]}](results/{plot_path(record).name})"]
    return "\n".join(lines)


def plot_path(record: Record) -> Path:
    """The path of a file's plot."""
    return record.path.with_suffix(".svg")


def fill_page(path: Path, parts: Mapping[str, str]) -> str:
    """A page's text with its generated parts replaced.

    Raises:
      RecordError: the page cannot be read, or a part's markers are missing.
    """
    page = _read_page(path)
    for name, text in parts.items():
        begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
        found = re.search(f"{re.escape(begin)}\n.*?{re.escape(end)}", page, re.DOTALL)
        if found is None:
            raise RecordError(f"{path.name}: expected {begin} on a line, and {end} on one below it")
        before, after = page[: found.start()], page[found.end() :]
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    return page


def draw_plot(record: Record) -> None:
    """Writes a file's plot."""
    from benchmarks.report import plots

    plot = plots.plot_growth if record.kind == "scaling" else plots.plot_ratios
    plot(record, plot_path(record))


def write_pages(pages: Mapping[Path, Mapping[str, str]], records: list[Record]) -> None:
    """Writes pages, given by their paths and generated parts, and the plots."""
    texts = {path: fill_page(path, parts) for path, parts in pages.items()}
    for record in _with_plot(records):
        draw_plot(record)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")


def find_stale(pages: Mapping[Path, Mapping[str, str]], records: list[Record]) -> list[str]:
    """Pages whose generated parts are not up to date, and the names of missing plots."""
    stale = [
        str(path) for path, parts in pages.items() if fill_page(path, parts) != _read_page(path)
    ]
    plots = map(plot_path, _with_plot(records))
    return stale + [plot.name for plot in plots if not plot.exists()]


def _with_plot(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.kind in PLOTS]


def _read_page(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{path}: expected a page to fill in: {error.strerror}") from None
