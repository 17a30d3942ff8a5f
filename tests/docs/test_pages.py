"""What pages say of the repository is true: links, named files, the table of models."""

import json
import re

import pytest

from tests.conftest import ROOT
from tests.docs.pages import PAGES
from zoo.models.base import MODELS
from zoo.models.costs import load_costs

DOCUMENTS = [
    *PAGES,
    *sorted(ROOT.glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / ".github").rglob("*.md")),
]
DOCUMENTS = list(dict.fromkeys(DOCUMENTS))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def name(path):
    return str(path.relative_to(ROOT))


def prose(page):
    """A page's text, of a notebook that of its Markdown cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def anchor(heading):
    """As GitHub makes one of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*DOCUMENTS, *NOTEBOOKS], ids=name)
def test_relative_links_resolve(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)} links to {link}"
        if fragment and target.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{name(page)} links to {link}"


# In backticks: a path of the repository, perhaps with <family> or … in it, which is not checked.
FOLDERS = "zoo|kernels|pretrained|tests|benchmarks|scripts|notebooks|docs|examples"
PATH = re.compile(rf"`((?:{FOLDERS}|\.github)/[\w./-]+)`")


@pytest.mark.parametrize("page", DOCUMENTS, ids=name)
def test_named_files_exist(page):
    for path in PATH.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), f"{name(page)} names {path}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_guide_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    guides = [page for page in PAGES if page.parent.name == "docs" and page.name != "README.md"]
    assert len(guides) >= 6
    assert all(f"]({page.name})" in index for page in guides)


def model_rows():
    """The table of constructors: name → (parameters, multiply-adds, input, smallest)."""
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) M \| ([\d.]+) G \| (\d+) \| (\d+) \| \[", text, re.MULTILINE
    )
    return {row[0]: row[1:] for row in rows}


def test_table_of_models_names_all():
    assert model_rows().keys() == MODELS.keys()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{len(MODELS)} image classifiers" in readme


@pytest.mark.parametrize("model", MODELS)
def test_table_of_models_is_true(model):
    parameters, multiply_adds, input_size, smallest = model_rows()[model]
    cost = load_costs()[model]
    assert (parameters, multiply_adds) == (
        f"{cost.parameters / 1e6:.1f}",
        f"{cost.multiply_adds / 1e9:.2f}",
    )
    entry = MODELS[model]
    assert (int(input_size), int(smallest)) == (entry.input_size, entry.constructor().min_size)
    # As the constructor's docstring says, which other tests compare with the arrays.
    assert f"{parameters} million parameters" in entry.constructor.__doc__
