"""Photos of any size, in one piece and in tiles."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zoo.deep_dream.tiny import photo
from tests.zoo.style.small import random_styles
from zoo.style.network import RADIUS
from zoo.style.pixels import to_float
from zoo.style.tiles import measure_statistics, place_tiles, stylize

TILE = 128
WEIGHTS = np.float32([0.25, 0.75])


@functools.cache
def two_styles():
    return random_styles()


@functools.cache
def fixed():
    """Compiled: pixels from 0 to 1 of one photo, and statistics of the norms → a picture."""
    styles = two_styles()

    @jax.jit
    def run(statistics, x):
        return styles.network.apply({**styles.variables, **statistics}, x[None], WEIGHTS[None])[0]

    return run


def to_levels(picture):
    return np.clip(np.asarray(picture) * 255, 0, 255)


sides = st.integers(1, 120).map(lambda n: 4 * n)


@given(sides, sides, st.sampled_from([128, 160, 256]))
def test_tiles_give_every_pixel_once(height, width, tile):
    given_by = np.zeros((height, width), int)
    for outer, inner, inside in place_tiles((height, width), tile):
        given_by[inner] += 1
        for axis, length in enumerate((height, width)):
            assert outer[axis].start % 4 == 0  # or strides would meet other pixels
            assert outer[axis].start >= 0
            assert outer[axis].stop - outer[axis].start == min(tile, length)
            assert outer[axis].stop <= length
            # The part lies in the tile where it lies in the photo.
            assert outer[axis].start + inside[axis].start == inner[axis].start
            assert outer[axis].start + inside[axis].stop == inner[axis].stop
            # And sees nothing beyond the tile, unless that is the photo's border.
            assert outer[axis].start == 0 or inside[axis].start >= RADIUS
            assert outer[axis].stop == length or outer[axis].stop - inner[axis].stop >= RADIUS
    np.testing.assert_array_equal(given_by, 1)


@pytest.mark.parametrize("size", [(100, 76), (64, 200), (200, 132)])
def test_tiles_equal_the_whole_with_the_same_statistics(size):
    pixels = photo(*size)
    x = np.float32(pixels) / 255
    statistics = measure_statistics(two_styles(), pixels, WEIGHTS, TILE)
    whole = np.asarray(fixed()(statistics, x))
    tiled = np.full_like(whole, np.nan)
    for outer, inner, inside in place_tiles(size, TILE):
        tiled[inner] = fixed()(statistics, x[outer])[inside]
    # The same products, perhaps added in another order.
    np.testing.assert_allclose(tiled, whole, atol=1e-4)


def test_a_photo_larger_than_a_tile_shows_no_seams():
    """Of sides that are no multiples of 4; half of it is dark, so that tiles differ most."""
    pixels = photo(131, 198)
    pixels[:, :100] //= 4
    got = stylize(two_styles(), pixels[None], WEIGHTS, TILE)[0]
    filled = np.pad(pixels, [(0, 1), (0, 2), (0, 0)], "symmetric")
    statistics = measure_statistics(two_styles(), filled, WEIGHTS, TILE)
    whole = to_levels(fixed()(statistics, np.float32(filled) / 255))[:131, :198]
    assert got.shape == (131, 198, 3)
    np.testing.assert_allclose(got, whole, atol=0.5 + 0.03)  # half a level of rounding, 1e-4 · 255
    assert 20 < whole.mean() < 235  # the picture isn't mere black or white


@pytest.mark.parametrize("size", [(64, 96), (33, 50), (127, 32)])
def test_a_photo_as_large_as_a_tile_is_painted_whole(size):
    """Filled up with its mirror image to multiples of 32, of which nothing is left."""
    pixels = photo(*size)
    got = stylize(two_styles(), pixels[None], WEIGHTS, TILE)[0]
    more = [(0, -length % 32) for length in size]
    filled = np.pad(pixels, [*more, (0, 0)], "symmetric")
    whole = to_levels(two_styles()(np.float32(filled[None]) / 255, WEIGHTS[None])[0])
    assert got.shape == pixels.shape
    np.testing.assert_allclose(got, whole[: size[0], : size[1]], atol=0.5 + 0.03)


@pytest.mark.parametrize("size", [(64, 96), (196, 132)], ids=["whole", "in tiles"])
def test_noise_lies_where_it_lies_in_the_photo(size):
    """Whether the photo is painted at once or in tiles, it is the same noise."""
    pixels = photo(*size)
    styles = dataclasses.replace(two_styles(), noise=0.2)
    filled = np.pad(pixels, [*((0, -length % 32) for length in size), (0, 0)], "symmetric")
    noise = np.random.default_rng(0).standard_normal((1024, 1024, 3), np.float32)
    x = np.float32(filled) / 255 + np.float32(0.2) * noise[: filled.shape[0], : filled.shape[1]]
    if size[0] * size[1] > TILE**2:
        x = x[: size[0], : size[1]]
        whole = fixed()(measure_statistics(styles, pixels, WEIGHTS, TILE), x)
    else:
        whole = styles(x[None], WEIGHTS[None])[0]
    got = stylize(styles, pixels[None], WEIGHTS, TILE)[0]
    want = to_levels(whole)[: size[0], : size[1]]
    np.testing.assert_allclose(got, want, atol=0.5 + 0.03)
    assert np.abs(want - stylize(two_styles(), pixels[None], WEIGHTS, TILE)[0]).mean() > 5


def test_noise_repeats_in_large_photos():
    even = np.full((1, 40, 40, 3), 128, np.uint8)
    first = to_float(even, 0.1)
    np.testing.assert_array_equal(to_float(even, 0.1, (1024, 3 * 1024)), first)
    np.testing.assert_array_equal(to_float(even, 0.1, (1000, 0))[:, 24:], first[:, :16])
    assert first.std() == pytest.approx(0.1, rel=0.05)  # of 4,800 values: 5 standard errors
    assert first.mean() == pytest.approx(128 / 255, abs=0.01)


def test_photos_are_painted_each_on_its_own():
    photos = np.stack([photo(64, 96), 255 - photo(64, 96, seed=3)])
    both = stylize(two_styles(), photos, WEIGHTS, TILE)
    for pixels, picture in zip(photos, both, strict=True):
        alone = stylize(two_styles(), pixels[None], WEIGHTS, TILE)[0]
        assert np.abs(np.int16(alone) - picture).max() <= 1  # a rounding either way


def test_statistics_of_a_small_photo_are_its_own():
    """Of 32 pixels a side all parts are the whole photo."""
    pixels = photo(32, 32)
    x = np.float32(pixels) / 255
    statistics = measure_statistics(two_styles(), pixels, WEIGHTS, TILE)
    want = two_styles()(x[None], WEIGHTS[None])[0]
    # The sums are of 16 times as many values, and 14 norms follow each other.
    np.testing.assert_allclose(fixed()(statistics, x), want, atol=2e-4)


def test_statistics_are_of_all_parts_of_the_photo():
    """Means of the first convolution, from its definition: four by four parts with own borders."""
    styles, pixels = two_styles(), photo(128, 160)
    mean = measure_statistics(styles, pixels, WEIGHTS, TILE)["statistics"]["down1"]["norm"]["mean"]
    kernel = np.float64(styles.variables["params"]["down1"]["kernel"])
    # A mean of a convolution's outputs needs but the mean of each tap's inputs.
    taps = []
    for top in (0, 32, 64, 96):
        for left in (0, 42, 85, 128):
            part = pixels[top : top + 32, left : left + 32] / 255
            padded = np.pad(part, [(4, 4), (4, 4), (0, 0)], "reflect")
            windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), axis=(0, 1))
            taps.append(windows.mean((-2, -1)))
    want = np.einsum("yxc,yxcf->f", np.mean(taps, 0), kernel)
    np.testing.assert_allclose(mean, want, atol=1e-5)
