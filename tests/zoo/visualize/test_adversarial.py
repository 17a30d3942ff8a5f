"""Adversarial examples: hand values on a linear net, limits, and the embedded model misled."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from tests.zoo.visualize.by_hand import SIZE, linear
from zoo.runtime.checks import ArgumentError
from zoo.visualize.adversarial import fast_gradient_sign, projected_gradient_descent
from zoo.visualize.inputs import TargetError, denormalize
from zoo.visualize.pictures import PictureError

EPSILON = 8 / 255


@pytest.fixture(scope="module")
def net():
    """A linear net of two classes, its weights, and an image of even grey."""
    weights = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3))
    return linear(weights, [0.1, 0.0]), weights, np.full((SIZE, SIZE, 3), 102, np.uint8)


def test_fast_gradient_sign_equals_the_hand_value(net):
    trained, weights, image = net
    # The gradient of class 1's cross-entropy has the direction of w0 - w1.
    toward_0 = np.sign(weights[0] - weights[1])
    made = fast_gradient_sign(trained, image, 1, epsilon=EPSILON)
    np.testing.assert_allclose(made.perturbations[0], -EPSILON * toward_0, atol=1e-6)
    np.testing.assert_allclose(made.images[0], 102 / 255 - EPSILON * toward_0, atol=1e-6)
    np.testing.assert_array_equal(made.changed[0], np.round(102 - 8 * toward_0))
    before = weights.reshape(2, -1) @ np.full(SIZE * SIZE * 3, 0.4) + [0.1, 0]
    predicted = int(before.argmax())
    away = toward_0 if predicted == 1 else -toward_0
    untargeted = fast_gradient_sign(trained, image, epsilon=EPSILON)
    np.testing.assert_allclose(untargeted.perturbations[0], EPSILON * away, atol=1e-6)
    after = weights.reshape(2, -1) @ (0.4 + EPSILON * away).ravel() + [0.1, 0]
    chances = [np.exp(v - v.max()) / np.exp(v - v.max()).sum() for v in (before, after)]
    assert untargeted.labels_before == (f"kind {predicted}",)
    assert untargeted.labels_after == (f"kind {after.argmax()}",)
    np.testing.assert_allclose(untargeted.probabilities_before, chances[0].max(), rtol=1e-4)
    np.testing.assert_allclose(untargeted.probabilities_after, chances[1].max(), rtol=1e-4)


def test_steps_of_projected_gradient_descent_add_up_and_end_at_epsilon(net):
    trained, weights, image = net
    sign = np.sign(weights[1] - weights[0])
    options = {"epsilon": EPSILON, "random_start": False}
    made = projected_gradient_descent(trained, image, 1, steps=3, rate=EPSILON / 4, **options)
    np.testing.assert_allclose(made.perturbations[0], 0.75 * EPSILON * sign, atol=1e-6)
    made = projected_gradient_descent(trained, image, 1, steps=9, rate=EPSILON / 4, **options)
    np.testing.assert_allclose(made.perturbations[0], EPSILON * sign, atol=1e-6)


def test_images_are_read_once(net):
    trained, _, image = net
    others = [image, np.uint8(255 - image)]
    expected = fast_gradient_sign(trained, others, 1)
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    for images in (iter(others), (source for source in others)):
        made = fast_gradient_sign(trained, images, 1)
        np.testing.assert_array_equal(made.images, expected.images)
        assert made.labels_before == expected.labels_before
    made = projected_gradient_descent(trained, io.BytesIO(data.getvalue()), [0, 1], steps=2)
    assert len(made) == 2
    assert made.labels_before == fast_gradient_sign(trained, image).labels_before * 2


def test_pixels_stay_pixels(net):
    trained, _, _ = net
    for value in (0, 255):
        image = np.full((SIZE, SIZE, 3), value, np.uint8)
        made = fast_gradient_sign(trained, image, epsilon=0.1)
        assert made.images.min() >= 0
        assert made.images.max() <= 1
        assert np.unique(np.abs(np.round(made.perturbations, 6))).tolist() == pytest.approx(
            [0, 0.1]
        )


def test_the_order_of_channels_is_that_of_the_picture(net):
    trained, weights, image = net
    preprocessing = dataclasses.replace(trained.info.preprocessing, channels="BGR")
    bgr = trained.replace(info=dataclasses.replace(trained.info, preprocessing=preprocessing))
    made = fast_gradient_sign(bgr, image, 0, epsilon=EPSILON)
    expected = EPSILON * np.sign(weights[0] - weights[1])
    np.testing.assert_allclose(made.images[0], 0.4 + expected, atol=1e-6)
    np.testing.assert_allclose(made.perturbations[0], expected[..., ::-1], atol=1e-6)
    shown = np.int32(made.changed[0]) - made.photos[0]
    np.testing.assert_array_equal(shown, np.round(255 * expected[..., ::-1]))


def test_the_picture_shows_what_was_added_around_grey(net):
    trained, weights, image = net
    made = fast_gradient_sign(trained, image, 1, epsilon=EPSILON)
    pixels = made.picture().pixels
    height = pixels.shape[0] - SIZE
    added = pixels[height:, SIZE + 6 : 2 * SIZE + 6]
    np.testing.assert_array_equal(added, np.where(weights[1] > weights[0], 255, 0))
    weak = made.picture(0.25 / EPSILON).pixels[height:, SIZE + 6 : 2 * SIZE + 6]
    np.testing.assert_array_equal(weak, np.where(weights[1] > weights[0], 191, 64))
    assert made._repr_jpeg_().startswith(b"\xff\xd8")


@pytest.mark.slow
def test_the_embedded_model_is_misled(lite, examples):
    cat = examples / "cat.jpg"
    options = {"size": 96, "epsilon": EPSILON}
    aimed = projected_gradient_descent(lite, cat, ["espresso", "tabby"], steps=8, **options)
    assert aimed.labels_after == ("espresso", "tabby")
    assert (aimed.probabilities_after > 0.5).all()
    free = projected_gradient_descent(lite, [cat, cat], steps=8, **options)
    assert free.labels_before[0] != free.labels_after[0]
    assert free.labels_before[0] == aimed.labels_before[1]
    for made in (aimed, free):
        pixels = denormalize(lite.info.preprocessing, made.images)
        assert np.abs(made.perturbations).max() <= EPSILON + 1e-6
        assert pixels.min() >= -1e-6
        assert pixels.max() <= 1 + 1e-6
        assert np.abs(np.int32(made.changed) - made.photos).max() <= 9
    again = projected_gradient_descent(lite, [cat, cat], steps=8, **options)
    np.testing.assert_array_equal(again.images, free.images)
    other = projected_gradient_descent(lite, [cat, cat], steps=8, seed=1, **options)
    assert (other.images != free.images).any()


def test_bad_input_is_a_clear_error(net, tmp_path):
    trained, _, image = net
    for epsilon in (0, -0.1, float("nan"), "much"):
        with pytest.raises(ArgumentError, match="epsilon must be a number above 0"):
            fast_gradient_sign(trained, image, epsilon=epsilon)
    with pytest.raises(ArgumentError, match="steps must be an integer of at least 1, got 0"):
        projected_gradient_descent(trained, image, steps=0)
    with pytest.raises(ArgumentError, match="rate must be a number above 0"):
        projected_gradient_descent(trained, image, rate=0)
    with pytest.raises(TargetError, match="kind 9"):
        fast_gradient_sign(trained, image, "kind 9")
    made = fast_gradient_sign(trained, image)
    with pytest.raises(ArgumentError, match="amplification"):
        made.picture(0)
    with pytest.raises(PictureError, match="must end in"):
        made.save(tmp_path / "made.gif")
    made.save(tmp_path / "made.png")
    assert (tmp_path / "made.png").stat().st_size > 100
