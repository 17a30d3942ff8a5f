"""Conversion of other frameworks' weights: names, layouts and mismatches."""

import jax
import numpy as np
import pytest

from zoo_pretrained.checkpoint import flatten_variables, unflatten_variables
from zoo_pretrained.convert import ConversionError, convert, count_classes, find_source
from zoo_pretrained.convert.frameworks import KERAS
from zoo_pretrained.convert.rules import Rule
from zoo_pretrained.convert.source import Source
from zoo_pretrained.lazy_array import LazyArray

RULES = ((r"c(?P<block>\d+)\.(?:conv|bn)", "#/"), (r"fc", "head"))
SOURCE = Source(RULES)


def shape(*sides):
    return jax.ShapeDtypeStruct(sides, np.float32)


NORM = {"scale": shape(4), "bias": shape(4)}
SHAPES = {
    "params": {
        "stage1": {"block1": {"conv": {"kernel": shape(3, 2, 1, 4)}, "norm": NORM}},
        "stage2": {"block1": {"conv": {"kernel": shape(1, 1, 4, 6)}}},
        "head": {"kernel": shape(6, 5), "bias": shape(5)},
    },
    "batch_stats": {"stage1": {"block1": {"norm": {"mean": shape(4), "var": shape(4)}}}},
}


def torch_arrays():
    rng = np.random.default_rng(0)
    shapes_by_name = {
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
    return {name: rng.normal(size=s) for name, s in shapes_by_name.items()}


def converted(*args, **options):
    """The result of `convert` with NumPy arrays in place of lazy ones."""
    return jax.tree.map(np.asarray, convert(*args, **options))


def test_converts_names_and_layouts():
    arrays = torch_arrays()
    result = converted(arrays, SOURCE, SHAPES)
    assert {p: a.shape for p, a in flatten_variables(result)} == {
        p: a.shape for p, a in flatten_variables(SHAPES)
    }
    assert all(array.dtype == np.float32 for _, array in flatten_variables(result))
    flat = {path: np.float64(array) for path, array in flatten_variables(result)}
    # A depthwise kernel (out, 1, h, w), a dense one (out, in), and one of 1x1, entry by entry.
    depthwise = flat["params/stage1/block1/conv/kernel"]
    for o, i, j in np.ndindex(4, 3, 2):
        assert depthwise[i, j, 0, o] == pytest.approx(arrays["c0.conv.weight"][o, 0, i, j])
    for o, i in np.ndindex(5, 6):
        assert flat["params/head/kernel"][i, o] == pytest.approx(arrays["fc.weight"][o, i])
    for o, i in np.ndindex(6, 4):
        pointwise = flat["params/stage2/block1/conv/kernel"]
        assert pointwise[0, 0, i, o] == pytest.approx(arrays["c1.conv.weight"][o, i, 0, 0])
    mean = flat["batch_stats/stage1/block1/norm/mean"]
    np.testing.assert_allclose(mean, arrays["c0.bn.running_mean"], rtol=1e-6)


def test_blocks_are_ranked_whatever_their_numbers():
    """Sources skip numbers and write them in several parts; 10 comes behind 9, 3b before 4a."""
    for first, second in (("3", "7"), ("9", "10"), ("1.2", "1.10"), ("3b", "4a")):
        rules = ((r"c(?P<block>[\w.]+)\.(?:conv|bn)", "#/"), (r"fc", "head"))
        arrays = {
            name.replace("c1.", f"c{second}.").replace("c0.", f"c{first}."): array
            for name, array in torch_arrays().items()
        }
        result = converted(dict(reversed(arrays.items())), Source(rules), SHAPES)
        want = converted(torch_arrays(), SOURCE, SHAPES)
        jax.tree.map(np.testing.assert_array_equal, result, want)


def test_convolutions_and_norms_are_ranked_separately():
    """As in VGG, whose one list holds both: features.0, .1, .3 and .4."""
    rules = ((r"features\.(?P<block>\d+)", "#/"),)
    norm = {"scale": shape(2), "bias": shape(2)}
    layer = {"conv": {"kernel": shape(1, 1, 2, 2)}, "norm": norm}
    shapes = {"params": {"stage1": {"conv1": layer, "conv2": layer}}}
    names = {"0.weight": (2, 2, 1, 1), "1.weight": (2,), "1.bias": (2,)}
    arrays = {f"features.{name}": np.zeros(s) for name, s in names.items()} | {
        f"features.{int(name[0]) + 3}{name[1:]}": np.ones(s) for name, s in names.items()
    }
    for path, array in flatten_variables(converted(arrays, Source(rules), shapes)):
        assert (array == float("conv2" in path)).all(), path


def test_permutes_the_rows_of_a_dense_layer_after_a_flatten():
    """From the order channels, height, width to ours: height, width, channels."""
    rules = (Rule(r"fc", "fc", flattened=(2, 3, 4)),)
    shapes = {"params": {"fc": {"kernel": shape(24, 5), "bias": shape(5)}}}
    weight = np.random.default_rng(0).normal(size=(5, 24))
    image = np.random.default_rng(1).normal(size=(2, 3, 4))
    result = converted({"fc.weight": weight, "fc.bias": np.zeros(5)}, Source(rules), shapes)
    ours = image.transpose(1, 2, 0).ravel() @ result["params"]["fc"]["kernel"]
    np.testing.assert_allclose(ours, weight @ image.ravel(), rtol=1e-5)


def test_lists_every_mismatch_in_one_error():
    arrays = torch_arrays()
    arrays["extra.weight"] = arrays.pop("c0.bn.bias")
    arrays["fc.weight"] = arrays["fc.weight"].T
    arrays["c7.conv.weight"] = arrays["c1.conv.weight"]
    arrays["fc.momentum"] = np.ones(5)
    arrays["c1.bn.weight"] = np.ones((2, 2, 2))
    with pytest.raises(ConversionError) as raised:
        convert(arrays, SOURCE, SHAPES)
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


def test_raises_for_two_arrays_of_one_parameter():
    rules = (*RULES, (r"again", "head"))
    with pytest.raises(ConversionError, match=r"again.bias: params/head/bias is filled already"):
        convert({**torch_arrays(), "again.bias": np.ones(5)}, Source(rules), SHAPES)


def test_nothing_is_copied():
    arrays = {name: np.float32(array) for name, array in torch_arrays().items()}
    for path, array in flatten_variables(convert(arrays, SOURCE, SHAPES)):
        assert isinstance(array, LazyArray)
        assert any(np.shares_memory(array.view, theirs) for theirs in arrays.values()), path


def test_dense_layers_from_convolutions():
    """A 1x1 convolution, and one of the size of what another library flattens."""
    shapes = {
        "params": {
            "fc": {"kernel": shape(24, 5), "bias": shape(5)},
            "head": {"kernel": shape(5, 2), "bias": shape(2)},
        }
    }
    rng = np.random.default_rng(0)
    sides = {"fc.weight": (5, 2, 3, 4), "fc.bias": (5,), "to.weight": (2, 5, 1, 1), "to.bias": (2,)}
    arrays = {name: rng.normal(size=s) for name, s in sides.items()}
    rules = ((r"fc", "fc"), (r"to", "head"))
    params = converted(arrays, Source(rules), shapes, dtype=np.float64)["params"]
    image = rng.normal(size=(2, 3, 4))
    want = np.tensordot(arrays["fc.weight"], image, 3)
    np.testing.assert_allclose(image.transpose(1, 2, 0).ravel() @ params["fc"]["kernel"], want)
    np.testing.assert_array_equal(params["head"]["kernel"], arrays["to.weight"][:, :, 0, 0].T)
    assert count_classes(arrays, Source(rules)) == 2


def test_subtracts_a_bias_before_a_norm_from_its_mean():
    arrays = torch_arrays()
    arrays["c0.conv.bias"] = np.arange(4.0)
    result = dict(flatten_variables(converted(arrays, SOURCE, SHAPES)))
    want = arrays["c0.bn.running_mean"] - np.arange(4.0)
    np.testing.assert_allclose(
        result["batch_stats/stage1/block1/norm/mean"], np.float32(want), rtol=1e-6
    )
    arrays["c0.conv.bias"] = np.arange(5.0)
    with pytest.raises(ConversionError, match=r"c0.conv.bias: .* has shape \(4,\), not \(5,\)"):
        convert(arrays, SOURCE, SHAPES)
    rules = (*RULES, (r"more", "stage1/block1/conv"))
    arrays |= {"c0.conv.bias": np.ones(4), "more.bias": np.ones(4)}
    with pytest.raises(ConversionError, match=r"more.bias: .*conv/bias is filled already"):
        convert(arrays, Source(rules), SHAPES)


def test_ranks_only_the_blocks_that_have_the_layer_of_the_rule():
    """The numbers of unnamed layers depend on what was built before."""
    layer = {"conv": {"kernel": shape(1, 1, 2, 2)}}
    shapes = {"params": {"stage1": {"block1": {"a": layer, "b": layer}, "block2": {"a": layer}}}}
    shapes["params"]["stage2"] = {"block1": {"a": layer, "b": layer}}
    names = ["a1", "a2", "a3", "conv2d_9", "conv2d_10"]
    arrays = {f"{name}/kernel": np.full((1, 1, 2, 2), float(i)) for i, name in enumerate(names)}
    rules = ((r"a(?P<block>\d)", "#/a/"), (r"conv2d_?(?P<block>\d*)", "*/b/"))
    result = dict(flatten_variables(converted(arrays, Source(rules, KERAS), shapes)))
    assert {path.removeprefix("params/")[:15]: int(a.flat[0]) for path, a in result.items()} == {
        "stage1/block1/a": 0,
        "stage1/block2/a": 1,
        "stage2/block1/a": 2,
        "stage1/block1/b": 3,
        "stage2/block1/b": 4,
    }


def test_a_rule_that_applies_only_beside_another_module():
    """timm's "5.bn1" is one of two layers, which the module beside it tells."""
    rules = (
        Rule(r"(\d)\.bn", "last", beside=r"\1.conv"),
        (r"(\d).conv", "conv"),
        (r"\d\.bn", "first"),
    )
    layer = {"scale": shape(2)}
    shapes = {"params": {"first": layer, "last": layer, "conv": {"kernel": shape(1, 1, 2, 2)}}}
    arrays = {"4.bn.weight": np.zeros(2), "5.bn.weight": np.ones(2)}
    arrays["5.conv.weight"] = np.ones((2, 2, 1, 1))
    params = converted(arrays, Source(rules), shapes)["params"]
    assert (params["first"]["scale"] == 0).all()
    assert (params["last"]["scale"] == 1).all()


def test_leaves_out_optional_modules():
    arrays = torch_arrays()
    without = {name: array for name, array in arrays.items() if not name.startswith("fc")}
    for given in (arrays, without):
        result = converted(given, SOURCE, SHAPES, optional={"head", "fc6"})
        want = converted(arrays, SOURCE, SHAPES)
        del want["params"]["head"]
        jax.tree.map(np.testing.assert_array_equal, result, want)
    with pytest.raises(ConversionError, match="head/kernel: nothing fills it"):
        convert(without, SOURCE, SHAPES)
    assert count_classes(arrays, SOURCE) == 5
    assert count_classes(without, SOURCE) is None


KERAS_SOURCE = Source(
    (
        (r"dw", "stage1/block1/"),
        (r"bn", "stage1/block1/"),
        (r"sep/depthwise", "stage2/block1/depthwise"),
        (r"sep/pointwise", "stage2/block1"),
        (r"top", "head"),
    ),
    KERAS,
)


@pytest.mark.parametrize("kernel", ["kernel", "depthwise_kernel"])
def test_keras_layouts(kernel):
    """Keras 3 and Keras 2 call a depthwise convolution's kernel one or the other."""
    rng = np.random.default_rng(0)
    sides = {
        "dw/kernel": (3, 2, 2, 2),
        "bn/gamma": (4,),
        "bn/beta": (4,),
        "bn/moving_mean": (4,),
        "bn/moving_variance": (4,),
        "sep/depthwise_kernel": (3, 3, 4, 1),
        "sep/pointwise_kernel": (1, 1, 4, 6),
        "top/kernel": (6, 5),
        "top/bias": (5,),
    }
    arrays = {name: rng.normal(size=s) for name, s in sides.items()}
    given = {name.replace("dw/kernel", f"dw/{kernel}"): a for name, a in arrays.items()}
    shapes = unflatten_variables(dict(flatten_variables(SHAPES)) | {
        "params/stage2/block1/kernel": shape(1, 1, 4, 6),
        "params/stage2/block1/depthwise/kernel": shape(3, 3, 1, 4),
    })  # fmt: skip
    del shapes["params"]["stage2"]["block1"]["conv"]
    result = dict(flatten_variables(converted(given, KERAS_SOURCE, shapes, dtype=np.float64)))
    depthwise = result["params/stage1/block1/conv/kernel"]
    for h, w, c, m in np.ndindex(3, 2, 2, 2):  # each channel's outputs are neighbours
        assert depthwise[h, w, 0, 2 * c + m] == arrays["dw/kernel"][h, w, c, m]
    for path, name in {
        "params/stage1/block1/norm/scale": "bn/gamma",
        "params/stage1/block1/norm/bias": "bn/beta",
        "batch_stats/stage1/block1/norm/mean": "bn/moving_mean",
        "batch_stats/stage1/block1/norm/var": "bn/moving_variance",
        "params/stage2/block1/kernel": "sep/pointwise_kernel",
        "params/head/kernel": "top/kernel",
        "params/head/bias": "top/bias",
    }.items():
        np.testing.assert_array_equal(result[path], arrays[name])
    separable = result["params/stage2/block1/depthwise/kernel"][:, :, 0]
    np.testing.assert_array_equal(separable, arrays["sep/depthwise_kernel"][..., 0])
    assert count_classes(given, KERAS_SOURCE) == 5


def test_raises_for_an_unknown_source():
    with pytest.raises(ValueError, match=r"no source 'caffe'; it has: torchvision, .*flux$"):
        find_source("resnet", "caffe")
