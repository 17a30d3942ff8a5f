"""Several sizes of an image, and the steps at each."""

import numpy as np
import pytest

from tests.zoo.deep_dream.tiny import photo
from zoo.deep_dream.octaves import (
    SMOOTH,
    Settings,
    ascend,
    dream_octaves,
    resize,
    variation_gradient,
)
from zoo.runtime.checks import ArgumentError
from zoo.visualize.pictures import PictureError


def image(height=40, width=56):
    return np.float32(photo(height, width)) / 255


def total_variation(pixels):
    down = np.diff(pixels, axis=0, append=pixels[-1:])
    right = np.diff(pixels, axis=1, append=pixels[:, -1:])
    return np.sqrt(down**2 + right**2 + SMOOTH**2).sum()


def test_sizes():
    assert Settings(octaves=3, scale=2).sizes(100, 160, 20) == [(25, 40), (50, 80), (100, 160)]


def test_an_image_too_small_for_an_octave():
    with pytest.raises(PictureError, match=r"160x100 .* octaves=4 .* 20x12 .* take octaves=2 or"):
        Settings(octaves=4, scale=2).sizes(100, 160, 32)
    with pytest.raises(PictureError, match="take a larger"):
        Settings(octaves=1).sizes(20, 50, 32)
    with pytest.raises(PictureError, match="the smallest octave has 0x0"):
        Settings(octaves=10**9, scale=1e300).sizes(100, 100, 32)


def test_what_an_octave_adds_is_kept_at_the_next():
    base, calls = np.clip(image(), 0.2, 0.7), []

    def first_only(octave):
        calls.append(octave.shape[:2])
        return octave + 0.2 if len(calls) == 1 else octave

    sizes = [(10, 14), (20, 28), (40, 56)]
    result = dream_octaves(base, sizes, first_only)
    assert calls == sizes
    # The image is the original one, as sharp as it was.
    np.testing.assert_allclose(result, base + 0.2, atol=1e-5)


def test_a_step_changes_pixels_by_its_size():
    settings = Settings(steps=1, step_size=0.01, jitter=0)
    base = np.full((32, 40, 3), 0.5, np.float32)
    slope = np.float32(np.random.default_rng(0).normal(size=(1, 64, 64, 3)))
    done = []
    changed = ascend(
        lambda tile: (0.0, slope),
        base,
        settings,
        64,
        np.random.default_rng(0),
        lambda: done.append(1),
    )
    np.testing.assert_allclose(np.abs(changed - base).mean(), 0.01, rtol=1e-4)
    assert done == [1]


def test_pixels_stay_in_their_range():
    settings = Settings(steps=3, step_size=0.5, jitter=0)
    steep = lambda tile: (0.0, np.sign(tile - 0.5))  # noqa: E731
    changed = ascend(steep, image(), settings, 64, np.random.default_rng(0), lambda: None)
    assert changed.min() == 0
    assert changed.max() == 1


def test_a_flat_objective_changes_nothing():
    flat = lambda tile: (0.0, np.zeros_like(tile))  # noqa: E731
    changed = ascend(flat, image(), Settings(), 64, np.random.default_rng(0), lambda: None)
    np.testing.assert_array_equal(changed, image())


def test_a_gradient_that_is_not_finite():
    broken = lambda tile: (0.0, np.full_like(tile, np.nan))  # noqa: E731
    with pytest.raises(FloatingPointError, match="not finite"):
        ascend(broken, image(), Settings(), 64, np.random.default_rng(0), lambda: None)


def test_variation_gradient_by_finite_differences():
    pixels, step = np.random.default_rng(1).random((5, 6, 2)), 1e-6
    want = np.zeros_like(pixels)
    for index in np.ndindex(pixels.shape):
        up, down = pixels.copy(), pixels.copy()
        up[index] += step
        down[index] -= step
        want[index] = (total_variation(up) - total_variation(down)) / (2 * step)
    np.testing.assert_allclose(variation_gradient(pixels), want, atol=1e-6)


def test_total_variation_smooths():
    noise = lambda tile: (0.0, np.random.default_rng(0).normal(size=tile.shape))  # noqa: E731
    results = []
    for weight in (0.0, 0.5):
        settings = Settings(steps=10, jitter=0, total_variation=weight)
        random = np.random.default_rng(0)
        results.append(ascend(noise, image(), settings, 64, random, lambda: None))
    assert total_variation(results[1]) < 0.9 * total_variation(results[0])


def test_resize_takes_a_part():
    ramp = np.repeat(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], 32, axis=0)
    part = resize(ramp, 32, 64, (16, 8, 48, 24))
    steps = np.diff(part[16, 8:-8, 0])
    np.testing.assert_allclose(steps, 0.5 / 63, rtol=0.05)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("octaves", 0, "octaves must be an integer of at least 1, got 0"),
        ("octaves", 1.5, "octaves must be an integer"),
        ("steps", -1, "steps must be an integer of at least 1"),
        ("steps", True, "steps must be an integer"),
        ("scale", 1, "scale must be a number above 1, got 1"),
        ("scale", "2", "scale must be a number above 1, got '2'"),
        ("step_size", 0, "step_size must be a number above 0"),
        ("step_size", float("inf"), "step_size must be a number above 0, got inf"),
        ("jitter", -1, "jitter must be an integer of at least 0"),
        ("total_variation", -0.1, "total_variation must be a number of at least 0"),
        ("total_variation", float("nan"), "got nan"),
        ("tile", 32, "tile must be an integer of at least 64"),
        ("tile", 100, "tile must be a multiple of 32, got 100"),
    ],
)
def test_wrong_settings(name, value, message):
    with pytest.raises((PictureError, ArgumentError), match=message):
        Settings(**{name: value})
