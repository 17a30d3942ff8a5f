"""The sources of the families, and rules that no installed library can be compared with."""

import jax
import numpy as np
import pytest

from tests.zoo.models.small_models import random_variables
from zoo.models.base import MODELS
from zoo.models.resnet import ResNet
from zoo.models.vgg import VGG
from zoo_pretrained.checkpoint import flatten_variables, unflatten_variables
from zoo_pretrained.convert import (
    SOURCES,
    convert,
    count_classes,
    default_preprocessing,
    find_source,
    sources,
)
from zoo_pretrained.convert.rules import match_rules


def test_finds_sources_by_name():
    assert find_source("resnet", "timm") == find_source("resnet", "torchvision")
    assert sources("resnet")["flux"] is find_source("resnet", "flux")
    with pytest.raises(ValueError, match=r"no family is named 'vit'; .*resnet, .*vgg, "):
        find_source("vit", "timm")
    with pytest.raises(ValueError, match=r"squeezenet has no source 'keras'; it has: torchvision$"):
        find_source("squeezenet", "keras")


def test_every_family_of_models_declares_its_sources():
    families = {entry.family for entry in MODELS.values()}
    declared = [name for family in families for name in sources(family)]
    assert set(declared) == set(SOURCES)


def test_default_preprocessing_is_torchvisions_or_imagenets():
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    for family in ("resnet", "xception", "a family of somebody else's"):
        assert default_preprocessing(family, 224).items() >= imagenet.items()
    assert default_preprocessing("googlenet", 224)["mean"] == [0.5] * 3
    assert default_preprocessing("vgg", 299)["resize"] == 342


# Names of layers in the files that Keras offers, which are older than its code, and our paths.
OLD_NAMES = {
    "densenet": {"conv1/conv": "stem/", "conv1/bn": "stem/", "fc1000": "head"},
    "resnet": {"probs": "head"},
    "mobilenet_v2": {"Logits": "head"},
    "mobilenet_v3": {
        "Conv": "stem/",
        "Conv/BatchNorm": "stem/",
        "expanded_conv/project/BatchNorm": "#/project/",
        "expanded_conv_10/expand": "#/expand/",
        "expanded_conv/squeeze_excite/Conv": "#/squeeze_excite/reduce",
        "expanded_conv_3/squeeze_excite/Conv_1": "#/squeeze_excite/expand",
        "Conv_1/BatchNorm": "conv_head/",
        "Conv_2": "fc",
        "Logits": "head",
    },
    "xception": {
        "convolution2d_2": "stem/conv2/",
        "batchnormalization_3": "stage1/block1/shortcut/",
        "separableconvolution2d_1/depthwise": "stage1/block1/separable1/depthwise",
        "batchnormalization_5": "stage1/block1/separable2/pointwise/",
        "convolution2d_5": "stage3/block1/shortcut/",
        "separableconvolution2d_15/pointwise": "stage3/block4/separable3/pointwise/",
        "batchnormalization_35": "stage3/block9/separable3/pointwise/",
        "convolution2d_6": "stage4/block1/shortcut/",
        "separableconvolution2d_31/depthwise": "stage4/block1/separable1/depthwise",
        "separableconvolution2d_34/pointwise": "separable2/pointwise/",
        "batchnormalization_40": "separable2/pointwise/",
        "dense_2": "head",
    },
}


@pytest.mark.parametrize("family", OLD_NAMES)
def test_maps_old_names_in_the_files_that_keras_offers(family):
    found = match_rules(OLD_NAMES[family], find_source(family, "keras").rules)
    assert {module: target.path for module, target in found.items()} == OLD_NAMES[family]


def chain(*layers):
    """The state of a Flux Chain of layers."""
    return {"layers": {str(number): layer for number, layer in enumerate(layers, start=1)}}


def flux(node, fc=None):
    """A layer's variables as Flux's layers, in HDF5's order of axes: [conv, norm], or [dense].

    The rows of the dense layer `fc` are 512 channels of 7x7, flattened.
    """
    if "kernel" in node and node["kernel"].ndim == 2:
        kernel = node["kernel"]
        if fc:
            kernel = kernel.reshape(7, 7, 512, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
        return [{"weight": kernel, "bias": node["bias"], "σ": np.zeros(())}]
    conv = {"weight": node["conv"]["kernel"].transpose(3, 2, 0, 1)[:, :, ::-1, ::-1]}
    conv |= {"bias": node["conv"].get("bias", np.array(False)), "stride": np.ones(2)}
    norm = node.get("norm")
    if norm is None:
        return [conv]
    names = {"γ": "scale", "β": "bias", "μ": "mean", "σ²": "var"}
    return [conv, {theirs: norm[ours] for theirs, ours in names.items()} | {"chs": np.array(4)}]


def metalhead(model, variables):
    """Variables by the names that the source code of Metalhead's models gives them."""
    merged = {
        path.partition("/")[2]: np.asarray(array) for path, array in flatten_variables(variables)
    }
    tree = unflatten_variables(merged)
    if isinstance(model, VGG):
        layers = []
        for number, depth in enumerate(model.depths, start=1):
            for i in range(1, depth + 1):
                layers += flux(tree[f"stage{number}"][f"conv{i}"])
            layers.append({})  # a pool
        fc6, fc7, head = (flux(tree[name], name == "fc6")[0] for name in ("fc6", "fc7", "head"))
        state = chain(chain(*layers), chain({}, fc6, {}, fc7, {}, head))
    else:
        stages = []
        for number, depth in enumerate(model.depths, start=1):
            blocks = []
            for i in range(1, depth + 1):
                block = tree[f"stage{number}"][f"block{i}"]
                shortcut = chain(*flux(block["shortcut"])) if "shortcut" in block else {}
                first, *others, last = [flux(block[c]) for c in sorted(block) if "conv" in c]
                inner = [layer for conv in (first, *others) for layer in conv]
                blocks.append(chain(shortcut, chain(*inner, {}, *last)))
            stages.append(chain(*blocks))
        stem = chain(*flux(tree["stem"]), {})
        state = chain(chain(stem, *stages), chain({}, {}, *flux(tree["head"])))
    return {path.replace("/", "."): array for path, array in flatten_variables({"layers": state})}


@pytest.mark.parametrize(
    ("family", "model"),
    [
        ("resnet", ResNet(num_classes=5, depths=(1, 2, 1, 1), base_width=8)),
        ("resnet", ResNet(num_classes=5, depths=(1, 1, 2, 1), bottleneck=False)),
        ("vgg", VGG(num_classes=5, depths=(1, 2, 1, 1, 1), norm=True, hidden_features=8)),
        ("vgg", VGG(num_classes=5, depths=(1, 1, 1, 1, 2), hidden_features=8)),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model_state."])
def test_converts_flux_states_of_metalheads_models(family, model, prefix):
    variables = random_variables(model)
    arrays = {prefix + name: array for name, array in metalhead(model, variables).items()}
    source = find_source(family, "flux")
    converted = jax.tree.map(np.asarray, convert(arrays, source, variables))
    jax.tree.map(np.testing.assert_array_equal, converted, jax.device_get(variables))
    assert count_classes(arrays, source) == 5
