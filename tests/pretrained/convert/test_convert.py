"""Conversion of other frameworks' weights: names, layouts, and what does not fit."""

import jax
import numpy as np
import pytest

from zoo_pretrained.checkpoint import flatten_variables, unflatten_variables
from zoo_pretrained.convert import ConversionError, convert, count_classes
from zoo_pretrained.lazy_array import LazyArray

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


def converted(*args, **options):
    """As `convert`, but all arrays NumPy's."""
    return jax.tree.map(np.asarray, convert(*args, **options))


def test_names_and_layouts():
    source = state()
    made = converted(source, RULES, TEMPLATE)
    assert {p: a.shape for p, a in flatten_variables(made)} == {
        p: a.shape for p, a in flatten_variables(TEMPLATE)
    }
    assert all(array.dtype == np.float32 for _, array in flatten_variables(made))
    flat = {path: np.float64(array) for path, array in flatten_variables(made)}
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
        table = ((r"c(?P<block>[\w.]+)\.(?:conv|bn)", "#/"), (r"fc", "head"))
        source = {
            name.replace("c1.", f"c{second}.").replace("c0.", f"c{first}."): array
            for name, array in state().items()
        }
        made = converted(dict(reversed(source.items())), table, TEMPLATE)
        want = converted(state(), RULES, TEMPLATE)
        jax.tree.map(np.testing.assert_array_equal, made, want)


def test_convolutions_and_norms_are_ranked_apart():
    """As in VGG, whose one list holds both: features.0, .1, .3 and .4."""
    table = ((r"features\.(?P<block>\d+)", "#/"),)
    norm = {"scale": shape(2), "bias": shape(2)}
    layer = {"conv": {"kernel": shape(1, 1, 2, 2)}, "norm": norm}
    template = {"params": {"stage1": {"conv1": layer, "conv2": layer}}}
    names = {"0.weight": (2, 2, 1, 1), "1.weight": (2,), "1.bias": (2,)}
    source = {f"features.{name}": np.zeros(s) for name, s in names.items()} | {
        f"features.{int(name[0]) + 3}{name[1:]}": np.ones(s) for name, s in names.items()
    }
    for path, array in flatten_variables(converted(source, table, template)):
        assert (array == float("conv2" in path)).all(), path


def test_the_rows_of_a_dense_layer_after_a_flatten():
    """Channels, height and width were flattened in this order; ours are height, width, channels."""
    table = ((r"fc", "fc", (2, 3, 4)),)
    template = {"params": {"fc": {"kernel": shape(24, 5), "bias": shape(5)}}}
    weight = np.random.default_rng(0).normal(size=(5, 24))
    image = np.random.default_rng(1).normal(size=(2, 3, 4))
    made = converted({"fc.weight": weight, "fc.bias": np.zeros(5)}, table, template)
    ours = image.transpose(1, 2, 0).ravel() @ made["params"]["fc"]["kernel"]
    np.testing.assert_allclose(ours, weight @ image.ravel(), rtol=1e-5)


def test_everything_amiss_is_in_one_error():
    source = state()
    source["extra.weight"] = source.pop("c0.bn.bias")
    source["fc.weight"] = source["fc.weight"].T
    source["c7.conv.weight"] = source["c1.conv.weight"]
    source["fc.momentum"] = np.ones(5)
    source["c1.bn.weight"] = np.ones((2, 2, 2))
    with pytest.raises(ConversionError) as raised:
        convert(source, RULES, TEMPLATE)
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
    table = (*RULES, (r"again", "head"))
    with pytest.raises(ConversionError, match=r"again.bias: params/head/bias is filled already"):
        convert({**state(), "again.bias": np.ones(5)}, table, TEMPLATE)


def test_nothing_is_copied():
    source = {name: np.float32(array) for name, array in state().items()}
    for path, array in flatten_variables(convert(source, RULES, TEMPLATE)):
        assert isinstance(array, LazyArray)
        assert any(np.shares_memory(array.view, theirs) for theirs in source.values()), path


def test_dense_layers_from_convolutions():
    """Of 1x1, and of the size of what another library flattens: rows are height, width, in."""
    template = {
        "params": {
            "fc": {"kernel": shape(24, 5), "bias": shape(5)},
            "head": {"kernel": shape(5, 2), "bias": shape(2)},
        }
    }
    rng = np.random.default_rng(0)
    sides = {"fc.weight": (5, 2, 3, 4), "fc.bias": (5,), "to.weight": (2, 5, 1, 1), "to.bias": (2,)}
    source = {name: rng.normal(size=s) for name, s in sides.items()}
    table = ((r"fc", "fc"), (r"to", "head"))
    params = converted(source, table, template, dtype=np.float64)["params"]
    image = rng.normal(size=(2, 3, 4))
    want = np.tensordot(source["fc.weight"], image, 3)
    np.testing.assert_allclose(image.transpose(1, 2, 0).ravel() @ params["fc"]["kernel"], want)
    np.testing.assert_array_equal(params["head"]["kernel"], source["to.weight"][:, :, 0, 0].T)
    assert count_classes(source, table) == 2


