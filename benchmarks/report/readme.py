"""The README's table of training speed, from the files of results."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.report.markdown import format_number, format_rate, format_table, text_column
from benchmarks.report.records import Record, RecordError

README = Path(__file__).parent.parent.parent / "README.md"
# The files of results: a CPU beside flax and PyTorch, in one run, and a GPU beside PyTorch.
CPU, GPU = "models-cpu-flax-jax0.12.json", "h200-jax0.11.json"


def format_readme_parts(records: Iterable[Record]) -> dict[str, str]:
    """The generated parts of the README, by name.

    Raises:
      RecordError: one of the two files of results is missing.
    """
    by_name = {record.path.name: record for record in records}
    for name in (CPU, GPU):
        if name not in by_name:
            raise RecordError(f"README.md: expected {name} among the files of results")
    return {"speed": "\n".join(_format_speed(by_name[CPU], by_name[GPU]))}


def _format_speed(cpu: Record, gpu: Record) -> list[str]:
    on_gpu = {row["model"]: row for row in gpu.content["training"]["rows"]}
    rows = [
        {
            "model": row["model"],
            "CPU: ours, ms": _format_milliseconds(row, "ours"),
            "flax, ms": _format_milliseconds(row, "flax"),
            "PyTorch, ms": _format_milliseconds(row, "torch"),
            "H200: ours, images/s": format_rate(on_gpu[row["model"]]["ours"]),
            "torch.compile, images/s": format_rate(on_gpu[row["model"]]["torch_compiled"]),
            "ours / torch.compile": _format_ratio(on_gpu[row["model"]]),
        }
        for row in cpu.rows
        if row["pass"] == "training step"
    ]
    torch = cpu.versions("torch")["torch"]
    return [
        *format_table([text_column(name) for name in rows[0]], rows, left=1),
        "",
        f"CPU: {cpu.content['device']}; jax {cpu.jax}, PyTorch {torch} (eager, channels_last). "
        f"{gpu.content['device']}: jax {gpu.content['jax']}, PyTorch {gpu.content['torch']} "
        f"(compiled, channels_last). Medians, each machine's of one run; –: not measured.",
    ]


def _format_milliseconds(row: Mapping[str, Any], candidate: str) -> str:
    seconds = row["seconds"].get(candidate)
    return "–" if seconds is None else f"{1e3 * seconds['median']:,.0f}"


def _format_ratio(row: Mapping[str, Any]) -> str:
    ours, torch = row["ours"], row["torch_compiled"]
    return format_number(ours / torch) if ours and torch else "–"
