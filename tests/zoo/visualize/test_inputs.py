"""Targets, and images as they are shown."""

import numpy as np
import pytest

import zoo
from tests.zoo.models.small_models import small as small_model
from tests.zoo.visualize.by_hand import linear, photo, plain
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import NoClassifierError
from zoo.visualize import layers
from zoo.visualize.inputs import TargetError, find_class, prepare_inputs, to_photos
from zoo.visualize.layers import LayerError

KERNEL, BIAS, HEAD = [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [0, 0, 0], np.eye(3)


@pytest.fixture(scope="module")
def net():
    """Its logits are the means of red, green and blue."""
    return plain(KERNEL, BIAS, HEAD)


def shade(red, green, blue):
    return np.full((8, 8, 3), (red, green, blue), np.uint8)


def test_the_predicted_class_is_the_target(net):
    inputs = prepare_inputs(net, [shade(0, 255, 0), shade(0, 0, 255)])
    assert list(inputs.targets) == [1, 2]
    assert inputs.labels == ("kind 1", "kind 2")
    expected = np.exp(1) / (np.exp(1) + 2)
    np.testing.assert_allclose(inputs.probabilities, expected, rtol=1e-5)


def test_one_target_serves_all_images(net):
    for target in (2, "kind 2", "KIND 2", "2", np.int64(2)):
        assert list(prepare_inputs(net, [photo(0), photo(1)], target).targets) == [2, 2]


def test_a_target_for_each_image_or_several_for_one(net):
    inputs = prepare_inputs(net, [photo(0), photo(1)], [0, "kind 1"])
    assert list(inputs.targets) == [0, 1]
    several = prepare_inputs(net, photo(0), [2, 0, None])
    assert list(several.targets)[:2] == [2, 0]
    np.testing.assert_array_equal(several.x[0], several.x[2])
    np.testing.assert_array_equal(several.photos[1], photo(0))


def test_top_repeats_an_image_for_each_of_its_likeliest_classes(net):
    inputs = prepare_inputs(net, [shade(10, 200, 100), shade(200, 100, 10)], top=2)
    assert list(inputs.targets) == [1, 2, 0, 1]
    np.testing.assert_array_equal(inputs.photos[1], shade(10, 200, 100))
    assert inputs.probabilities[0] > inputs.probabilities[1]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, "index from 0 to 2, got 3"),
        (-1, "got -1"),
        (True, "got True"),
        (1.5, "got 1.5"),
        ("kind", "did you mean kind"),
        ("zebra", "has no class 'zebra'; a target is a label or an index"),
        ("7", "from 0 to 2, got 7"),
        ([0, 1, 2], "3 targets for 2 images"),
        ([], "0 targets for 2 images"),
    ],
)
def test_targets_that_are_no_classes(net, target, message):
    with pytest.raises(TargetError, match=message):
        prepare_inputs(net, [photo(0), photo(1)], target)


@pytest.mark.parametrize(
    ("top", "message"), [(0, "from 1 to 3, got 0"), (4, "got 4"), (1.5, "1.5")]
)
def test_top_that_means_nothing(net, top, message):
    with pytest.raises(TargetError, match=message):
        prepare_inputs(net, photo(), top=top)


def test_target_and_top_exclude_each_other(net):
    with pytest.raises(TargetError, match="exclude each other"):
        prepare_inputs(net, photo(), 1, top=2)


def test_labels_that_differ_in_capitals_alone(lite):
    """A dog and a piece of clothing."""
    assert find_class(lite, "Cardigan") == lite.labels.index("Cardigan") == 264
    assert find_class(lite, "cardigan") == lite.labels.index("cardigan") == 474
    with pytest.raises(TargetError, match="264, 474 are all named 'CARDIGAN'; give an index"):
        find_class(lite, "CARDIGAN")


def test_weights_without_a_classifier_are_refused(lite, examples):
    params = {k: v for k, v in lite.variables["params"].items() if k != "head"}
    headless = lite.replace(variables={**lite.variables, "params": params})
    with pytest.raises(NoClassifierError, match="have no classifier"):
        zoo.visualize.grad_cam(headless, examples / "cat.jpg")


def test_weights_that_are_not_finite_are_told():
    net = linear(np.full((2, 8, 8, 3), np.nan), [0, 0])
    with pytest.raises(FloatingPointError, match="not finite"):
        prepare_inputs(net, photo())


@pytest.mark.parametrize("channels", ["RGB", "BGR", "grey", "bands"])
def test_photos_are_what_the_model_saw(channels):
    count = {"grey": 1, "bands": 4}.get(channels, 3)
    mean, std = tuple(np.linspace(0.3, 0.6, count)), tuple(np.linspace(0.2, 0.4, count))
    preprocessing = Preprocessing(8, 8, "nearest", mean, std, channels)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, count), dtype=np.uint8)
    x = preprocessing.normalize(pixels)
    bands = [0, 0, 0] if count == 1 else [0, 1, 2]
    np.testing.assert_array_equal(to_photos(preprocessing, x), pixels[..., bands])


def test_prepared_inputs_are_taken_as_they_are(net):
    inputs = prepare_inputs(net, photo(), 2)
    assert prepare_inputs(net, inputs) is inputs
    assert prepare_inputs(tuple(net), inputs) is inputs
    for given in ({"target": 1}, {"top": 2}, {"size": 8}):
        with pytest.raises(TargetError, match="prepared inputs have their targets and size"):
            prepare_inputs(net, inputs, **given)
    with pytest.raises(TargetError, match="prepared inputs are of another model"):
        prepare_inputs(plain(KERNEL, BIAS, HEAD), inputs)


def test_images_too_small_for_the_model(net):
    with pytest.raises(ValueError, match="size must be an integer of at least 1, got 0"):
        prepare_inputs(net, photo(), size=0)
    model, variables, _ = small_model("vgg")
    with pytest.raises(LayerError, match="takes images of at least 32x32 pixels, got size=8"):
        prepare_inputs((model, variables), photo(), size=8)


def test_many_images_are_computed_in_batches(net, monkeypatch):
    images = [photo(seed) for seed in range(5)]
    whole = prepare_inputs(net, images)
    maps = zoo.visualize.gradient(net, whole).maps
    monkeypatch.setattr(layers, "BATCH_SIZE", 2)
    parts = prepare_inputs(net, images)
    np.testing.assert_allclose(parts.probabilities, whole.probabilities, rtol=1e-6)
    np.testing.assert_allclose(zoo.visualize.gradient(net, parts).maps, maps, rtol=1e-6)
    assert len(maps) == 5
