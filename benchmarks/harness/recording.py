"""What the benchmarks record beside their figures: the command and the commit."""

import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
