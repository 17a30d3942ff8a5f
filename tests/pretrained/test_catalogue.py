"""What the catalogue claims, recomputed."""

import re

import numpy as np
import pytest

import zoo
from pretrained import catalogue, store
from pretrained.store import leaves
from zoo.models.base import MODELS

ENTRIES = [
    pytest.param(model, weights, entry, id=f"{model}-{weights}")
    for model, several in catalogue.entries().items()
    for weights, entry in several.items()
]


@pytest.mark.parametrize(("model", "weights", "entry"), ENTRIES)
def test_the_checkpoint_is_what_its_entry_says(model, weights, entry):
    variables, metadata = store.restore(catalogue.checkpoint(entry))
    assert {name: metadata[name] for name in entry} == entry
    assert (metadata["model"], metadata["weights"]) == (model, weights)
    assert entry["parameters"] == sum(a.size for _, a in leaves(variables["params"]))
    assert entry["kernel_convention"] == "cross-correlation"
    assert variables["params"]["head"]["bias"].shape == (len(catalogue.labels(entry["labels"])),)
    assert all(np.isfinite(array).all() for _, array in leaves(variables))


@pytest.mark.parametrize(("model", "weights", "entry"), ENTRIES)
def test_the_source_is_traceable(model, weights, entry):
    assert re.fullmatch("[0-9a-f]{64}", entry["source"]["sha256"])
    assert entry["source"]["url"].startswith("https://")
    assert entry["licence"]
    assert entry["accuracy"]["reference"].startswith("https://")


@pytest.mark.parametrize(("model", "weights", "entry"), ENTRIES)
def test_the_model_is_the_zoos(model, weights, entry):
    assert model in zoo.list_models(trained=True)
    info = zoo.trained(model, weights=weights).info
    assert info.preprocessing.size == entry["preprocessing"]["size"] == MODELS[model].input_size


def test_imagenets_labels():
    labels = catalogue.labels("imagenet1k")
    assert len(labels) == len({label.synset for label in labels}) == 1000
    assert len({label.name for label in labels}) == 1000
    # ILSVRC's order is that of the synsets.
    assert [label.synset for label in labels] == sorted(label.synset for label in labels)
    assert all(re.fullmatch(r"n\d{8}", label.synset) for label in labels)
    known = {
        0: "tench",
        134: "crane (bird)",
        282: "tiger cat",
        967: "espresso",
        999: "toilet tissue",
    }
    assert {i: labels[i].name for i in known} == known
