"""What the tests of files of results share."""

import json

import pytest

from benchmarks.report import __main__ as report

PAGE = "by hand\n" + "".join(
    f"<!-- made: {name} -->\nstale\n<!-- end -->\n" for name in (*report.TABLES, "gpu")
)


@pytest.fixture
def made(tmp_path):
    """Writes files of results and a page; gives the exit code and the page."""

    def run(*arguments, **files):
        for name, told in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(told))
        page = tmp_path / "page.md"
        if not page.exists():
            page.write_text(PAGE)
        code = report.main([*arguments, "--results", str(tmp_path), "--page", str(page)])
        return code, page.read_text()

    return run
