"""Output fits a terminal, is complete in a pipe, and never acts on a terminal."""

import dataclasses
import json
import re
import shutil
import sys
import time

import numpy as np
import pytest

import zoo
from tests.pretrained.unchecked import save_unchecked
from tests.zoo.checkpoints import upstream
from tests.zoo.cli.shell import runner
from zoo.models.base import MODELS, load_detectors
from zoo.models.costs import Cost, load_costs
from zoo_pretrained import save
from zoo_pretrained.catalogue import Label

HOSTILE = "[red]x[bold]\x1b[2J\u202e\x07"
SHOWN = "[red]x[bold]\\x1b[2J\\u202e\\x07"


@pytest.fixture
def shell(monkeypatch, capfd, tmp_path):
    """Runs the command line in this process; → exit code, standard output, standard error."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("zoo.runtime.compiler.cache_compilations", lambda: None)
    return runner(monkeypatch, capfd)


@pytest.fixture
def terminal(monkeypatch, shell):
    """The same on a terminal of 80 columns."""

    def run(*words):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", "80")
        return shell(*words)

    return run


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", "resnet", "--trained"],
        ["list", "lite", "--trained"],
        ["describe", "EfficientNetLite0", "--depth", "4"],
    ],
)
def test_tables_fit_a_terminal_and_are_whole_in_a_pipe(words, shell, terminal):
    whole, folded = shell(*words)[1], terminal(*words)[1]
    assert max(map(len, folded.splitlines())) <= 80
    assert "…" not in whole
    shortened = re.sub(r"(\w+://[^/\s]+)/\S*", r"\1/…", whole)  # a terminal shows hosts
    assert sorted(folded.split("\n", 1)[1].replace(" ", "").replace("\n", "")) == sorted(
        shortened.split("\n", 1)[1].replace(" ", "").replace("\n", "")
    )
    if "--trained" in words:
        assert len(folded.splitlines()) > len(whole.splitlines())
        assert all("://" in line or "/" in line for line in whole.splitlines()[1:])


def test_labels_are_escaped_and_never_cut(shell, terminal, lite, monkeypatch, tmp_path, examples):
    labels = (Label("", HOSTILE), Label("", "long " * 40), *lite.info.labels[2:])
    mine = dataclasses.replace(lite, info=dataclasses.replace(lite.info, labels=labels))
    likely = np.linspace(1, 0, 1000, dtype=np.float32)
    monkeypatch.setattr(zoo, "trained", lambda model, weights=None: mine)
    monkeypatch.setattr(zoo.Trained, "probabilities", lambda self, x: [likely] * len(x))
    photo = tmp_path / f"{HOSTILE}.jpg"
    shutil.copy(examples / "cat.jpg", photo)
    code, out, err = shell("classify", photo, "--top", "2")
    assert (code, err) == (0, "")
    name, first, second = out.splitlines()
    assert name.endswith(f"{SHOWN}.jpg")
    assert first.startswith(f"  {SHOWN}  ")
    assert second.startswith("  " + "long " * 40)
    shown = terminal("classify", photo, "--top", "2")[1]
    assert shown.count("long") == 40
    assert "\u202e" not in shown
    assert "\x1b[2J" not in shown
    rows = shell("classify", photo, "--top", "1", "--json")[1]
    assert rows.isascii()
    assert json.loads(rows)["classes"][0]["label"] == HOSTILE


def test_names_and_metadata_are_escaped(shell, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(upstream.body(num_classes=7))
    words = ("--model", upstream.MODEL, "--out", tmp_path / "mine")
    assert shell("convert", tmp_path / "file", *words)[0] == 0
    variables, metadata = zoo.pretrained.restore(tmp_path / "mine")
    save(tmp_path / "bad", variables, {**metadata, "weights": HOSTILE, "licence": HOSTILE})
    save_unchecked(tmp_path / "else", variables, {**metadata, "model": HOSTILE})
    (tmp_path / "cache" / "downloads").mkdir(parents=True)
    for name in (HOSTILE, f".{HOSTILE}.lock"):  # without its lock it would not be ours
        (tmp_path / "cache" / "downloads" / name).write_text("partial")
    out = shell("cache")[1]
    assert SHOWN in out
    for words in (
        ["publish", tmp_path / "bad", "--to", tmp_path / "store"],
        ["publish", tmp_path / "else", "--to", tmp_path / "store"],
        ["fetch", f"{upstream.MODEL}:{tmp_path / 'else'}", HOSTILE, f"VGG11:{HOSTILE}"],
        ["classify", "none.jpg", "--model", upstream.MODEL, "--weights", tmp_path / "else"],
        ["export", HOSTILE, "--out", tmp_path / HOSTILE],
        ["export", tmp_path / "mine", "--out", tmp_path / f"{HOSTILE}.pth"],
        ["convert", tmp_path / HOSTILE, "--model", "VGG11", "--out", tmp_path / "no"],
        ["list", HOSTILE],
        ["list", "--family", HOSTILE],
        [HOSTILE],
        ["cache", HOSTILE],
        ["cache", "*x*", "--prune"],
    ):
        code, out, err = shell(*words)
        printed = out + err
        assert not any(mark in printed for mark in ("\x1b", "\x07", "\u202e")), words
        assert bool(err) == bool(code)
    assert (code, SHOWN in out) == (0, True)


def test_list_is_quick(shell):
    """Tracing all models takes a minute, so that their costs are read from a table."""
    start = time.process_time()
    assert len(shell("list")[1].splitlines()) == 1 + len(MODELS)
    assert time.process_time() - start < 1


def test_costs_are_those_of_all_models():
    """`tests/zoo/models/test_models.py` compares them with what tracing counts."""
    assert load_costs().keys() == {*MODELS, *load_detectors()}
    assert load_costs()["SqueezeNet1_1"] == Cost(1_235_496, 349_151_936)
