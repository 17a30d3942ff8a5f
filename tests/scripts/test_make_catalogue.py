"""The committed catalogue is what the script writes from the committed table."""

import importlib

import pytest

from zoo_pretrained import catalogue


@pytest.fixture
def script(root, monkeypatch):
    monkeypatch.syspath_prepend(root / "scripts")
    return importlib.import_module("make_catalogue")


def test_reproduces_the_catalogue_but_for_parameter_counts(script, tmp_path, monkeypatch):
    """Counting the parameters takes a minute, so here the catalogue's own counts are used."""
    counts = {
        (model, str(entry.get("arguments"))): entry["parameters"]
        for model, by_weights in catalogue.entries().items()
        for entry in by_weights.values()
    }
    monkeypatch.setattr(
        script, "count_parameters", lambda model, arguments: counts[model, str(arguments)]
    )
    script.main(tmp_path / "catalogue.json")
    assert (tmp_path / "catalogue.json").read_bytes() == script.TARGET.read_bytes()


@pytest.mark.slow
def test_reproduces_the_catalogue(script, tmp_path):
    script.main(tmp_path / "catalogue.json")
    assert (tmp_path / "catalogue.json").read_bytes() == script.TARGET.read_bytes()


def test_raises_for_rows_that_do_not_fit(script):
    row = {"source": "torchvision", "model": "resnet18", "weights": "X", "size": 224}
    row |= {"url": "https://a/b", "md5": "0", "licence": "MIT", "params": 1}
    with pytest.raises(ValueError, match="resnet18 has 1 parameters, ours 11689512"):
        script.make_entry(row)
    with pytest.raises(ValueError, match="no model of ours is called 'vit_b_16', as torchvision"):
        script.make_entry({**row, "model": "vit_b_16"})
