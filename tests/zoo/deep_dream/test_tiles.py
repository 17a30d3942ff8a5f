"""Images of any size, put together from tiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zoo.deep_dream.tiny import tiny
from zoo.deep_dream.objectives import _collect
from zoo.deep_dream.tiles import fit_tile, make_window, overlap_of, place_tiles, tiled_gradient

# Pixels around one that its gradient depends on: those that the network sees, twice, and one more.
MARGIN = 5


@given(st.integers(1, 900), st.sampled_from([64, 96, 320]), st.integers(0, 64), st.floats(0, 1))
def test_tiles_cover_an_axis(length, tile, jitter, share):
    starts = place_tiles(length, tile, jitter, round(share * jitter))
    assert starts[0] <= 0
    assert starts[-1] + tile >= length
    assert set(np.diff(starts)) <= {tile - overlap_of(tile)}
    if jitter <= overlap_of(tile):  # or the grid may move by more than two neighbours share
        # None lies outside whole.
        assert starts[0] + tile > 0 or len(starts) == 1
        assert starts[-1] < length


@pytest.mark.parametrize("size", [(40, 40), (33, 150), (200, 129)])
@pytest.mark.parametrize("shift", [(0, 0), (7, 32), (32, 1)])
def test_pixels_come_back_to_their_places(size, shift):
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    shapes = set()

    def gradient(tile):
        shapes.add(tile.shape)
        return tile.mean(), 2 * tile

    _, found = tiled_gradient(gradient, image, 64, 32, shift)
    np.testing.assert_allclose(found, 2 * image, rtol=1e-5)
    assert shapes == {(1, 64, 64, 3)}


def test_neighbours_fade_into_each_other():
    line = make_window(64)[32, :, 0]
    overlap = overlap_of(64)
    np.testing.assert_allclose(line[:overlap] + line[-overlap:], 1, rtol=1e-6)
    assert (np.diff(line[:overlap]) > 0).all()
    assert (line > 0).all()


def test_tiles_agree_with_the_whole():
    """Of a network that sees 5x5 pixels; only where tiles end does a seam differ, and little."""
    net = tiny()

    @jax.jit
    def gradient(x):
        def objective(x):
            y = _collect(net.model, net.variables, x, ("conv2",), "conv2")["conv2"]
            return jnp.square(y).sum()

        return jax.value_and_grad(objective)(x)

    image = np.random.default_rng(0).random((150, 170, 3), np.float32)
    whole = np.asarray(gradient(image[None])[1])[0]
    _, tiled = tiled_gradient(gradient, image, 64, 16, (5, 11))
    inside = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]  # at the border one mirrors, the other does not
    error = np.abs(tiled - whole)[inside] / np.abs(whole).mean()
    assert np.median(error) < 1e-5
    # Where a tile ends, it weighs a hundredth.
    assert error.max() < 0.1
    rows = place_tiles(150, 64, 16, 5)
    ends = [
        edge + d for start in rows for edge in (start, start + 64) for d in range(-MARGIN, MARGIN)
    ]
    columns = place_tiles(170, 64, 16, 11)
    sides = [
        edge + d
        for start in columns
        for edge in (start, start + 64)
        for d in range(-MARGIN, MARGIN)
    ]
    away = np.ones(whole.shape[:2], bool)
    away[[n for n in ends if 0 <= n < 150]] = False
    away[:, [n for n in sides if 0 <= n < 170]] = False
    assert np.abs(tiled - whole)[inside][away[inside]].max() < 1e-4 * np.abs(whole).max()


def test_small_images_take_small_tiles():
    assert fit_tile(320, 60, 40, 4) == 64
    assert fit_tile(320, 60, 40, 5) == 96
    assert fit_tile(320, 400, 40, 32) == 320
