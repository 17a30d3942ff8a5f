"""What the benchmarks record beside their figures: the command and the commit."""

import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import interleaved

ROOT = Path(__file__).parent.parent.parent


def format_command(module: str, arguments: Sequence[str]) -> str:
    """A command line that repeats a run, without this machine's folders."""
    names = [Path(each).name if os.sep in each else each for each in arguments]
    return shlex.join(["python", "-m", module, *names])


def describe_commit() -> str:
    """Git's description of the checkout; empty without git."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def write_json(path: Path | None, content: Mapping[str, Any], indent: int = 1) -> None:
    """Writes a file of results, unless there is no path."""
    if path:
        path.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def summarize_row(
    row: Mapping[str, Any], rounds: Mapping[str, Sequence[float]], compared: tuple[str, str] | None
) -> dict[str, Any]:
    """A row with its candidates' seconds and, of two that are compared, the ratio of each round."""
    summary = {**row, "seconds": {name: _summarize(each) for name, each in rounds.items()}}
    if compared:
        ours, other = (rounds[name] for name in compared)
        summary["ratio"] = _summarize([a / b for a, b in zip(ours, other, strict=True)])
    return summary


def _summarize(figures: Sequence[float]) -> dict[str, float]:
    timing = interleaved.summarize(figures, {})
    return {"median": timing.median, "lower": timing.lower, "upper": timing.upper}
