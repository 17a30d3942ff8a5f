"""Fixtures for tests of files of results."""

import json

import pytest

from benchmarks.report.__main__ import main
from benchmarks.report.page import GPU_PART, PARTS

PAGE = "by hand\n" + "".join(
    f"<!-- generated: {name} -->\nstale\n<!-- end -->\n" for name in (*PARTS, GPU_PART)
)


@pytest.fixture
def write_page(tmp_path):
    """Writes files of results, and a page from them; returns the exit code and the page."""

    def run(*arguments, **files):
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        page = tmp_path / "page.md"
        if not page.exists():
            page.write_text(PAGE)
        code = main([*arguments, "--results", str(tmp_path), "--page", str(page)])
        return code, page.read_text()

    return run
