"""RoIAlign against loops that follow the definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from zoo.detection.roi_align import multiscale_roi_align, roi_align
from zoo.runtime.checks import ArgumentError

HEIGHT, WIDTH, CHANNELS = 9, 12, 3
# Inside, partly and wholly outside, without area, less than a pixel, the whole map and more.
BOXES = np.array(
    [
        [8, 10, 30, 26],
        [-10, -9, 12, 8],
        [30, 20, 60, 50],
        [100, 100, 120, 130],
        [10, 10, 10, 10],
        [10.1, 10.2, 10.5, 11],
        [0, 0, 48, 36],
        [-20, -20, 80, 70],
        [20, 5, 22, 33],
    ],
    np.float32,
)
SCALE = 0.25


def make_features(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pool(features, box, bins, points, aligned):
    """The means of one box in one map, [bins down, bins across, C], in float64."""
    x1, y1, x2, y2 = np.asarray(box, np.float64) * SCALE - 0.5 * aligned
    height, width = y2 - y1, x2 - x1
    if not aligned:
        height, width = max(height, 1), max(width, 1)
    down = points or int(np.ceil(height / bins[0]))
    across = points or int(np.ceil(width / bins[1]))
    result = np.zeros((*bins, features.shape[-1]))
    for p, q in np.ndindex(*bins):
        for i, j in np.ndindex(down, across):
            y = y1 + (p + (i + 0.5) / down) * height / bins[0]
            x = x1 + (q + (j + 0.5) / across) * width / bins[1]
            result[p, q] += interpolate(features, y, x) / (down * across)
    return result


def interpolate(features, y, x):
    """The features at a point, as if the map went on with its border for one pixel, then with 0."""
    height, width = features.shape[:2]
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = min(int(y), height - 2), min(int(x), width - 2)
    down, right = y - top, x - left
    upper = features[top, left] * (1 - right) + features[top, left + 1] * right
    lower = features[top + 1, left] * (1 - right) + features[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("points", [0, 1, 2, 3])
def test_definition(points, aligned):
    features = make_features(0, HEIGHT, WIDTH, CHANNELS)
    bins = (3, 2)
    pooled = roi_align(
        features,
        BOXES,
        output_size=bins,
        spatial_scale=SCALE,
        sampling_ratio=points,
        aligned=aligned,
    )
    expected = [pool(features, box, bins, points, aligned) for box in BOXES]
    # Places are up to 20 pixels, rounded to float32; features change by about 1 a pixel.
    np.testing.assert_allclose(pooled, expected, atol=1e-5)
    assert np.abs(expected[3]).max() == 0 < np.abs(expected[2]).max()


def test_batch():
    features = make_features(0, 2, HEIGHT, WIDTH, CHANNELS)
    numbers = np.arange(len(BOXES)) % 2
    function = functools.partial(roi_align, output_size=2, spatial_scale=SCALE, sampling_ratio=2)
    pooled = jax.jit(function)(features, BOXES, numbers)
    one_by_one = [function(features[n], BOXES) for n in range(2)]
    np.testing.assert_array_equal(pooled, np.where(numbers[:, None, None, None], *one_by_one[::-1]))
    mapped = jax.vmap(function, (0, None))(features, BOXES)
    np.testing.assert_allclose(mapped, one_by_one, atol=1e-6)


def test_number_of_boxes_does_not_matter():
    features = make_features(0, HEIGHT, WIDTH, CHANNELS)
    boxes = np.tile(BOXES, (12, 1))  # 108, of which 54 are worked on at once; 97 is prime
    function = functools.partial(roi_align, features, output_size=2, spatial_scale=SCALE)
    pooled = function(boxes)
    np.testing.assert_array_equal(function(boxes[:97]), pooled[:97])
    assert function(boxes[:0]).shape == (0, 2, 2, CHANNELS)


@pytest.mark.parametrize("points", [0, 2])
def test_boxes_that_are_not_finite_have_no_features(points):
    boxes = BOXES.copy()
    boxes[1], boxes[2, 3], boxes[4, 0] = np.nan, np.inf, -np.inf
    features = make_features(0, HEIGHT, WIDTH, CHANNELS)
    function = functools.partial(
        roi_align, output_size=2, spatial_scale=SCALE, sampling_ratio=points
    )
    pooled, expected = function(features, boxes), np.array(function(features, BOXES))
    expected[[1, 2, 4]] = 0
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


@pytest.mark.parametrize("points", [0, 2])
def test_gradients(points):
    features = make_features(0, 4, 5, 2)
    boxes = np.array([[2, 1, 15, 13], [-9, 4, 9, 30]], np.float32)
    function = functools.partial(
        roi_align, boxes=boxes, output_size=2, spatial_scale=SCALE, sampling_ratio=points
    )
    with jax.enable_x64(True):
        check_grads(function, (features.astype(np.float64),), order=2, modes=["rev"])
    gradient = jax.grad(lambda x: function(features, boxes=x).sum())(jnp.asarray(boxes))
    np.testing.assert_array_equal(gradient, jnp.zeros((2, 4)))


def test_low_precision():
    features = jnp.asarray(make_features(0, HEIGHT, WIDTH, CHANNELS), jnp.bfloat16)
    function = functools.partial(roi_align, boxes=BOXES, output_size=2, spatial_scale=SCALE)
    pooled = function(features)
    assert pooled.dtype == jnp.bfloat16
    # Sums are in float32: only the result is rounded.
    np.testing.assert_array_equal(
        pooled, function(features.astype(jnp.float32)).astype(jnp.bfloat16)
    )


def test_levels():
    image_size = (256, 320)
    shapes = [(64, 80), (32, 40), (16, 20), (8, 10)]
    # Each level has the value of its stride's logarithm.
    levels = [jnp.full((1, *shape, 1), number) for number, shape in enumerate(shapes, start=2)]
    levels = [x.astype(jnp.float32) for x in levels]
    sides = np.array([1, 111, 112, 223.9, 224, 447, 448, 2000])
    boxes = np.stack([0 * sides, 0 * sides, sides / 2, sides * 2], axis=1)[None]
    boxes = boxes.astype(np.float32)
    pooled = multiscale_roi_align(levels, boxes, image_size, output_size=1, sampling_ratio=1)
    # The middle of the box may be outside the image, where all is 0.
    inside = sides < 256
    expected = np.where(inside, [2, 2, 3, 3, 4, 4, 5, 5], 0)
    np.testing.assert_allclose(pooled.reshape(-1), expected, rtol=1e-6)
    small = levels[:2]
    pooled = multiscale_roi_align(small, boxes, image_size, output_size=1, sampling_ratio=1)
    np.testing.assert_allclose(pooled.reshape(-1)[inside], [2, 2, 3, 3, 3], rtol=1e-6)


def test_pyramid_is_roi_align_of_levels():
    shapes = [(64, 80), (32, 40), (16, 20), (8, 10)]
    levels = [make_features(n, 2, *shape, CHANNELS) for n, shape in enumerate(shapes)]
    random = np.random.default_rng(0)
    start, size = random.uniform(0, 200, (2, 25, 2)), np.exp(random.uniform(3, 7, (2, 25, 2)))
    boxes = np.concatenate([start, start + size], axis=-1).astype(np.float32)
    pooled = multiscale_roi_align(levels, boxes, (256, 320), output_size=2, sampling_ratio=2)
    chosen = np.clip(np.floor(4 + np.log2(np.sqrt(size.prod(-1)) / 224)), 2, 5).astype(int) - 2
    assert set(chosen.ravel()) == {0, 1, 2, 3}
    for image, number in np.ndindex(2, 25):
        level = chosen[image, number]
        expected = roi_align(
            levels[level][image],
            boxes[image, number][None],
            output_size=2,
            spatial_scale=0.25 / 2**level,
            sampling_ratio=2,
        )
        np.testing.assert_allclose(pooled[image, number], expected[0], atol=1e-6)


def test_wrong_arguments():
    features = jnp.zeros((4, 4, 1))
    with pytest.raises(ArgumentError, match=r"boxes \[R, 4\], got \(1, 4, 4, 1\) and \(5,\)"):
        roi_align(features, jnp.zeros(5), output_size=2)
    with pytest.raises(ArgumentError, match=r"batch_indices must be \[R\] = \(3,\), got \(2,\)"):
        roi_align(features, jnp.zeros((3, 4)), jnp.zeros(2, int), output_size=2)
    with pytest.raises(ArgumentError, match="sampling_ratio must be an integer of at least 0"):
        roi_align(features, jnp.zeros((3, 4)), output_size=2, sampling_ratio=-1)
    with pytest.raises(ArgumentError, match="output_size must be an integer of at least 1"):
        roi_align(features, jnp.zeros((3, 4)), output_size=(0, 2))
    with pytest.raises(ArgumentError, match="spatial_scale must be a number above 0"):
        roi_align(features, jnp.zeros((3, 4)), output_size=2, spatial_scale=0)
    with pytest.raises(ArgumentError, match=r"boxes must be \[N, R, 4\] with N = 1"):
        multiscale_roi_align([features[None]], jnp.zeros((3, 4)), (32, 32), output_size=2)
