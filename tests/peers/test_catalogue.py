"""Every entry of the catalogue against the architecture whose weights it names."""

import functools
import json
import re

import jax
import pytest

from tests.peers.originals import (
    TORCHVISION,
    built,
    family_rules,
    hollow,
    state_shapes,
    torchvision_models,
)
from zoo.models.base import MODELS
from zoo_pretrained import catalogue
from zoo_pretrained.checkpoint import flatten_variables
from zoo_pretrained.convert import convert

pytestmark = pytest.mark.peer


def architecture(model, source):
    """The name in its library of what an entry's weights are of."""
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
            entry["source"]["from"].removesuffix("_tf"),
            architecture(model, entry["source"]),
            json.dumps(entry["arguments"]),
            entry["parameters"],
        )
        for model, several in catalogue.entries().items()
        for entry in several.values()
        if "from" in entry["source"]
    }
)


@functools.cache
def ours(model, arguments):
    """Our model, and the shapes of its variables."""
    made = MODELS[model].constructor(**json.loads(arguments))
    return made, made.variable_shapes()


@pytest.mark.parametrize(("model", "source", "theirs", "arguments", "parameters"), ORIGINALS)
def test_names_shapes_and_habits(model, source, theirs, arguments, parameters):
    made, shapes = ours(model, arguments)
    arrays = hollow(state_shapes(source, theirs))
    converted = convert(arrays, family_rules(model, source), shapes, source)
    assert jax.tree.structure(converted) == jax.tree.structure(shapes)
    counted = [
        leaf.size
        for path, leaf in flatten_variables(shapes["params"])
        if not re.search("auxiliary", path)
    ]
    assert sum(counted) == parameters
    assert set(shapes["params"]) & set(made.classifier)
    epsilons, same = habits(source, theirs)
    assert epsilons <= {made.norm_eps}
    assert same == (made.padding == "SAME") or "keras" in source


@pytest.mark.parametrize("name", sorted(MODELS))
def test_torchvisions_entries_are_all_there_and_as_it_says(name):
    """Addresses, figures and preprocessing, by torchvision's own tables."""
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
        if name != "GoogLeNet":  # which scales its images again itself
            assert (given["mean"], given["std"]) == (wanted.mean, wanted.std)


@functools.cache
def habits(source, theirs):
    """The epsilons of a library's norms, and whether its convolutions pad as TensorFlow's do."""
    if source == "keras":
        layers = built(source, theirs).layers
        norms = [layer for layer in layers if type(layer).__name__ == "BatchNormalization"]
        return {round(layer.epsilon, 9) for layer in norms}, False
    import torch

    with torch.device("meta"):
        modules = list(built(source, theirs).modules())
    norms = [module for module in modules if isinstance(module, torch.nn.BatchNorm2d)]
    same = any(type(module).__name__ == "Conv2dSame" for module in modules)
    return {norm.eps for norm in norms}, same
