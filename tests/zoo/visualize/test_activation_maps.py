"""Pictures of feature maps show what the layers compute."""

import numpy as np
import pytest

import zoo
from tests.zoo.models.small_models import SMALL, small
from tests.zoo.visualize.by_hand import SIZE, photo, plain
from zoo.checkpoints.load import as_trained
from zoo.runtime.checks import ArgumentError
from zoo.visualize.activation_maps import TILE, activations, find_stages
from zoo.visualize.layers import LayerError
from zoo.visualize.pictures import PictureError, color


def ramp(red, green, blue):
    """A photo whose channels rise from left to right to these values."""
    steps = np.linspace(0, 1, SIZE)[None, :, None] * [red, green, blue]
    return np.uint8(np.repeat(steps, SIZE, axis=0))


def centers(tile):
    """One pixel of each position of a feature map."""
    zoom = TILE // SIZE
    return tile[zoom // 2 :: zoom, zoom // 2 :: zoom]


def test_channels_that_vary_most_come_first_each_in_its_own_range():
    trained = plain(np.diag([1, 1, 1]), [0, 0, 5], np.eye(3))
    image = ramp(100, 250, 0)
    image[..., 2] = 255  # the largest of all, but the same everywhere
    gallery = activations(trained, image, channels=3)
    assert list(gallery.titles) == ["1", "0", "2"]
    for tile, channel in zip(gallery.pixels, (1, 0), strict=False):
        expected = color(image[..., channel] / image[..., channel].max())
        np.testing.assert_allclose(centers(tile), expected, atol=1)
    assert (gallery.pixels[2] == color(0.0)).all()


def test_the_mean_over_channels_begins_a_row():
    trained = plain(np.diag([1, 2, 3]), [0, 0, 0], np.eye(3))
    image = photo(3)
    gallery = activations(trained, image, "features", channels=1, mean=True)
    mean = (np.float64(image) * [1, 2, 3]).mean(-1)
    expected = color((mean - mean.min()) / np.ptp(mean))
    np.testing.assert_allclose(centers(gallery.pixels[0]), expected, atol=1)
    assert list(gallery.titles) == ["mean", "2"]


def test_rows_are_layers_in_the_order_of_the_paths(lite, examples):
    paths = ["stage3", "stem"]
    gallery = activations(lite, examples / "cat.jpg", paths, channels=2, size=64)
    outputs = zoo.features(lite, lite.preprocess(examples / "cat.jpg", size=64), paths)
    assert [heading.split()[:2] for heading in gallery.headings] == [
        ["stage3", "8x8,"],
        ["stem", "32x32,"],
    ]
    for row, path in enumerate(paths):
        y = np.float64(outputs[path][0])
        channel = int(y.std((0, 1)).argmax())
        assert gallery.titles[2 * row] == str(channel)
        zoom = TILE / len(y)
        rows = np.int64((np.arange(len(y)) + 0.5) * zoom)
        y = y[..., channel]
        expected = color((y - y.min()) / np.ptp(y))
        shown = gallery.pixels[2 * row][rows][:, rows]
        np.testing.assert_allclose(np.int64(shown), expected, atol=2)
    picture = gallery.picture.pixels  # the last row is not cut
    np.testing.assert_array_equal(picture[-TILE:, :TILE], gallery.pixels[2])


@pytest.mark.parametrize("family", SMALL)
def test_the_stages_of_each_family(family):
    model, variables, _ = small(family)
    names = [name for name in variables["params"] if name.startswith(("stem", "stage"))]
    stages = find_stages(as_trained((model, variables)))
    assert sorted(stages) == sorted(names)
    assert [int(name[5:]) for name in stages if name != "stem"] == sorted(
        int(name[5:]) for name in names if name != "stem"
    )


def test_weights_without_a_classifier_are_enough():
    model, variables, _ = small("vgg")
    params = {k: v for k, v in variables["params"].items() if k.startswith("stage")}
    headless = (model, {**variables, "params": params})
    image = photo(size=40)
    whole = activations((model, variables), image, "stage2", size=32)
    np.testing.assert_array_equal(
        activations(headless, image, "stage2", size=32).pixels, whole.pixels
    )


def test_wrong_arguments_are_errors():
    trained = plain(np.eye(3), [0] * 3, np.eye(3))
    with pytest.raises(LayerError, match="'head' of Plain has no spatial extent"):
        activations(trained, photo(), "head")
    with pytest.raises(LayerError, match=r"no layer 'feature'; did you mean features"):
        activations(trained, photo(), ["feature"])
    with pytest.raises(LayerError, match="at least one layer"):
        activations(trained, photo(), [])
    for channels in (0, True, 1.5, "a"):
        message = f"channels must be an integer of at least 1, got {channels!r}"
        with pytest.raises(ArgumentError, match=message):
            activations(trained, photo(), channels=channels)
    assert len(activations(trained, photo(), channels=np.int64(2))) == 2
    with pytest.raises(PictureError, match="one image, got 2"):
        activations(trained, [photo(), photo()])
    with pytest.raises(zoo.ImageError):
        activations(trained, "none.jpg")
