"""Which parameters patterns of paths select."""

import jax
import pytest

import zoo
from zoo.training import paths
from zoo_pretrained.checkpoint import flatten_variables

PATHS = (
    "stem/conv/kernel",
    "stem/norm/scale",
    "stage1/block1/conv1/kernel",
    "stage1/block1/norm1/scale",
    "stage1/norm/bias",
    "stage2/block1/conv1/kernel",
    "stage10/block1/conv1/kernel",
    "head/kernel",
    "head/bias",
)


def selected(*patterns):
    return [path for path in PATHS if paths.matches(path, patterns)]


def those_with(*beginnings):
    return [path for path in PATHS if path.startswith(beginnings)]


@pytest.mark.parametrize(
    ("patterns", "want"),
    [
        ((), []),
        (("stem",), those_with("stem/")),
        (("/stem/",), those_with("stem/")),
        (("stem/conv",), ["stem/conv/kernel"]),
        (("stem/conv/kernel",), ["stem/conv/kernel"]),
        (("stem/conv/kernel/more",), []),
        (("stage1",), those_with("stage1/")),
        (("stage[1-3]",), those_with("stage1/", "stage2/")),
        (("stage[1-3]/**",), those_with("stage1/", "stage2/")),
        (("stage*",), those_with("stage")),
        (("stage?",), those_with("stage1/", "stage2/")),
        (("stage*/block1/conv1",), [p for p in PATHS if "/conv1/" in p]),
        (("**/norm",), ["stem/norm/scale", "stage1/norm/bias"]),
        (("**/norm*",), [p for p in PATHS if "/norm" in p]),
        (("**/kernel",), [p for p in PATHS if p.endswith("kernel")]),
        (("stage1/**/scale",), ["stage1/block1/norm1/scale"]),
        (("*",), [*PATHS]),
        (("**",), [*PATHS]),
        (("*/*",), [*PATHS]),
        (("*/block1",), [p for p in PATHS if "/block1/" in p]),
        (("stem", "head"), those_with("stem/", "head/")),
        (("**", "!head"), [p for p in PATHS if not p.startswith("head/")]),
        (("!head",), []),
        (("**", "!stem", "stem/norm"), [p for p in PATHS if p != "stem/conv/kernel"]),
        (("STEM",), []),
        (("ste",), []),
        (("",), []),
        (("!",), []),
    ],
)
def test_patterns_select_modules_and_what_is_in_them(patterns, want):
    assert selected(*patterns) == want


@pytest.mark.parametrize("patterns", [(), ("stem",), ("**", "!head"), ("stage1", "!stage1/norm")])
def test_inverted_patterns_select_all_others(patterns):
    inside, outside = selected(*patterns), selected(*paths.invert(patterns))
    assert sorted(inside + outside) == sorted(PATHS)
    assert selected(*paths.invert(paths.invert(patterns))) == inside


@pytest.fixture(scope="module")
def params():
    return zoo.MobileNetV1(width=0.25).variable_shapes()["params"]


def test_a_split_tells_parameters_apart_and_merging_undoes_it(params):
    inside, outside = paths.split(params, ["stem", "**/norm"])
    assert set(inside) == set(params) - {"head"}
    assert set(inside["stage1"]["block1"]["pointwise"]) == {"norm"}
    assert set(outside) == set(params) - {"stem"}
    assert len(jax.tree.leaves(inside)) + len(jax.tree.leaves(outside)) == len(
        jax.tree.leaves(params)
    )
    assert paths.merge(inside, outside) == params
    assert sorted(path for path, _ in flatten_variables(inside)) == sorted(
        path for path, _ in flatten_variables(params) if "norm" in path or path.startswith("stem")
    )


@pytest.mark.parametrize("patterns", [(), ("stem",), ("**/norm", "!head"), ("stage[1-3]/**",)])
def test_patterns_that_match_something_pass(params, patterns):
    paths.check_patterns("freeze", patterns, params)


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("stage9", "did you mean stage5 or stage4 or stage3"),
        ("!heads", "did you mean head"),
        ("stage1/block1/pointwise/nrom", "did you mean stage1/block1/pointwise/norm or"),
        ("", "the outermost are head, stage1, stage2, stage3, stage4, stage5, stem"),
    ],
)
def test_a_pattern_that_matches_nothing_is_named_with_what_there_is(params, pattern, hint):
    with pytest.raises(ValueError, match="matches no module") as caught:
        paths.check_patterns("freeze", ["stem", pattern], params)
    assert str(caught.value).startswith(f"freeze: {pattern.removeprefix('!')!r} matches no module")
    assert hint in str(caught.value)
