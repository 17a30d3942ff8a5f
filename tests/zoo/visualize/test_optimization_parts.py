"""The parts of generated pictures: parametrisation, movements, scores; against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.visualize.optimization import scores
from zoo.visualize.optimization.parametrize import (
    COLOR_SQRT,
    Parametrization,
    blur,
    color_matrix,
    spectrum_scale,
)
from zoo.visualize.optimization.transforms import Movements, move, sample


def logit(pixels):
    return np.log(pixels / (1 - pixels))


@pytest.mark.parametrize("size", [16, 17])
def test_fourier_images_are_inverse_transforms_of_weighted_frequencies(size):
    params = np.random.default_rng(0).normal(size=(size, size // 2 + 1, 3, 2))
    pixels = Parametrization("fourier", size, 3, decorrelate=False).to_pixels(jnp.float32(params))
    expected = np.zeros((size, size, 3))
    for row in range(size):
        for column in range(size // 2 + 1):
            down = row if row <= size // 2 else row - size
            frequency = np.hypot(down / size, column / size)
            weight = 1 / max(frequency, 1 / size)
            expected_of = weight * size  # lucid: times sqrt(w h), and irfft2 divides by w h
            params[row, column] *= expected_of
    spectrum = params[..., 0] + 1j * params[..., 1]
    expected = np.fft.irfft2(spectrum, (size, size), axes=(0, 1)) / 4
    np.testing.assert_allclose(logit(np.float64(pixels)), expected, atol=2e-3)


def test_amplitudes_of_fourier_noise_fall_as_1_over_f():
    size = 64
    parametrization = Parametrization("fourier", size, 1)
    keys = jax.random.split(jax.random.key(0), 16)
    images = logit(
        np.float64(jax.vmap(lambda key: parametrization.to_pixels(parametrization.init(key)))(keys))
    )
    amplitude = np.abs(np.fft.fft2(images[..., 0])).mean(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    inner = (frequency > 2 / size) & (frequency < 0.45)
    slope = np.polyfit(np.log(frequency[inner]), np.log(amplitude[inner]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.05)


def test_colors_have_the_published_covariance():
    # The colours of independent noise have the covariance that its square root promises.
    noise = np.random.default_rng(0).normal(size=(64, 64, 3))
    parametrization = Parametrization("pixels", 64)
    colors = logit(np.float64(parametrization.to_pixels(jnp.float32(noise)))).reshape(-1, 3)
    longest = max(np.linalg.norm(COLOR_SQRT[:, n]) for n in range(3))
    expected = COLOR_SQRT @ COLOR_SQRT.T / longest**2
    np.testing.assert_allclose(np.cov(colors.T), expected, atol=0.05)
    np.testing.assert_allclose(colors, noise.reshape(-1, 3) @ (COLOR_SQRT / longest).T, atol=1e-4)
    assert np.linalg.norm(color_matrix(), axis=0).max() == pytest.approx(1)


@pytest.mark.parametrize("name", ["fourier", "pixels"])
@pytest.mark.parametrize("channels", [1, 3])
def test_parameters_of_an_image_give_the_image(name, channels):
    pixels = np.random.default_rng(0).uniform(0.05, 0.95, (18, 18, channels))
    parametrization = Parametrization(name, 18, channels)
    again = parametrization.to_pixels(parametrization.from_pixels(pixels))
    np.testing.assert_allclose(again, pixels, atol=1e-5)


def test_blur_is_a_gaussian():
    values = np.zeros((33, 33, 1), np.float32)
    values[16, 16] = 1
    distance = np.hypot(*np.meshgrid(np.arange(33) - 16, np.arange(33) - 16))
    expected = np.exp(-(distance**2) / (2 * 2.0**2)) / (2 * np.pi * 2.0**2)
    np.testing.assert_allclose(blur(jnp.array(values), 2.0)[..., 0], expected, atol=1e-6)


def test_sampling_between_pixels_is_linear():
    rows, columns = np.meshgrid(np.arange(7), np.arange(9), indexing="ij")
    image = np.float32(3 * rows + 2 * columns)[..., None]  # which linear interpolation keeps
    positions = np.random.default_rng(0).uniform((0, 0), (6, 8), (5, 5, 2))
    values = sample(jnp.array(image), jnp.float32(positions))[..., 0]
    np.testing.assert_allclose(values, 3 * positions[..., 0] + 2 * positions[..., 1], rtol=1e-5)
    far = jnp.array([[[-1.0, 3.0], [3.0, 9.0], [-50.0, 99.0], [6.5, 0.0]]])
    np.testing.assert_allclose(sample(jnp.array(image), far)[0, :, 0], [0.5, 0.5, 0.5, 9.25])


def test_movements_move_as_far_as_they_say():
    image = jnp.zeros((65, 65, 1)).at[32, 32].set(100.0)  # a dot in the centre only shifts
    grid = np.stack(np.meshgrid(np.arange(65), np.arange(65), indexing="ij"), -1) - 32
    keys = jax.random.split(jax.random.key(0), 200)

    def places(movements):
        moved = np.asarray(jax.vmap(lambda key: move(image, key, movements))(keys))[..., 0]
        moved = np.where(moved > 0.6, moved, 0)
        return (moved[..., None] * grid).sum((1, 2)) / moved.sum((1, 2))[:, None]

    shifts = places(Movements((8.0, 4.0), (1.0, 1.0), 0.0))
    assert 4.5 < np.abs(shifts).max() < 6.01
    assert np.abs(places(Movements((0.0, 0.0), (0.9, 1.1), 10.0))).max() < 0.01
    still = Movements((0.0, 0.0), (1.0, 1.0), 0.0)
    np.testing.assert_allclose(move(image, keys[0], still), image, atol=1e-3)


def test_turns_and_scales_stay_within_their_limits():
    image = jnp.zeros((65, 65, 1)).at[32, 52].set(100.0)  # 20 to the right of the centre
    grid = np.stack(np.meshgrid(np.arange(65), np.arange(65), indexing="ij"), -1) - 32
    keys = jax.random.split(jax.random.key(1), 200)
    movements = Movements((0.0, 0.0), (0.9, 1.1), 10.0)
    moved = np.asarray(jax.vmap(lambda key: move(image, key, movements))(keys))[..., 0]
    moved = np.where(moved > 0.6, moved, 0)
    down, right = np.moveaxis(
        (moved[..., None] * grid).sum((1, 2)) / moved.sum((1, 2))[:, None], 1, 0
    )
    angles, radii = np.degrees(np.arctan2(down, right)), np.hypot(down, right)
    assert 8 < np.abs(angles).max() < 10.6
    assert 17.6 < radii.min() < 18.5
    assert 21.5 < radii.max() < 22.4


def make_goal(vector, position=(-1, -1), power=0.0, weight=1.0):
    return scores.Goal(
        jnp.float32(vector)[None],
        jnp.array([position]),
        jnp.float32([power]),
        jnp.float32([weight]),
    )


def test_scores_equal_their_definitions():
    rng = np.random.default_rng(0)
    y, d = rng.normal(size=(1, 3, 4, 5)), rng.normal(size=5)
    d /= np.linalg.norm(d)
    dot = y[0] @ d
    cosine = np.maximum(0.1, dot / np.linalg.norm(y[0], axis=-1))
    for power in (0.0, 1.0, 2.5):
        expected = (dot * cosine**power).mean()
        goal = make_goal(d, power=power, weight=-2.0)
        value = scores.score_goal(goal, jnp.float32(y))
        np.testing.assert_allclose(value, [-2 * expected], rtol=1e-5)
        value = scores.score_goal(make_goal(d, (2, 1), power), jnp.float32(y))
        np.testing.assert_allclose(value, [(dot * cosine**power)[2, 1]], rtol=1e-5)
    np.testing.assert_allclose(
        scores.score_goal(make_goal(d), jnp.float32(y[:, 0, 0])), [dot[0, 0]], rtol=1e-5
    )


def test_similarity_is_the_cosine_of_gram_matrices():
    y = np.random.default_rng(0).normal(size=(6, 4, 4, 3))
    grams = [np.einsum("hwc,hwd->cd", picture, picture).ravel() for picture in y]
    grams = [gram / np.linalg.norm(gram) for gram in grams]
    expected = [
        np.mean([grams[n] @ grams[m] for m in group if m != n])
        for group in (range(3), range(3, 6))
        for n in group
    ]
    np.testing.assert_allclose(scores.similarity(jnp.float32(y), 3), expected, rtol=1e-5)


def test_scores_of_other_images_equal_their_definitions():
    rng = np.random.default_rng(0)
    y, r = rng.normal(size=(2, 2, 3, 3, 4))
    pixels = rng.uniform(size=(2, 5, 5, 3))
    observed = scores.Observed((jnp.float32(y),), (jnp.float32(r),), jnp.float32(pixels), None)
    steps = [np.abs(np.diff(pixels, axis=axis)).mean((1, 2, 3)) for axis in (1, 2)]
    distance = np.square(y - r).sum((1, 2, 3)) / np.square(r).sum((1, 2, 3))
    wanted, values = scores.score_match(jnp.float32(0.3), observed)
    np.testing.assert_allclose(values, -distance, rtol=1e-5)
    np.testing.assert_allclose(wanted, -distance - 0.3 * sum(steps), rtol=1e-5)
    dot = (y * r).sum((1, 2, 3))
    lengths = [np.linalg.norm(a.reshape(2, -1), axis=1) for a in (y, r)]
    cosine = np.maximum(0.1, dot / lengths[0] / lengths[1])
    expected = dot / lengths[1] * cosine**2
    np.testing.assert_allclose(
        scores.score_caricature(jnp.float32(2), observed)[0], expected, rtol=1e-5
    )


def test_gradients_are_finite_where_outputs_are_zero():
    zeros = jnp.zeros((2, 3, 3, 4))
    goal = jax.tree.map(lambda a: jnp.concatenate([a, a]), make_goal([1.0, 0, 0, 0], power=2.0))
    for function in (
        lambda y: scores.score_goal(goal, y).sum(),
        lambda y: scores.similarity(y, 2).sum(),
        lambda y: scores.score_caricature(
            jnp.float32(1), scores.Observed((y,), (zeros,), zeros, zeros)
        )[0].sum(),
    ):
        assert np.isfinite(jax.grad(function)(zeros)).all()


def test_weights_of_frequencies_fall_as_the_decay_says():
    for decay in (1.0, 1.5):
        scale = spectrum_scale(32, decay)
        assert scale[0, 0] == scale[0, 1] == scale[1, 0] == 32
        assert scale[0, 8] == pytest.approx(32 * 8**-decay)
        assert scale[-3, 4] == pytest.approx(32 * 5**-decay)
