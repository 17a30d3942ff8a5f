"""Photos painted by optimisation of their pixels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.deep_dream.tiny import photo, tiny
from zoo.inference.images import ImageError
from zoo.runtime.checks import ArgumentError
from zoo.style import LossWeights, make_style_loss, optimize
from zoo.style.optimize import minimize

PHOTO, STYLE = photo(40, 48), photo(40, 40, seed=9)


@dataclasses.dataclass(frozen=True)
class Quadratic:
    """Stands for a loss: half of the weighted squared distance to a picture."""

    def __call__(self, variables, pictures, content, grams):
        return 0.5 * (variables * jnp.square(pictures - content)).sum(), {}


def to_float(pixels):
    return jnp.asarray(pixels[None], jnp.float32) / 255


@pytest.fixture(scope="module")
def problem(judge):
    """The arguments of `minimize` for a photo and a style."""
    loss = make_style_loss(judge, LossWeights())
    x, reference = to_float(PHOTO), to_float(STYLE)
    content = loss.maps(judge.variables, x, loss.content_layers)
    return loss, judge.variables, x, content, loss.grams(judge.variables, reference)


@pytest.fixture(scope="module")
def paint(judge):
    def run(content=PHOTO, style=STYLE, **given):
        return optimize(content, style, **{"model": judge, "size": None, "steps": 4, **given})

    return run


def distance(picture):
    """The mean distance of the pixels to the photo's, in levels."""
    return np.abs(np.asarray(picture, np.float64) - PHOTO).mean()


# --- minimize


def test_more_steps_lower_the_loss_further(problem):
    loss, variables, x, content, grams = problem
    values = [float(loss(variables, x, content, grams)[0])]
    values += [minimize(*problem, steps)[1] for steps in (1, 4, 16)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] / 4


def test_the_loss_is_that_of_the_picture(problem):
    loss, variables, _, content, grams = problem
    picture, value = minimize(*problem, 3)
    # It is computed by a program that is compiled otherwise.
    assert value == pytest.approx(float(loss(variables, picture, content, grams)[0]), rel=1e-5)


def test_the_minimum_of_a_quadratic():
    """Of curvatures from 1 to 100, where steps along the gradient alone need hundreds."""
    draw = np.random.default_rng(0)
    target = draw.uniform(0.2, 0.8, (1, 8, 8, 3))
    curvatures = np.geomspace(1, 100, target.size).reshape(target.shape)
    picture, value = minimize(
        Quadratic(), *(jnp.asarray(array, jnp.float32) for array in (
            curvatures, np.full(target.shape, 0.5), target)), {}, 60,
    )  # fmt: skip
    np.testing.assert_allclose(picture, target, atol=1e-3)
    assert value < 1e-4


def test_pixels_stay_between_black_and_white():
    """Outside of them the least loss is at the nearest pixels, as no pixel affects another."""
    target = jnp.linspace(-0.5, 1.5, 48).reshape(1, 4, 4, 3)
    picture, _ = minimize(
        Quadratic(), jnp.ones(target.shape), jnp.full(target.shape, 0.5), target, {}, 20
    )
    np.testing.assert_allclose(picture, np.clip(target, 0, 1), atol=1e-5)


def test_it_ends_where_nothing_is_lower():
    """At the minimum; progress says in the end that all is done."""
    x = jnp.full((1, 4, 4, 3), 0.25)
    calls = []
    picture, value = minimize(
        Quadratic(), jnp.ones(x.shape), x, x, {}, 50, lambda *call: calls.append(call)
    )
    np.testing.assert_array_equal(picture, x)
    assert (value, calls[-1]) == (0.0, (50, 50))


def test_a_loss_that_is_not_finite(judge, paint):
    broken = judge.replace(variables=jax.tree.map(lambda x: x * np.nan, judge.variables))
    with pytest.raises(FloatingPointError, match="the loss is nan in step 1"):
        paint(model=broken)


# --- optimize


def test_it_is_nearer_to_the_style_than_the_photo(problem, paint):
    loss, variables, _, content, grams = problem
    parts = [loss(variables, to_float(pixels), content, grams)[1]["style"]
             for pixels in (PHOTO, paint(steps=16).pixels)]  # fmt: skip
    assert parts[1] < parts[0] / 4


def test_content_alone_gives_the_photo_back(paint):
    """Which has no loss from the start."""
    picture = paint(style_weight=0, variation_weight=0)
    np.testing.assert_array_equal(picture.pixels, PHOTO)


def test_content_holds_the_picture_near_the_photo(paint):
    near, far = (distance(paint(content_weight=weight, steps=12)) for weight in (100, 0.01))
    assert near < far / 1.5


def test_variation_makes_it_smoother(paint):
    def roughness(weight):
        picture = paint(variation_weight=weight, steps=12)
        return np.abs(np.diff(np.asarray(picture, np.float64), axis=0)).mean()

    assert roughness(1000) < roughness(0) / 1.5


def test_the_size_of_the_picture(paint):
    """The longer side of 48 pixels becomes 60, the other 40 · 60 / 48 = 50."""
    assert paint(size=60, steps=1).pixels.shape == (50, 60, 3)


def test_styles_of_any_aspect(paint):
    assert paint(style=photo(32, 90), steps=1).pixels.shape == PHOTO.shape


def test_the_style_may_have_a_size_of_its_own(paint):
    pictures = [paint(style_size=size, steps=2).pixels for size in (None, 40, 80)]
    np.testing.assert_array_equal(pictures[0], pictures[1])  # the photo's shorter side
    assert (pictures[0] != pictures[2]).any()


def test_progress(paint):
    calls = []
    paint(steps=2, progress=lambda *call: calls.append(call))
    assert [*dict.fromkeys(calls)] == [(1, 2), (2, 2)]


REFUSED = {
    "steps": (0, 1.5, None),
    "content_weight": (-1, np.nan, "1"),
    "style_weight": (-1, np.inf),
    "variation_weight": (-1, np.nan),
    "size": (31, 40.0, 1 << 15),
    "style_size": (31, 40.0),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values]
)
def test_a_value_that_an_argument_does_not_take(name, value, paint):
    with pytest.raises(ArgumentError, match=rf"^{name} must be "):
        paint(**{name: value})


@pytest.mark.parametrize("argument", ["content_layers", "style_layers"])
def test_an_unknown_layer(argument, paint):
    with pytest.raises(ArgumentError, match=f"^{argument}: Judge has no module 'conv9'"):
        paint(**{argument: ["conv9"]})


def test_layers_of_a_network_without_strides():
    """There are no usual ones of such a network."""
    layers = {"content_layers": ["conv1"], "style_layers": ["mix"]}
    assert optimize(PHOTO, STYLE, model=tiny(), size=None, steps=1, **layers).pixels.any()
    with pytest.raises(ArgumentError, match="content_layers"):
        optimize(PHOTO, STYLE, model=tiny(), size=None, steps=1)


def test_a_layer_without_positions(paint):
    with pytest.raises(ArgumentError, match="style_layers: the output of 'head' has no"):
        paint(style_layers=["head"])


def test_a_photo_that_is_too_small(paint):
    with pytest.raises(ImageError, match=r"60x31 pixels; at least 32 a side"):
        paint(photo(31, 60))


@pytest.mark.parametrize("argument", ["content", "style"])
def test_what_is_no_image(argument, paint):
    with pytest.raises(ImageError):
        paint(**{argument: b"no image"})
