"""Pictures of kernels show the kernels' values."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.small_models import SMALL, small
from tests.zoo.visualize.by_hand import Plain, make_trained, plain
from zoo.checkpoints.load import as_trained
from zoo.runtime.checks import ArgumentError
from zoo.visualize.filter_plots import LINE, filters, find_kernel
from zoo.visualize.layers import LayerError
from zoo.visualize.pictures import PictureError


class Colored(Plain, kw_only=True):
    """Plain, whose convolution is known to take the images."""

    input_conv: ClassVar[str] = "features"


def colored(kernel, channels="RGB"):
    """Colored with a kernel [3, 3, 3, K], for images with that order of channels."""
    params = {
        "features": {"kernel": jnp.float32(kernel), "bias": jnp.zeros(kernel.shape[-1])},
        "head": {"kernel": jnp.ones((kernel.shape[-1], 2)), "bias": jnp.zeros(2)},
    }
    trained = make_trained(Colored(num_classes=2, features=kernel.shape[-1]), params)
    preprocessing = dataclasses.replace(trained.info.preprocessing, channels=channels)
    info = dataclasses.replace(trained.info, preprocessing=preprocessing)
    return dataclasses.replace(trained, info=info)


def test_the_first_convolution_is_in_the_colors_of_the_images():
    kernel = np.zeros((3, 3, 3, 2))
    kernel[0, 1, :, 0] = 4, -4, 2  # of filter 0, above the middle
    kernel[2, 2, :, 1] = -1, 0, 0.5
    gallery = filters(colored(kernel))
    assert list(gallery.titles) == ["0", "1"]
    expected = np.full((2, 3, 3, 3), 128)  # grey is 0
    expected[0, 0, 1] = 255, 0, 191  # 0.5 + 0.5 · (1, −1, 0.5)
    expected[1, 2, 2] = 0, 128, 191
    zoom = gallery.pixels.shape[1] // 3
    np.testing.assert_array_equal(gallery.pixels, np.kron(expected, np.ones((1, zoom, zoom, 1))))


def test_kernels_for_bgr_images_are_shown_as_rgb():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 5))
    flipped = kernel[:, :, ::-1]
    np.testing.assert_array_equal(
        filters(colored(flipped, "BGR")).pixels, filters(colored(kernel, "RGB")).pixels
    )


def test_slices_of_other_layers_begin_with_the_strongest():
    # Not known to be the first convolution, so its three channels are slices.
    gallery = filters(plain([[1, 0], [-2, 0], [0.5, 8]], [0, 0], np.eye(2)), slices=2)
    values = {int(v) for v in np.unique(gallery.pixels[0])}
    assert values == {0, 191, LINE}  # −2 and 1 as shares of 2: black before light grey
    middle = gallery.pixels[0][len(gallery.pixels[0]) // 2, :, 0]
    assert middle[1] == 0
    assert middle[-2] == 191
    assert gallery.pixels[1][1, 1, 0] == 255  # 8, of the third channel


def test_a_filter_of_zeros_is_grey():
    assert (filters(colored(np.zeros((3, 3, 3, 1)))).pixels == 128).all()


@pytest.mark.parametrize("family", SMALL)
def test_each_family_shows_its_first_kernels(family):
    model, variables, _ = small(family)
    gallery = filters((model, variables), count=4)
    node = variables["params"]
    for name in model.input_conv.split("/"):
        node = node[name]
    kernel = np.float64(node["kernel"])[..., :4]
    side = gallery.pixels.shape[1] // len(kernel)
    shown = gallery.pixels[:, side // 2 :: side, side // 2 :: side]
    expected = 127.5 + 127.5 * kernel / np.abs(kernel).max((0, 1, 2))
    np.testing.assert_allclose(shown, np.moveaxis(expected, -1, 0), atol=0.51)


def test_kernels_of_a_fused_model_and_of_a_single_convolution_inside(lite):
    assert find_kernel(lite, "stem")[0] == find_kernel(lite)[0] == "stem/conv"
    assert len(filters(zoo.fuse(lite), count=None)) == 32
    depthwise = filters(lite, "stage2/block1/depthwise", count=5)
    assert len(depthwise) == 5
    kernel = np.asarray(
        lite.variables["params"]["stage2"]["block1"]["depthwise"]["conv"]["kernel"]
    )[:, :, 0, 0]
    zoom = depthwise.pixels.shape[1] // 3
    shown = depthwise.pixels[0, zoom // 2 :: zoom, zoom // 2 :: zoom, 0]
    np.testing.assert_allclose(shown, 127.5 * (1 + kernel / np.abs(kernel).max()), atol=0.51)


def test_layers_without_one_kernel_of_a_convolution_are_errors():
    trained = as_trained(small("resnet")[:2])
    with pytest.raises(LayerError, match=r"'stage1' .* holds 4 convolutions; name one of"):
        filters(trained, "stage1")
    with pytest.raises(LayerError, match=r"'head' .* nearest layer that has one is 'stage4/"):
        filters(trained, "head")
    with pytest.raises(LayerError, match=r"'pool' .* nearest layer that has one is 'stem/conv'"):
        filters(trained, "pool")
    with pytest.raises(LayerError, match=r"no layer 'stagge1'; did you mean .*stage1"):
        filters(trained, "stagge1")


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"count": "a"}, {"count": 2.5}, {"slices": 0}, {"slices": "a"}]
)
def test_wrong_numbers_are_errors(wrong):
    name, value = next(iter(wrong.items()))
    message = f"{name} must be an integer of at least 1, got {value!r}"
    with pytest.raises(ArgumentError, match=message):
        filters(plain(np.eye(3), [0] * 3, np.eye(3)), **wrong)


def test_unknown_colors_are_an_error():
    with pytest.raises(PictureError, match="colors"):
        filters(plain(np.eye(3), [0] * 3, np.eye(3)), colors="gray")
