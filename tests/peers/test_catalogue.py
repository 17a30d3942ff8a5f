"""Every classifier's entry of the catalogue against the architecture whose weights it names."""

import functools
import json
import re

import jax
import pytest

from tests.peers.originals import (
    TORCHVISION,
    built,
    model_source,
    state_shapes,
    torchvision_models,
    zeros,
)
from zoo.models.base import MODELS
from zoo_pretrained import catalogue
from zoo_pretrained.checkpoint import flatten_variables
from zoo_pretrained.convert import convert

pytestmark = pytest.mark.peer


def architecture(model, source):
    """The name in its library of the architecture of an entry's weights."""
    if "hub" in source:
        return source["hub"].removeprefix("timm/").partition(".")[0]
    if source["from"] == "timm":  # a file of its own
        return {"Xception": "legacy_xception"}[model]
    if source["from"] == "keras":
        return model.replace("_", "")
    return TORCHVISION.get(model, model.lower())


ORIGINALS = sorted(
    {
        (
            model,
            entry["source"]["from"],
            architecture(model, entry["source"]),
            json.dumps(entry["arguments"]),
            entry["parameters"],
        )
        for model, by_weights in catalogue.entries().items()
        for entry in by_weights.values()
        if "from" in entry["source"] and model in MODELS
    }
)


@functools.cache
def construct(name, arguments):
    """Our model, and the shapes of its variables."""
    model = MODELS[name].constructor(**json.loads(arguments))
    return model, model.variable_shapes()


@pytest.mark.parametrize(("name", "source", "original", "arguments", "parameters"), ORIGINALS)
def test_names_shapes_epsilons_and_padding(name, source, original, arguments, parameters):
    model, shapes = construct(name, arguments)
    arrays = zeros(state_shapes(source, original))
    converted = convert(arrays, model_source(name, source), shapes)
    assert jax.tree.structure(converted) == jax.tree.structure(shapes)
    counted = [
        leaf.size
        for path, leaf in flatten_variables(shapes["params"])
        if not re.search("auxiliary", path)
    ]
    assert sum(counted) == parameters
    assert set(shapes["params"]) & set(model.classifier)
    epsilons, pads_same = epsilons_and_padding(source, original)
    assert epsilons <= {model.norm_eps}
    assert source == "keras" or pads_same == (model.padding == "SAME")


@pytest.mark.parametrize("name", sorted(MODELS))
def test_entries_are_as_torchvisions_own_tables_say(name):
    """All weights are there, with their addresses, figures and preprocessing."""
    models = torchvision_models()
    theirs = TORCHVISION.get(name, name.lower())
    entries = {
        weights: entry
        for weights, entry in catalogue.entries().get(name, {}).items()
        if entry["source"].get("from") == "torchvision"
    }
    if theirs not in models.list_models():
        assert not entries
        return
    enum = models.get_model_weights(theirs)
    assert set(entries) == {weights.name for weights in enum}
    for weights in enum:
        entry = entries[weights.name]
        assert entry["source"]["url"] == weights.url
        assert f"-{entry['source']['sha256']}.pth" in weights.url
        assert entry["parameters"] == weights.meta["num_params"]
        metrics = weights.meta["_metrics"]["ImageNet-1K"]
        if entry.get("head", True):
            assert entry["accuracy"]["top1"] == metrics["acc@1"]
            assert entry["accuracy"]["top5"] == metrics["acc@5"]
        wanted, given = weights.transforms(), entry["preprocessing"]
        assert [given["size"]] == wanted.crop_size
        assert [given["resize"]] == wanted.resize_size
        assert given["interpolation"] == wanted.interpolation.value
        if name != "GoogLeNet":  # which normalises its images once more
            assert (given["mean"], given["std"]) == (wanted.mean, wanted.std)


@functools.cache
def epsilons_and_padding(source, original):
    """The epsilons of a model's norms, and whether its convolutions pad as TensorFlow's do."""
    if source == "keras":
        layers = built(source, original).layers
        norms = [layer for layer in layers if type(layer).__name__ == "BatchNormalization"]
        return {round(layer.epsilon, 9) for layer in norms}, False
    import torch

    with torch.device("meta"):
        modules = list(built(source, original).modules())
    norms = [module for module in modules if isinstance(module, torch.nn.BatchNorm2d)]
    pads_same = any(type(module).__name__ == "Conv2dSame" for module in modules)
    return {norm.eps for norm in norms}, pads_same
