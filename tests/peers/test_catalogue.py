"""Every entry of the catalogue against the architecture whose weights it names."""

import functools
import json
import re

import jax
import pytest

from pretrained import catalogue
from pretrained.convert import convert
from pretrained.store import leaves
from tests.peers.originals import TORCHVISION, built, family_rules, hollow, state_shapes
from zoo.convert import template
from zoo.models.base import CLASSIFIER, MODELS

pytestmark = pytest.mark.peer


def architecture(model, source):
    """The name in its library of what an entry's weights are of."""
    if "hub" in source:
        return source["hub"].removeprefix("timm/").partition(".")[0]
    if source["from"] == "timm":
        return {"Xception": "legacy_xception"}[model]
    return model if source["from"] == "keras" else TORCHVISION.get(model, model.lower())


ORIGINALS = sorted(
    {
        (
            model,
            entry["source"]["from"],
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
    return made, template(made)


@pytest.mark.parametrize(("model", "source", "theirs", "arguments", "parameters"), ORIGINALS)
def test_names_shapes_and_habits(model, source, theirs, arguments, parameters):
    made, shapes = ours(model, arguments)
    arrays = hollow(state_shapes(source, theirs))
    converted = convert(arrays, family_rules(model, source), shapes, source)
    assert jax.tree.structure(converted) == jax.tree.structure(shapes)
    counted = [
        leaf.size for path, leaf in leaves(shapes["params"]) if not re.search("auxiliary", path)
    ]
    assert sum(counted) == parameters
    assert set(shapes["params"]) & set(CLASSIFIER)
    epsilons, same = habits(source, theirs)
    assert epsilons <= {made.norm_eps}
    assert same == (made.padding == "SAME") or "keras" in source


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
