"""Conversion of PyTorch state dicts: names, layouts, and what does not fit."""

import jax
import numpy as np
import pytest

from pretrained.convert import ConversionError, as_cross_correlation, from_torch
from pretrained.store import leaves

RULES = ((r"c(?P<block>\d+)\.(?:conv|bn)", "#/"), (r"fc", "head"))


def shape(*sides):
    return jax.ShapeDtypeStruct(sides, np.float32)


NORM = {"scale": shape(4), "bias": shape(4)}
TEMPLATE = {
    "params": {
        "stage1": {"block1": {"conv": {"kernel": shape(3, 2, 1, 4)}, "norm": NORM}},
        "stage2": {"block1": {"conv": {"kernel": shape(1, 1, 4, 6)}}},
        "head": {"kernel": shape(6, 5), "bias": shape(5)},
    },
    "batch_stats": {"stage1": {"block1": {"norm": {"mean": shape(4), "var": shape(4)}}}},
}


def state():
    rng = np.random.default_rng(0)
    shapes = {
        "c0.conv.weight": (4, 1, 3, 2),
        "c0.bn.weight": (4,),
        "c0.bn.bias": (4,),
        "c0.bn.running_mean": (4,),
        "c0.bn.running_var": (4,),
        "c0.bn.num_batches_tracked": (),
        "c1.conv.weight": (6, 4, 1, 1),
        "fc.weight": (5, 6),
        "fc.bias": (5,),
    }
    return {name: rng.normal(size=s) for name, s in shapes.items()}


def test_names_and_layouts():
    source = state()
    converted = from_torch(source, RULES, TEMPLATE)
    assert {p: a.shape for p, a in leaves(converted)} == {p: a.shape for p, a in leaves(TEMPLATE)}
    assert all(array.dtype == np.float32 for _, array in leaves(converted))
    flat = {path: np.float64(array) for path, array in leaves(converted)}
    # A depthwise kernel (out, 1, h, w), a dense one (out, in), and one of 1x1, entry by entry.
    depthwise = flat["params/stage1/block1/conv/kernel"]
    for o, i, j in np.ndindex(4, 3, 2):
        assert depthwise[i, j, 0, o] == pytest.approx(source["c0.conv.weight"][o, 0, i, j])
    for o, i in np.ndindex(5, 6):
        assert flat["params/head/kernel"][i, o] == pytest.approx(source["fc.weight"][o, i])
    for o, i in np.ndindex(6, 4):
        pointwise = flat["params/stage2/block1/conv/kernel"]
        assert pointwise[0, 0, i, o] == pytest.approx(source["c1.conv.weight"][o, i, 0, 0])
    mean = flat["batch_stats/stage1/block1/norm/mean"]
    np.testing.assert_allclose(mean, source["c0.bn.running_mean"], rtol=1e-6)


def test_blocks_are_ranked_whatever_their_numbers():
    """Sources skip numbers and write them in several parts; 10 comes behind 9, 3b before 4a."""
    for first, second in (("3", "7"), ("9", "10"), ("1.2", "1.10"), ("3b", "4a")):
        rules = ((r"c(?P<block>[\w.]+)\.(?:conv|bn)", "#/"), (r"fc", "head"))
        source = {
            name.replace("c1.", f"c{second}.").replace("c0.", f"c{first}."): array
            for name, array in state().items()
        }
        converted = from_torch(dict(reversed(source.items())), rules, TEMPLATE)
        want = from_torch(state(), RULES, TEMPLATE)
        jax.tree.map(np.testing.assert_array_equal, converted, want)


def test_convolutions_and_norms_are_ranked_apart():
    """As in VGG, whose one list holds both: features.0, .1, .3 and .4."""
    rules = ((r"features\.(?P<block>\d+)", "#/"),)
    norm = {"scale": shape(2), "bias": shape(2)}
    layer = {"conv": {"kernel": shape(1, 1, 2, 2)}, "norm": norm}
    template = {"params": {"stage1": {"conv1": layer, "conv2": layer}}}
    names = {"0.weight": (2, 2, 1, 1), "1.weight": (2,), "1.bias": (2,)}
    source = {f"features.{name}": np.zeros(s) for name, s in names.items()} | {
        f"features.{int(name[0]) + 3}{name[1:]}": np.ones(s) for name, s in names.items()
    }
    converted = dict(leaves(from_torch(source, rules, template)))
    for path, array in converted.items():
        assert (array == float("conv2" in path)).all(), path


def test_the_rows_of_a_dense_layer_after_a_flatten():
    """Channels, height and width were flattened in this order; ours are height, width, channels."""
    rules = ((r"fc", "fc", (2, 3, 4)),)
    template = {"params": {"fc": {"kernel": shape(24, 5), "bias": shape(5)}}}
    weight = np.random.default_rng(0).normal(size=(5, 24))
    image = np.random.default_rng(1).normal(size=(2, 3, 4))
    converted = from_torch({"fc.weight": weight, "fc.bias": np.zeros(5)}, rules, template)
    ours = image.transpose(1, 2, 0).ravel() @ converted["params"]["fc"]["kernel"]
    np.testing.assert_allclose(ours, weight @ image.ravel(), rtol=1e-5)


def test_everything_amiss_is_in_one_error():
    source = state()
    source["extra.weight"] = source.pop("c0.bn.bias")
    source["fc.weight"] = source["fc.weight"].T
    source["c7.conv.weight"] = source["c1.conv.weight"]
    source["fc.momentum"] = np.ones(5)
    source["c1.bn.weight"] = np.ones((2, 2, 2))
    with pytest.raises(ConversionError) as raised:
        from_torch(source, RULES, TEMPLATE)
    text = str(raised.value)
    for line in (
        "extra.weight: no rule maps it",
        "c7.conv.weight: no rule maps it",
        "fc.momentum: no rule maps it",
        "c1.bn.weight: no rule maps it",
        "fc.weight: params/head/kernel has shape (6, 5), not (5, 6)",
        "params/stage1/block1/norm/bias: nothing fills it",
        "params/head/kernel: nothing fills it",
    ):
        assert line in text


def test_two_sources_of_one_parameter():
    rules = (*RULES, (r"again", "head"))
    with pytest.raises(ConversionError, match=r"again.bias: params/head/bias is filled already"):
        from_torch({**state(), "again.bias": np.ones(5)}, rules, TEMPLATE)


def test_kernels_for_convolution_are_turned():
    kernel = np.arange(6.0).reshape(2, 3, 1, 1)
    tree = {"params": {"conv": {"kernel": kernel}, "head": {"kernel": np.arange(6).reshape(2, 3)}}}
    same = as_cross_correlation(tree, "cross-correlation")["params"]
    turned = as_cross_correlation(tree, "convolution")["params"]
    assert same["conv"]["kernel"].ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert turned["conv"]["kernel"].ravel().tolist() == [5, 4, 3, 2, 1, 0]
    assert turned["head"]["kernel"].ravel().tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="got 'flux'"):
        as_cross_correlation(tree, "flux")
