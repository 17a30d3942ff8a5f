"""Occlusion and RISE, against closed forms and plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.models.small_models import small
from tests.zoo.visualize.by_hand import SIZE, linear, photo, pixels
from zoo.checkpoints.load import as_trained
from zoo.visualize.gradients import ArgumentError, make_baseline
from zoo.visualize.inputs import prepare_inputs
from zoo.visualize.perturbation import draw_masks, occlusion, rise, split_evenly

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(3, SIZE, SIZE, 3))


@functools.cache
def net():
    return linear(WEIGHTS, [0.5, 0, -0.5])


@functools.cache
def small_trained():
    model, variables, _ = small("mobilenet_v2")
    return as_trained(model, variables)


def starts(side, window, stride):
    """Of windows, until one reaches the end."""
    found = [0]
    while found[-1] + window < side:
        found.append(found[-1] + stride)
    return found


def mean_fall(score, x, fill, window, stride):
    """The definition: the mean fall of score(x) over the windows that cover a pixel."""
    total, times = np.zeros(x.shape[:2]), np.zeros(x.shape[:2])
    for top in starts(x.shape[0], window[0], stride[0]):
        for left in starts(x.shape[1], window[1], stride[1]):
            part = np.s_[top : top + window[0], left : left + window[1]]
            covered = x.copy()
            covered[part] = fill if np.ndim(fill) == 0 else fill[part]
            total[part] += score(x) - score(covered)
            times[part] += 1
    return total / times


@pytest.mark.parametrize(
    ("window", "stride", "fill"),
    [(3, 1, 0.0), ((3, 2), (2, 1), 0.25), ((8, 5), 3, "white"), (1, 1, "black"), (4, 3, "blur")],
)
def test_occlusion_of_a_linear_net(window, stride, fill):
    x = pixels(photo())
    pair = window if isinstance(window, tuple) else (window, window)
    steps = stride if isinstance(stride, tuple) else (stride, stride)
    value = {"white": 1.0, "black": 0.0}.get(fill, fill)
    if fill == "blur":
        value = np.asarray(make_baseline(prepare_inputs(net(), photo()), 0, "blur", 0))
    a = occlusion(net(), photo(), [0, 2], window=window, stride=stride, fill=fill)
    for row, target in enumerate((0, 2)):
        expected = mean_fall(lambda x, t=target: (WEIGHTS[t] * x).sum(), x, value, pair, steps)
        np.testing.assert_allclose(a.maps[row], expected, rtol=1e-4, atol=2e-5)
    assert a.labels == ("kind 0", "kind 2")
    assert a.settings == {"window": pair, "stride": steps, "fill": fill}


def test_windows_of_one_pixel_give_each_pixel_its_own_term():
    a = occlusion(net(), photo(), 1, window=1, stride=1)
    np.testing.assert_allclose(a.maps[0], (WEIGHTS[1] * pixels(photo())).sum(-1), atol=2e-5)


def test_occlusion_of_a_convolutional_net_with_norms():
    t, size = small_trained(), 40
    inputs = prepare_inputs(t, [photo(0, 60), photo(1, 60)], [1, 3], size=size)
    a = occlusion(t, inputs, window=16, stride=12, batch_size=4)
    for row, target in enumerate((1, 3)):
        expected = mean_fall(
            lambda x, k=target: float(t(np.float32(x[None]))[0, k]),
            np.asarray(inputs.x[row]), 0.0, (16, 16), (12, 12),
        )  # fmt: skip
        np.testing.assert_allclose(a.maps[row], expected, rtol=1e-3, atol=1e-4)


def test_default_windows_are_a_seventh_and_cover_the_image():
    a = occlusion(small_trained(), photo(0, 60), size=42)
    assert (a.settings["window"], a.settings["stride"]) == ((6, 6), (2, 2))
    assert np.isfinite(a.maps).all()


def test_batches_have_one_length():
    assert [b.tolist() for b in split_evenly(7, 3)] == [[0, 1, 2], [3, 4, 5], [6, 0, 1]]
    assert [b.tolist() for b in split_evenly(8, 7)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [b.tolist() for b in split_evenly(2, 16)] == [[0, 1]]


@pytest.mark.parametrize("sides", [(21, 21), (16, 23)])
def test_masks_are_cells_enlarged_and_shifted(sides):
    cells, keep, key = 4, 0.3, jax.random.key(5)
    masks = np.asarray(draw_masks(key, jnp.arange(3), cells, keep, sides))
    for number in range(3):
        seen, down, across = jax.random.split(jax.random.fold_in(key, number), 3)
        grid = jax.random.bernoulli(seen, keep, (cells, cells)).astype(float)
        cell = [-(-side // cells) for side in sides]
        large = jax.image.resize(grid, [(cells + 1) * c for c in cell], "linear")
        y, x = (
            int(jax.random.randint(k, (), 0, c)) for k, c in zip((down, across), cell, strict=True)
        )
        expected = large[y : y + sides[0], x : x + sides[1]]
        np.testing.assert_allclose(masks[number], expected, atol=1e-6)


def test_masks_keep_their_share():
    masks = draw_masks(jax.random.key(0), jnp.arange(4000), 3, 0.2, (12, 12))
    # At most the variance of one cell: five standard deviations of the mean.
    assert np.abs(np.asarray(masks).mean(0) - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 4000)


@pytest.mark.parametrize("center", [True, False])
def test_rise_is_the_sum_of_its_definition(center):
    t, size, count, keep = small_trained(), 40, 11, 0.4
    inputs = prepare_inputs(t, photo(0, 60), [0, 4], size=size)
    settings = {"masks": count, "cells": 3, "keep": keep, "center": center, "seed": 9}
    a = rise(t, inputs, **settings, batch_size=4)
    masks = draw_masks(jax.random.key(9), jnp.arange(count), 3, keep, (size, size))
    p = np.float64(t.probabilities(inputs.x[0] * masks[..., None]))
    masks = np.float64(masks)
    for row, target in enumerate((0, 4)):
        scores = p[:, target] - (p[:, target].mean() if center else 0)
        expected = sum(s * mask for s, mask in zip(scores, masks, strict=True)) / (count * keep)
        np.testing.assert_allclose(a.maps[row], expected, atol=2e-6)
    assert a.settings == settings


def test_rise_finds_what_a_nearly_linear_probability_depends_on():
    # p = σ(z) ≈ 1/2 + z/4 for small z. With as many cells as pixels masks are not shifted, so the
    # masks' covariance is known: keep (1 − keep) (R Rᵀ)[i, i'] (R Rᵀ)[j, j'].
    weights = np.stack([0.01 * WEIGHTS[0], 0 * WEIGHTS[0]])
    t, keep, count = linear(weights, [0, 0]), 0.5, 20_000
    a = rise(t, photo(), 0, masks=count, cells=SIZE, keep=keep, batch_size=1000)
    enlarge = np.float64(jax.image.resize(jnp.eye(SIZE), (SIZE + 1, SIZE), "linear"))[:SIZE]
    both = enlarge @ enlarge.T
    terms = (weights[0] * pixels(photo())).sum(-1) / 4
    expected = (1 - keep) * both @ terms @ both
    # A pixel's map is the mean of products of p, of this standard deviation, and masks up to 1.
    spread = np.sqrt((terms**2).sum() * keep * (1 - keep)) / keep
    np.testing.assert_allclose(a.maps[0], expected, atol=5 * spread / np.sqrt(count))
    assert np.corrcoef(a.maps[0].ravel(), expected.ravel())[0, 1] > 0.97


def test_rise_depends_on_the_seed_alone():
    make = functools.partial(rise, net(), photo(), 0, masks=9, cells=2)
    a = make(batch_size=4).maps
    np.testing.assert_array_equal(a, make(batch_size=4).maps)
    np.testing.assert_allclose(a, make(batch_size=9).maps, atol=1e-6)
    assert np.abs(a - make(seed=1).maps).max() > 1e-3


def test_rise_tells_its_progress():
    calls = []
    rise(net(), [photo(0), photo(1)], 0, masks=5, batch_size=2, progress=lambda *c: calls.append(c))
    assert calls == [(2, 10), (4, 10), (5, 10), (7, 10), (9, 10), (10, 10)]


def test_occlusion_tells_its_progress():
    calls = []
    options = {"window": 4, "stride": 4, "batch_size": 2}
    progress = {"progress": lambda *call: calls.append(call)}
    a = occlusion(net(), [photo(0), photo(1)], 0, fill=np.float32(0.5), **options, **progress)
    # Four windows, and the image as it is.
    assert calls == [(2, 10), (4, 10), (5, 10), (7, 10), (9, 10), (10, 10)]
    assert a.settings["fill"] == 0.5


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (occlusion, {"window": 9}, r"window must be a number or a pair, at most \(8, 8\).*got 9"),
        (occlusion, {"window": 0}, "window must be an integer of at least 1, got 0"),
        (occlusion, {"window": (1, 2, 3)}, r"window must be .*got \(1, 2, 3\)"),
        (occlusion, {"window": 2, "stride": 3}, r"stride must be .*as the window, got 3"),
        (occlusion, {"fill": "red"}, "'red'"),
        (occlusion, {"batch_size": 0}, "batch_size must be"),
        (rise, {"masks": 0}, "masks must be"),
        (rise, {"cells": 1.5}, "cells must be"),
        (rise, {"keep": 1}, "keep must be a number between 0 and 1, got 1"),
        (rise, {"keep": "a"}, "keep must be a number between 0 and 1, got 'a'"),
        (rise, {"batch_size": "two"}, "batch_size must be"),
    ],
)
def test_bad_settings(method, settings, message):
    with pytest.raises(ArgumentError, match=message):
        method(net(), photo(), 0, **settings)
