"""Whole dreams."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.zoo.deep_dream import tiny as tiny_module
from tests.zoo.deep_dream.tiny import photo, tiny
from tests.zoo.models.small_models import SMALL, random_variables
from zoo.checkpoints.load import as_trained
from zoo.deep_dream import dream, dream_layers, objectives
from zoo.deep_dream.objectives import Objective
from zoo.inference.images import ImageError
from zoo.runtime.checks import ArgumentError
from zoo.visualize.layers import LayerError
from zoo.visualize.pictures import PictureError

QUICK = {"octaves": 2, "steps": 4, "tile": 64, "jitter": 8}


@pytest.fixture(scope="module")
def net():
    return tiny()


def strength(trained, pixels, layer, guide=None):
    """The objective of a whole image."""
    x = trained.info.preprocessing.normalize(np.asarray(pixels)[None])
    square = x[:, :48, :48]
    return float(Objective(trained, layer, guide, 48)(square)[0])


def with_channels(trained, channels, count=3):
    preprocessing = dataclasses.replace(
        trained.info.preprocessing.for_channels(count), channels=channels
    )
    return trained.replace(info=dataclasses.replace(trained.info, preprocessing=preprocessing))


def test_it_is_public():
    assert zoo.dream is dream


@pytest.mark.parametrize("family", ["mobilenet_v2", "densenet"])
def test_the_objective_rises(family):
    trained = as_trained((SMALL[family], random_variables(SMALL[family])))
    strengths = [
        strength(
            trained, dream(trained, photo(), layers="stage2", **{**QUICK, "steps": steps}), "stage2"
        )
        for steps in (1, 4, 10)
    ]
    assert strength(trained, photo(), "stage2") < strengths[0] < strengths[1] < strengths[2]


def test_a_negative_weight_lowers_it(net):
    changed = dream(net, photo(), layers={"conv1": -1}, **QUICK)
    assert strength(net, changed, "conv1") < strength(net, photo(), "conv1")


def test_a_guide_draws_features_towards_its_own(net):
    guide = photo(seed=5)
    free, guided = (dream(net, photo(), layers="conv1", guide=g, **QUICK) for g in (None, guide))
    likeness = [strength(net, pixels, "conv1", guide) for pixels in (photo(), free, guided)]
    assert likeness[2] > likeness[1]
    assert likeness[2] > likeness[0]


def test_the_seed_decides(net):
    first, same, other = (
        dream(net, photo(), layers="conv1", seed=seed, **QUICK).pixels for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_a_dream_of_no_strength_is_the_photo(channels):
    trained = with_channels(tiny(), channels)
    picture = dream(trained, photo(), layers="mix", step_size=1e-9, **QUICK)
    np.testing.assert_array_equal(picture.pixels, photo())
    assert picture.title == "dream of mix"


def test_a_grey_dream():
    trained = with_channels(tiny(1), "grey", 1)
    picture = dream(trained, photo(), layers="mix", step_size=1e-9, **QUICK)
    want = np.asarray(Image.fromarray(photo()).convert("L"))
    np.testing.assert_array_equal(picture.pixels, np.repeat(want[..., None], 3, -1))


def test_channels_have_their_order(net):
    """A model of BGR with its kernel's channels reversed dreams the same."""
    want = dream(net, photo(), layers="conv1", **QUICK).pixels
    params = net.variables["params"]
    mix = {**params["mix"], "kernel": params["mix"]["kernel"][:, :, ::-1]}
    reversed_ = with_channels(net.replace(variables={"params": {**params, "mix": mix}}), "BGR")
    info = net.info.preprocessing
    constants = dataclasses.replace(info, mean=info.mean[::-1], std=info.std[::-1], channels="BGR")
    reversed_ = reversed_.replace(info=dataclasses.replace(reversed_.info, preprocessing=constants))
    got = dream(reversed_, photo(), layers="conv1", **QUICK).pixels
    assert np.abs(np.int32(got) - want).max() <= 1


def test_a_large_photo_is_reduced_in_its_aspect(net):
    assert dream(net, photo(96, 160), layers="mix", size=80, **QUICK).pixels.shape == (48, 80, 3)
    assert dream(net, photo(96, 160), layers="mix", size=None, **QUICK).pixels.shape == (96, 160, 3)


def test_noise(net):
    picture = dream(net, layers="conv1", size=48, **QUICK)
    assert picture.pixels.shape == (48, 48, 3)
    assert picture.pixels.std() > 5
    with pytest.raises(PictureError, match="a dream of noise needs a size"):
        dream(net, layers="conv1", size=None)


def test_one_compilation_serves_all_octaves_and_images(net):
    objectives._compiled.cache_clear()
    dream(net, photo(), layers="conv2", **QUICK)  # shapes of layers are looked up once
    objectives._compiled.cache_clear()
    tiny_module.TRACES.clear()
    options = {"layers": "conv2", "octaves": 4, "scale": 1.3, "steps": 2, "tile": 64, "size": None}
    for size in ((150, 131), (90, 200), (99, 99)):
        dream(net, photo(*size), **options)
    assert tiny_module.TRACES == [(1, 64, 64, 3)]


def test_a_dream_for_each_layer(net):
    calls = []
    gallery = dream_layers(
        net, photo(), ["mix", "conv1"], progress=lambda *call: calls.append(call), **QUICK
    )
    assert gallery.titles == ["mix", "conv1"]
    for pixels, layer in zip(gallery.pixels, gallery.titles, strict=True):
        np.testing.assert_array_equal(pixels, dream(net, photo(), layers=layer, **QUICK).pixels)
    assert calls == [(n, 16) for n in range(1, 17)]


def test_streams_are_loaded_once_for_all_layers(net):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    def encode(seed):
        data = io.BytesIO()
        Image.fromarray(photo(seed=seed)).save(data, "PNG")
        return Pipe(data.getvalue())

    want = dream_layers(net, photo(), ["mix", "conv1"], guide=photo(seed=1), **QUICK).pixels
    got = dream_layers(net, encode(0), ["mix", "conv1"], guide=encode(1), **QUICK).pixels
    np.testing.assert_array_equal(got, want)


def test_errors(net):
    with pytest.raises(LayerError, match="no layer 'conv3'; did you mean"):
        dream(net, photo(), layers="conv3", octaves=1)
    with pytest.raises(LayerError, match="at least one layer"):
        dream_layers(net, photo(), [])
    with pytest.raises(PictureError, match="too small for octaves=4"):
        dream(net, photo())
    with pytest.raises(ArgumentError, match="size must be an integer of at least 32, got 0"):
        dream(net, photo(), size=0)
    with pytest.raises(ArgumentError, match="seed must be an integer of at least 0"):
        dream(net, photo(), seed=-1)
    with pytest.raises(ImageError):
        dream(net, "nowhere.jpg")
    with pytest.raises(ImageError):
        dream(net, photo(), guide="nowhere.jpg", octaves=1)
    bands = with_channels(net, "bands")
    with pytest.raises(PictureError, match="3 bands, which are no picture"):
        dream(bands, photo())


def test_the_embedded_model(lite, examples):
    small = Image.open(examples / "cat.jpg").resize((96, 64))
    changed = dream(lite, small, layers="stage2", octaves=1, steps=2, jitter=0)
    before, after = (strength(lite, pixels, "stage2") for pixels in (small, changed))
    assert after > 1.2 * before
