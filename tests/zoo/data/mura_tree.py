"""A small set of drawn X-rays in MURA's layout."""

import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples/generate_mura.py"


def generate(folder, **options):
    """Writes MURA-v1.1 into a folder; see examples/generate_mura.py."""
    return runpy.run_path(str(EXAMPLE))["generate"](folder, **options)
