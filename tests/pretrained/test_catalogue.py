"""The catalogue agrees with the models, the embedded checkpoints and what is published."""

import re

import numpy as np
import pytest

import zoo
from tests.zoo.models.small_models import PUBLISHED
from zoo.inference.preprocessing import Preprocessing
from zoo.models.base import MODELS, load_detectors
from zoo_pretrained import catalogue, restore
from zoo_pretrained.checkpoint import flatten_variables
from zoo_pretrained.convert import find_source

DETECTORS = load_detectors()
CONSTRUCTORS = {**MODELS, **DETECTORS}
ENTRIES = [
    pytest.param(model, weights, entry, id=f"{model}-{weights}")
    for model, entries in catalogue.entries().items()
    for weights, entry in entries.items()
]
EMBEDDED = [parameters for parameters in ENTRIES if "checkpoint" in parameters.values[2]]
FREE = {"Apache-2.0", "BSD-3-Clause", "MIT", "CC-BY-4.0"}


def test_every_model_with_public_weights_is_listed():
    assert MODELS.keys() - catalogue.entries().keys() == {"DenseNet264"}
    assert catalogue.entries().keys() <= CONSTRUCTORS.keys()
    assert catalogue.entries().keys() >= DETECTORS.keys()


@pytest.mark.parametrize(("model", "weights", "entry"), ENTRIES)
def test_an_entry_is_complete(model, weights, entry):
    download = entry["source"]
    if "hub" in download:  # the hub publishes each file's sha256
        assert re.fullmatch(r"timm/[a-z0-9_]+\.[a-z0-9_]+", download["hub"])
        assert download["file"] == "model.safetensors"
    else:
        assert download["url"].startswith("https://")
        digest = download.get("sha256", download.get("md5"))
        assert re.fullmatch("[0-9a-f]{8,9}|[0-9a-f]{32}|[0-9a-f]{64}", digest)
        if "sha256" in download and "package" not in download:
            assert digest in download["url"]  # as torchvision and timm name their files
    assert entry["licence"] in FREE | {"CC-BY-NC-4.0"}
    assert entry["accuracy"]["reference"].startswith("https://")
    top1, top5 = (entry["accuracy"].get(key) for key in ("top1", "top5"))
    if model in DETECTORS:
        assert 20 < entry["accuracy"]["box_map"] < 60
    elif entry.get("head", True):
        assert 58 < top1 < 90
        assert top5 is None or top1 < top5 < 100
    classes = CONSTRUCTORS[model].constructor().num_classes
    assert len(catalogue.labels(entry["labels"])) == classes
    preprocessing = Preprocessing.from_metadata(entry["preprocessing"])
    assert preprocessing.resize >= preprocessing.size >= 160
    assert preprocessing(np.full((300, 300, 3), 128, np.uint8)).shape[1] == preprocessing.size
    assert re.fullmatch(r"[\w.]+", weights)


@pytest.mark.parametrize(("model", "weights", "entry"), ENTRIES)
def test_an_entry_can_be_converted_and_built(model, weights, entry):
    """Its source has rules, the constructor takes its arguments, the parameter count is right."""
    arguments = entry.get("arguments", {})
    built = CONSTRUCTORS[model].constructor(**arguments)
    if "checkpoint" not in entry:
        source = find_source(CONSTRUCTORS[model].family, entry["source"]["from"])
        assert arguments.items() >= source.arguments.items()
    if "width" not in arguments and model in PUBLISHED:
        assert entry["parameters"] == PUBLISHED[model][0]
    if model in DETECTORS:
        params = dict(flatten_variables(built.variable_shapes()["params"]))
        assert entry["parameters"] == sum(array.size for array in params.values())
    size = entry["source"].get("size")
    if size and model != "GoogLeNet":  # whose file has auxiliary heads too
        # of float32 or float16
        assert any(0.98 < size / (entry["parameters"] * width) < 1.1 for width in (4, 2))


@pytest.mark.parametrize("model", catalogue.entries())
def test_the_default_is_the_most_accurate_with_a_free_licence(model):
    """Among weights of the default width; embedded ones come first, as they need no network."""
    entries = list(catalogue.entries()[model].values())
    ranked = [e for e in entries if e["licence"] in FREE and "width" not in e.get("arguments", {})]
    best = max(ranked, key=lambda entry: entry["accuracy"].get("top1", 0))
    assert entries[0] == best or "checkpoint" in entries[0]


@pytest.mark.parametrize(("model", "weights", "entry"), EMBEDDED)
def test_an_embedded_checkpoint_matches_its_entry(model, weights, entry):
    variables, metadata = restore(catalogue.embedded_checkpoint_path(entry))
    assert {name: metadata[name] for name in entry} == entry
    assert (metadata["model"], metadata["weights"]) == (model, weights)
    assert entry["parameters"] == sum(a.size for _, a in flatten_variables(variables["params"]))
    assert entry["kernel_convention"] == "cross-correlation"
    assert variables["params"]["head"]["bias"].shape == (len(catalogue.labels(entry["labels"])),)
    assert all(np.isfinite(array).all() for _, array in flatten_variables(variables))
    assert zoo.trained(model, weights=weights).info.preprocessing.size == MODELS[model].input_size


def test_coco_labels():
    """The categories have the numbers of the data set, of which some are not used."""
    labels = catalogue.labels("coco")
    assert len(labels) == 91
    assert {label.synset for label in labels} == {""}
    unused = [number for number, label in enumerate(labels) if label.name == "N/A"]
    assert unused == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert len({label.name for label in labels}) == 80 + 2
    expected = {0: "background", 1: "person", 17: "cat", 44: "bottle", 90: "toothbrush"}
    assert {i: labels[i].name for i in expected} == expected


def test_imagenet_labels():
    labels = catalogue.labels("imagenet1k")
    assert len(labels) == len({label.synset for label in labels}) == 1000
    assert len({label.name for label in labels}) == 1000
    # ILSVRC's order is that of the synsets.
    assert [label.synset for label in labels] == sorted(label.synset for label in labels)
    assert all(re.fullmatch(r"n\d{8}", label.synset) for label in labels)
    expected = {
        0: "tench",
        134: "crane (bird)",
        282: "tiger cat",
        967: "espresso",
        999: "toilet tissue",
    }
    assert {i: labels[i].name for i in expected} == expected
