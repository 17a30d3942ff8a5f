"""The network: its layers by definition, its styles, and how far it sees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo_kernels as kernels
from tests.zoo.style.small import random_styles
from zoo.runtime.checks import ArgumentError
from zoo.style.network import RADIUS, StyleNetwork
from zoo.style.styles import Styles, variable_shapes

SIZE = 32
PHOTOS = np.random.default_rng(1).random((2, SIZE, SIZE, 3), np.float32)
FIRST, SECOND = np.eye(2, dtype=np.float32)


@functools.cache
def two_styles():
    return random_styles()


def paint(weights, photos=PHOTOS):
    """The pictures of a network of two styles, with weights of them for both photos or for each."""
    return np.asarray(two_styles()(photos, np.broadcast_to(weights, (2, 2))))


def paint_plain(weights):
    """Those of a network of one style, whose norms are the weighted means of those of the two."""
    styles = two_styles()

    def mix(path, array):
        is_norm = path[-1].key in ("scale", "shift")
        return np.tensordot(weights, array, 1)[None] if is_norm else array

    variables = jax.tree_util.tree_map_with_path(mix, styles.variables)
    plain = Styles(styles.network.clone(styles=1), variables, ("mixed",))
    return np.asarray(plain(PHOTOS, np.ones((2, 1), np.float32)))


def test_full_width_has_as_many_parameters_as_published():
    """1,679,235 in PyTorch's example, less 1600 biases before norms, which have no effect."""
    shapes = variable_shapes(StyleNetwork(width=1))
    before_norms = 32 + 64 + 128 + 10 * 128 + 64 + 32
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 1_679_235 - before_norms


def test_each_style_adds_norms_alone():
    one, three = (
        sum(leaf.size for leaf in jax.tree.leaves(variable_shapes(StyleNetwork(n, 1))))
        for n in (1, 3)
    )
    assert three - one == 2 * 2 * (32 + 64 + 128 + 10 * 128 + 64 + 32)


# The two networks multiply the same numbers in the same order, but for the norms' weighted means.
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.mark.parametrize("weights", [FIRST, SECOND], ids=["first", "second"])
def test_a_selected_style_is_a_network_of_its_own(weights):
    np.testing.assert_allclose(paint(weights), paint_plain(weights), **CLOSE)


def test_a_blend_has_the_mean_norms():
    weights = np.float32([0.25, 0.75])
    np.testing.assert_allclose(paint(weights), paint_plain(weights), **CLOSE)


def test_styles_differ():
    assert np.abs(paint(FIRST) - paint(SECOND)).mean() > 0.05


def test_each_photo_of_a_batch_has_its_own_style():
    mixed = paint(np.stack([SECOND, FIRST]))
    np.testing.assert_allclose(mixed[0], paint(SECOND)[0], **CLOSE)
    np.testing.assert_allclose(mixed[1], paint(FIRST)[1], **CLOSE)


def test_a_photo_does_not_depend_on_its_batch():
    other = np.stack([PHOTOS[0], 1 - PHOTOS[1]])
    np.testing.assert_allclose(paint(FIRST, other)[0], paint(FIRST)[0], **CLOSE)


@pytest.mark.parametrize("upsampling", ["nearest", "transposed"])
def test_pictures_have_the_photos_size(upsampling):
    network = StyleNetwork(width=1 / 8, upsampling=upsampling)
    x, weights = jnp.zeros((2, 36, 52, 3)), jnp.ones((2, 1))
    y = jax.eval_shape(
        lambda: network.apply(network.init(jax.random.key(0), x, weights), x, weights)
    )
    assert (y.shape, y.dtype) == ((2, 36, 52, 3), jnp.float32)


def test_a_new_network_paints_grey():
    """So that training begins near every photo."""
    network = StyleNetwork(width=1 / 8)
    weights = jnp.ones((2, 1))
    variables = jax.jit(network.init)(jax.random.key(0), PHOTOS, weights)
    y = np.asarray(Styles(network, variables, ("new",))(PHOTOS, weights))
    np.testing.assert_allclose(y.mean(), 0.5, atol=0.1)
    assert y.std() < 0.2


def fixed_statistics(variables, photos, weights, network):
    return network.apply(variables, photos, weights, mutable=["statistics"])[1]


def test_given_statistics_of_a_photo_are_those_it_is_normalised_by():
    styles, weights = two_styles(), SECOND[None]
    photo = PHOTOS[:1]
    measure, paint_fixed = (
        jax.jit(functools.partial(fixed_statistics, network=styles.network)),
        jax.jit(styles.network.apply),
    )
    statistics = measure(styles.variables, photo, weights)
    got = paint_fixed({**styles.variables, **statistics}, photo, weights)
    # One program divides by the deviation, and the other multiplies: 14 norms add up.
    np.testing.assert_allclose(got[0], paint(SECOND)[0], atol=1e-4)
    # Of an even photo no border may show. It is measured by the other's statistics, as its own
    # variances are 0, by which a norm enlarges roundings.
    even = paint_fixed({**styles.variables, **statistics}, np.full_like(photo, 0.3), weights)
    assert np.ptp(np.asarray(even), axis=(1, 2)).max() < 1e-4


def test_an_output_depends_on_pixels_as_far_as_radius_and_no_farther():
    """Its gradient is exactly 0 beyond: all variables are positive, so that nothing cancels.

    Norms that take statistics of the photo would make all depend on all, so these are given.
    """
    styles = random_styles(("one",), width=1 / 32)
    weights = np.ones((1, 1), np.float32)
    photo = np.ones((1, 8, 256, 3), np.float32)
    shapes = jax.eval_shape(
        functools.partial(fixed_statistics, network=styles.network),
        *(styles.variables, photo, weights),
    )
    constants = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full(leaf.shape, 1.0 if path[-1].key == "var" else 0.0), shapes
    )
    variables = jax.tree.map(lambda leaf: abs(leaf) + 0.01, styles.variables)

    @jax.jit
    @jax.grad
    def gradient(photo, column):
        y = styles.network.apply({**variables, **constants}, photo, weights)
        return y[:, :, column].sum()

    farthest = 0
    with kernels.using("lax"):
        for column in range(126, 130):  # one of each kind, as strides are 4
            seen = np.flatnonzero(np.asarray(gradient(photo, column)).any((0, 1, 3)))
            farthest = max(farthest, *np.abs(seen - column))
    assert farthest == RADIUS


@pytest.mark.parametrize("shape", [(1, 30, 32, 3), (1, 32, 34, 3), (1, 32, 32, 1), (0, 32, 32, 3)])
def test_photos_of_another_shape_are_errors(shape):
    network = StyleNetwork()
    with pytest.raises(ValueError, match=r"multiples of 4, got \(" + str(shape[0])):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape), jnp.ones((shape[0], 1)))


@pytest.mark.parametrize("shape", [(2, 3), (1, 2), (2,)])
def test_weights_of_another_shape_are_errors(shape):
    network = StyleNetwork(2)
    with pytest.raises(ValueError, match=r"weights must be \[2, 2\], one for each photo and style"):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, 32, 32, 3)), jnp.ones(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"upsampling": "bilinear"}, "must be one of nearest, transposed, got 'bilinear'"),
        ({"styles": 0}, "styles must be an integer of at least 1, got 0"),
        ({"width": 0.01}, "width must be a number from 0.03125 to 8, got 0.01"),
        ({"width": float("nan")}, "width must be a number"),
    ],
)
def test_bad_arguments_are_errors(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        StyleNetwork(**arguments)
