"""The README's table of training speed, from the files of results."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.report.markdown import format_number, format_rate, format_table, text_column
from benchmarks.report.records import Record, RecordError

README = Path(__file__).parent.parent.parent / "README.md"
# The files of results: a CPU beside PyTorch, the same beside flax, and a GPU beside PyTorch.
CPU, FLAX, GPU = "models-cpu-jax0.12.json", "models-cpu-flax-jax0.12.json", "h200-jax0.11.json"


def format_readme_parts(records: Iterable[Record]) -> dict[str, str]:
    """The generated parts of the README, by name.

    Raises:
      RecordError: one of the three files of results is missing.
    """
    by_name = {record.path.name: record for record in records}
    for name in (CPU, FLAX, GPU):
        if name not in by_name:
            raise RecordError(f"README.md: expected {name} among the files of results")
    return {"speed": "\n".join(_format_speed(*(by_name[name] for name in (CPU, FLAX, GPU))))}


def _format_speed(cpu: Record, flax: Record, gpu: Record) -> list[str]:
    beside_flax = {row["model"]: row for row in flax.rows}
    on_gpu = {row["model"]: row for row in gpu.content["training"]["rows"]}
    rows = [
        {
            "model": row["model"],
            "CPU: ours, ms": _format_milliseconds(row, "ours"),
            "flax, ms": _format_milliseconds(beside_flax.get(row["model"]), "flax"),
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
        f"(compiled, channels_last). Medians; flax was timed in a run of its own.",
    ]


def _format_milliseconds(row: Mapping[str, Any] | None, candidate: str) -> str:
    seconds = row["seconds"].get(candidate) if row else None
    return "not timed" if seconds is None else f"{1e3 * seconds['median']:,.0f}"


def _format_ratio(row: Mapping[str, Any]) -> str:
    ours, torch = row["ours"], row["torch_compiled"]
    return format_number(ours / torch) if ours and torch else "–"
