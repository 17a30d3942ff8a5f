"""Executes notebooks and stores their outputs in them, with a hash of the code that gave them.

Needs the extra `notebooks`. Without names, all notebooks are executed, one after the other.

    python scripts/run_notebooks.py [quickstart …]

tests/notebooks compares the stored hash with that of the present code, so that no notebook is
committed whose outputs are another version's.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
HASH = "code_sha256"  # the key in a notebook's metadata


def main() -> None:
    """Executes the notebooks on the command line."""
    names = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    chosen = parser.parse_args().names or names
    if unknown := set(chosen) - set(names):
        parser.error(f"NAME must be of {', '.join(names)}, got {', '.join(sorted(unknown))}")
    for name in chosen:
        path = NOTEBOOKS / f"{name}.ipynb"
        notebook = execute(path)
        notebook.metadata[HASH] = code_hash(notebook)
        beside = path.with_suffix(".new")
        beside.write_text(nbformat.writes(notebook).rstrip("\n") + "\n", encoding="utf-8")
        beside.rename(path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB", flush=True)


def execute(path: Path) -> Any:
    """The notebook with its outputs, computed in its own folder.

    Raises:
      CellExecutionError: a cell raises.
      RuntimeError: a cell writes to standard error, such as a warning.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise RuntimeError(f"{path.name}: a cell writes to standard error:\n{output.text}")
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def code_hash(notebook: Any) -> str:
    """A hash of the sources of all code cells, in order."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


if __name__ == "__main__":
    main()
