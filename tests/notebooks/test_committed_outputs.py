"""Notebooks are committed with the outputs of their present code: `make notebooks` stores them."""

import re

import nbformat
import pytest

from scripts.run_notebooks import HASH, code_hash
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_BYTES = 700_000


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture(scope="module")
def notebook(path):
    return nbformat.read(path, as_version=4)


def output_texts(notebook):
    """Everything that code cells show, as text; pictures by their type alone."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            yield output.get("text", "")
            for kind, content in output.get("data", {}).items():
                yield kind if kind.startswith("image/") else "".join(content)


def test_outputs_are_of_the_present_code(notebook):
    assert notebook.metadata.get(HASH) == code_hash(notebook), "run `make notebooks`"


def test_every_cell_was_executed_in_order(notebook):
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_cells_that_show_something_have_outputs(notebook):
    for cell in notebook.cells:
        last = cell.source.rstrip().rpartition("\n")[2]
        if cell.cell_type == "code" and re.match(r"print\(|\{.+\}$|float\(|lite\.", last):
            assert cell.outputs, cell.source
    assert any(cell.get("outputs") for cell in notebook.cells)


def test_outputs_have_no_errors_warnings_or_paths(notebook):
    kinds = {output.output_type for cell in notebook.cells for output in cell.get("outputs", ())}
    assert "error" not in kinds
    text = "\n".join(output_texts(notebook))
    assert not re.search(r"Traceback|\w*Warning\b", text)
    absolute = re.findall(r"(?:^|[\s'\"(=])(/(?:home|root|tmp|usr|var|Users|mnt|opt)/\S*)", text)
    assert not absolute
    names = {output.get("name") for cell in notebook.cells for output in cell.get("outputs", ())}
    assert "stderr" not in names


def test_outputs_are_small(path):
    assert path.stat().st_size < MOST_BYTES


def test_every_notebook_begins_with_a_title(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")


def test_imports_are_public(notebook):
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert not re.search(r"\bzoo_(kernels|pretrained)\b|import _|\._[a-z]", code)
