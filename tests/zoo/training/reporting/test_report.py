"""The page of a training run: complete, self-contained, and safe whatever the names are."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.training.evaluation.metrics import Evaluation
from zoo.training.reporting.report import write_report

HOSTILE = "<script>alert('x')</script>\x1b[2J\udcff\" onload=\"x"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """What a page holds; fails where elements are not nested."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.attributes, self.words = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return "|".join(self.words)


def history():
    for step in range(10, 101, 10):
        yield {"step": step, "epoch": 1, "elapsed": 2.0 * step, "loss": 1 / step, "accuracy": 0.5}
    yield {"step": 50, "elapsed": 100, "validation_loss": None, "validation_accuracy": 0.625}
    yield {"step": 100, "elapsed": 200, "validation_loss": 0.3, "validation_accuracy": 0.6}


def evaluation(classes, count=40):
    random = np.random.default_rng(0)
    labels = random.integers(classes, size=count)
    logits = random.normal(size=(count, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    names = tuple(f"{number}{HOSTILE}.jpg" for number in range(count))
    titles = tuple(f"class {number}{HOSTILE}" for number in range(classes))
    return Evaluation(titles, labels, probabilities, names, (f"bad {HOSTILE}",), 2.0)


def write(path, **fields):
    defaults = {"title": HOSTILE, "settings": {"lr": 0.1, "path": HOSTILE}, "history": [*history()]}
    write_report(path, **{**defaults, **fields})
    return Page(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("classes", [3, 30])
def test_names_are_text_and_nothing_else(classes, tmp_path):
    ours = evaluation(classes)
    picture = Image.new("RGB", (300, 200), "red")
    page = write(
        tmp_path / "report.html",
        evaluation=ours,
        images={int(index): picture for index in ours.worst(4)},
        facts={HOSTILE: HOSTILE},
    )
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(page.tags)
    assert page.tags.count("style") == 1
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on")} | ({"href"} & names)
    addresses = [value for name, value in page.attributes if name == "src"]
    assert len(addresses) == 4
    assert all(address.startswith("data:image/jpeg;base64,") for address in addresses)
    assert any("default-src 'none'" in (value or "") for _, value in page.attributes)
    # Each name is shown whole: the title, settings, facts, classes, photos, and what was skipped.
    assert page.text.count("<script>alert('x')</script>\\x1b[2J\\udcff\" onload=\"x") > 10
    assert not re.search(r"url\(|@import|https?:", (tmp_path / "report.html").read_text())


def test_shows_facts_metrics_and_settings(tmp_path):
    page = write(tmp_path / "report.html", evaluation=evaluation(6), facts={"model": "ResNet18"})
    assert "best accuracy|62.5 %|steps|100|duration|3 min|validation images|40" in page.text
    assert "skipped images|1|model|ResNet18" in page.text
    ours = evaluation(6)
    assert f"top1|{ours.top1:.1%}".replace("%", " %") in page.text
    assert f"top5|{ours.top5:.1%}".replace("%", " %") in page.text
    assert "lr|0.1|" in page.text
    assert page.tags.count("svg") == 3  # no learning rate was recorded


def test_the_confusions_are_a_table_or_the_most_frequent_pairs(tmp_path):
    ours = evaluation(5)
    page = write(tmp_path / "few.html", evaluation=ours)
    cells = re.findall(
        r'<td class="(?:hit|miss)"[^>]*>(\d*)</td>', (tmp_path / "few.html").read_text()
    )
    assert [int(cell or 0) for cell in cells] == ours.confusion.ravel().tolist()
    assert page.tags.count("table") == 3
    many = evaluation(30, 2000)
    page = write(tmp_path / "many.html", evaluation=many)
    first = many.most_confused(1)[0]
    truth, predicted = (f"class {number}<" for number in first[:2])
    assert re.search(
        rf"taken for\|images\|{truth}[^|]*\|{predicted}[^|]*\|{first.images}\|", page.text
    )
    assert "hit" not in [value for name, value in page.attributes if name == "class"]


def test_classes_are_sorted_by_accuracy(tmp_path):
    ours = Evaluation(
        ("good", "bad", "none", "fair"),
        np.array([0, 1, 3, 3]),
        np.eye(4)[[0, 0, 3, 0]],
    )
    text = write(tmp_path / "report.html", evaluation=ours, history=[]).text
    listed = text[text.index("class|images|accuracy") :]
    order = [listed.index(f"|{name}|") for name in ("bad", "fair", "good", "none")]
    assert order == sorted(order)
    assert "none|0|–" in listed


def test_photos_are_the_given_ones_the_worst_first(tmp_path):
    random = np.random.default_rng(0)
    ours = evaluation(3)
    worst = [int(index) for index in ours.worst(5)]
    images = {
        worst[0]: random.integers(0, 256, (8, 8), np.uint8),  # a digit: enlarged
        worst[1]: Image.new("RGB", (400, 200), "red"),
        worst[2]: random.random((32, 32, 7)),  # cannot be shown
        worst[4]: Path(__file__).parents[4] / "examples" / "cat.jpg",
    }
    page = write(tmp_path / "report.html", evaluation=ours, images=images)
    names = [int(word.partition("<")[0]) for word in page.words if word.endswith(".jpg")]
    assert names == [*worst[:3], worst[4]]
    sources = [value for name, value in page.attributes if name == "src"]
    pictures = [Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))) for s in sources]
    assert [picture.size for picture in pictures[:2]] == [(80, 80), (160, 80)]
    assert max(pictures[2].size) == 160
    assert pictures[1].getpixel((80, 40))[0] > 240
    truth, predicted = ours.labels[worst[0]], ours.predicted[worst[0]]
    words = page.text[: page.text.index(f"|{worst[0]}<script>")]
    assert re.search(
        rf"class {truth}<[^|]*\| \({ours.probabilities[worst[0], truth]:.1%}\) taken for "
        rf"\|class {predicted}<[^|]*\| \({ours.probabilities[worst[0], predicted]:.1%}\)$",
        words,
    )


def test_a_run_that_has_shown_nothing_yet_has_a_page(tmp_path):
    page = write(tmp_path / "report.html", history=[], settings={}, title="Nothing")
    assert page.text.strip("|\n").endswith("Nothing")
    assert "svg" not in page.tags


def test_a_page_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write(path, title="old")
    monkeypatch.setattr("zoo.training.reporting.report.make_page", lambda *_: "x" * 10 + "\udcff")
    with pytest.raises(UnicodeEncodeError):
        write(path, title="new")
    assert "old" in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