def test_a_bias_before_a_norm_is_taken_off_its_mean():
    source = state()
    source["c0.conv.bias"] = np.arange(4.0)
    made = dict(flatten_variables(converted(source, RULES, TEMPLATE)))
    want = source["c0.bn.running_mean"] - np.arange(4.0)
    np.testing.assert_allclose(
        made["batch_stats/stage1/block1/norm/mean"], np.float32(want), rtol=1e-6
    )
    source["c0.conv.bias"] = np.arange(5.0)
    with pytest.raises(ConversionError, match=r"c0.conv.bias: .* has shape \(4,\), not \(5,\)"):
        convert(source, RULES, TEMPLATE)
    table = (*RULES, (r"more", "stage1/block1/conv"))
    source |= {"c0.conv.bias": np.ones(4), "more.bias": np.ones(4)}
    with pytest.raises(ConversionError, match=r"more.bias: .*conv/bias is filled already"):
        convert(source, table, TEMPLATE)


def test_blocks_that_have_what_the_rule_names():
    """Numbers of layers without a name: they depend on what was built before."""
    layer = {"conv": {"kernel": shape(1, 1, 2, 2)}}
    template = {"params": {"stage1": {"block1": {"a": layer, "b": layer}, "block2": {"a": layer}}}}
    template["params"]["stage2"] = {"block1": {"a": layer, "b": layer}}
    names = ["a1", "a2", "a3", "conv2d_9", "conv2d_10"]
    source = {f"{name}/kernel": np.full((1, 1, 2, 2), i) for i, name in enumerate(names)}
    table = ((r"a(?P<block>\d)", "#/a/"), (r"conv2d_?(?P<block>\d*)", "*/b/"))
    made = dict(flatten_variables(converted(source, table, template, "keras")))
    assert {path.removeprefix("params/")[:15]: int(a.flat[0]) for path, a in made.items()} == {
        "stage1/block1/a": 0,
        "stage1/block2/a": 1,
        "stage2/block1/a": 2,
        "stage1/block1/b": 3,
        "stage2/block1/b": 4,
    }


def test_a_rule_that_holds_beside_another_module():
    """One library's "5.bn1" is two things, told apart by the module next to it."""
    table = ((r"(\d)\.bn", "last", r"\1.conv"), (r"(\d).conv", "conv"), (r"\d\.bn", "first"))
    layer = {"scale": shape(2)}
    template = {"params": {"first": layer, "last": layer, "conv": {"kernel": shape(1, 1, 2, 2)}}}
    source = {"4.bn.weight": np.zeros(2), "5.bn.weight": np.ones(2)}
    source["5.conv.weight"] = np.ones((2, 2, 1, 1))
    params = converted(source, table, template)["params"]
    assert (params["first"]["scale"] == 0).all()
    assert (params["last"]["scale"] == 1).all()


def test_modules_that_may_be_missing_are_left_out():
    source = state()
    without = {name: array for name, array in source.items() if not name.startswith("fc")}
    for given in (source, without):
        made = converted(given, RULES, TEMPLATE, optional={"head", "fc6"})
        want = converted(source, RULES, TEMPLATE)
        del want["params"]["head"]
        jax.tree.map(np.testing.assert_array_equal, made, want)
    with pytest.raises(ConversionError, match="head/kernel: nothing fills it"):
        convert(without, RULES, TEMPLATE)
    assert count_classes(source, RULES) == 5
    assert count_classes(without, RULES) is None


KERAS_RULES = (
    (r"dw", "stage1/block1/"),
    (r"bn", "stage1/block1/"),
    (r"sep/depthwise", "stage2/block1/depthwise"),
    (r"sep/pointwise", "stage2/block1"),
    (r"top", "head"),
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
    source = {name: rng.normal(size=s) for name, s in sides.items()}
    given = {name.replace("dw/kernel", f"dw/{kernel}"): a for name, a in source.items()}
    template = unflatten_variables(dict(flatten_variables(TEMPLATE)) | {
        "params/stage2/block1/kernel": shape(1, 1, 4, 6),
        "params/stage2/block1/depthwise/kernel": shape(3, 3, 1, 4),
    })  # fmt: skip
    del template["params"]["stage2"]["block1"]["conv"]
    made = dict(
        flatten_variables(converted(given, KERAS_RULES, template, "keras", dtype=np.float64))
    )
    depthwise = made["params/stage1/block1/conv/kernel"]
    for h, w, c, m in np.ndindex(3, 2, 2, 2):  # each channel's outputs are neighbours
        assert depthwise[h, w, 0, 2 * c + m] == source["dw/kernel"][h, w, c, m]
    for path, name in {
        "params/stage1/block1/norm/scale": "bn/gamma",
        "params/stage1/block1/norm/bias": "bn/beta",
        "batch_stats/stage1/block1/norm/mean": "bn/moving_mean",
        "batch_stats/stage1/block1/norm/var": "bn/moving_variance",
        "params/stage2/block1/kernel": "sep/pointwise_kernel",
        "params/head/kernel": "top/kernel",
        "params/head/bias": "top/bias",
    }.items():
        np.testing.assert_array_equal(made[path], source[name])
    separable = made["params/stage2/block1/depthwise/kernel"][:, :, 0]
    np.testing.assert_array_equal(separable, source["sep/depthwise_kernel"][..., 0])
    assert count_classes(given, KERAS_RULES, "keras") == 5


def test_an_unknown_source():
    with pytest.raises(ValueError, match=r"must be one of torch, .*flux, got 'caffe'"):
        convert(state(), RULES, TEMPLATE, "caffe")
