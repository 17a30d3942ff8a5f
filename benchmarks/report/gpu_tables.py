"""Tables of a survey on a GPU, and of the modelled times of GPU kernels, in Markdown."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.markdown import (
    format_number,
    format_rate,
    format_table,
    geometric_mean,
    text_column,
)
from benchmarks.report.records import Record

PEERS = {"XLA": "xla_us", "PyTorch": "torch_eager_us"}


def format_training(record: Record) -> list[str]:
    """Images a second of whole models' training steps."""
    training = record.content["training"]
    rows = [
        {
            "model": row["model"],
            "ours": format_rate(row["ours"]),
            "ours without Triton": format_rate(row["ours_without_triton"]),
            "torch.compile": format_rate(row["torch_compiled"]),
            "ours / torch.compile": _format_ratio(row["ours"], row["torch_compiled"]),
        }
        for row in training["rows"]
    ]
    compiled = ", ".join(f"{name} {s}" for name, s in training["compile_seconds"].items())
    return [
        _describe(record),
        f"Images a second in a training step: {training['settings']}. {training['method']}.",
        "",
        *format_table([text_column(name) for name in rows[0]], rows, left=1),
        "",
        *[f"{note}.\n" for note in training["notes"]],
        f"Seconds to compile ours, {training['compile_method']}: {compiled}.",
    ]


def format_survey_summary(record: Record) -> list[str]:
    """How many times as fast as each peer the Triton kernels are: geometric mean, worst case."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in record.rows:
        groups.setdefault((_name_group(row), row["pass"], row["dtype"]), []).append(row)
    body = []
    for group, rows in sorted(groups.items(), key=lambda item: _sort_key(item[0])):
        operator, pass_name, dtype = group
        line = {"operator": operator, "pass": pass_name, "dtype": dtype}
        line |= {f"beside {peer}": _compare(rows, field) for peer, field in PEERS.items()}
        ratios = [row["triton_us"] / row["limit_us"] for row in rows]
        body.append({**line, "over the limit": _format_range(ratios)})
    table = format_table([text_column(name) for name in body[0]], body, left=3)
    return [_describe(record), *table]


def format_survey_cases(record: Record) -> list[str]:
    """Every case of the operators: microseconds of Triton, XLA and PyTorch, and the limit."""
    groups: dict[tuple[str, bool], dict[str, dict[str, str]]] = {}
    for row in record.rows:
        cases = groups.setdefault((row["dtype"], row["op"] == "depthwise"), {})
        times = [row[field] for field in ("triton_us", *PEERS.values())]
        cell = f"{' / '.join(map(_format_micros, times))} ({_format_micros(row['limit_us'])})"
        fastest = times[0] == min(filter(None, times))
        cases.setdefault(row["case"], {})[row["pass"]] = f"**{cell}**" if fastest else cell
    text = [_describe(record), f"Method: {record.content['method']}."]
    for (dtype, _), cases in groups.items():
        rows = [{dtype: case, **cells} for case, cells in cases.items()]
        text += ["", *format_table([text_column(name) for name in rows[0]], rows, left=1)]
    return text


def format_gpu_model(record: Record) -> list[str]:
    """Modelled times of the GPU kernels over the limit, by operator, dtype and pass."""
    ratios: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in record.rows:
        case, _, pass_name = row["work"].rpartition(", ")
        if " with " in pass_name or case.startswith("odd"):
            continue
        dtype = "bfloat16" if case.endswith(" bfloat16") else "float32"
        kernel = re.search(r": (\d+x\d+)[ ,]", case)
        operator = f"depthwise {kernel[1]}" if kernel else case.partition(":")[0]
        passes = ratios.setdefault((operator, dtype), {})
        passes.setdefault(pass_name, []).append(row["model"] / row["limit"])
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}  # operators with the same passes
    for (operator, dtype), passes in ratios.items():
        cells = {name: _format_range(each) for name, each in passes.items()}
        groups.setdefault(tuple(passes), []).append({"operator": operator, "dtype": dtype, **cells})
    text = [f"Compute capability {record.content['arch'] / 10:.1f}; jax {record.jax}."]
    for rows in groups.values():
        text += ["", *format_table([text_column(name) for name in rows[0]], rows, left=2)]
    return text


def _describe(record: Record) -> str:
    content = record.content
    return (
        f"{content['device']}; jax {content['jax']}; torch {content['torch']}; "
        f"copy {content['copy_bytes_per_s'] / 1e12:.2f} TB/s.\n"
    )


def _name_group(row: Mapping[str, Any]) -> str:
    """The operator, and the size of a depthwise kernel."""
    kernel = re.search(r": (\d+x\d+)[ ,]", row["case"])
    return f"depthwise {kernel[1]}" if kernel else row["op"]


def _sort_key(group: tuple[str, str, str]) -> tuple[bool, float]:
    """Float32 first, then small kernels first, then operators without a kernel."""
    operator, _, dtype = group
    kernel = re.search(r"\d+", operator)
    return dtype != "float32", float(kernel[0]) if kernel else math.inf


def _compare(rows: Sequence[Mapping[str, Any]], peer_field: str) -> str:
    """Geometric mean and smallest of a peer's time over ours, where it was timed."""
    ratios = [row[peer_field] / row["triton_us"] for row in rows if row[peer_field]]
    if not ratios:
        return "–"
    return f"{format_number(geometric_mean(ratios))} ({format_number(min(ratios))})"


def _format_range(figures: Sequence[float]) -> str:
    low, high = (f"{figure:.1f}" for figure in (min(figures), max(figures)))
    return low if low == high else f"{low} to {high}"


def _format_micros(microseconds: float | None) -> str:
    return "–" if microseconds is None else f"{microseconds:.0f}"


def _format_ratio(one: float | None, other: float | None) -> str:
    return format_number(one / other if one and other else math.nan)
