"""Generated pictures: objectives rise, and mean what they say; on the embedded model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.small_models import SMALL, random_variables
from zoo.checkpoints.load import as_trained
from zoo.inference.preprocessing import Preprocessing
from zoo.runtime.checks import ArgumentError
from zoo.visualize.inputs import TargetError, normalize
from zoo.visualize.layers import LayerError
from zoo.visualize.optimization import (
    ascent,
    caricature,
    channel,
    class_image,
    class_logit,
    direction,
    feature,
    interpolate,
    invert,
    neuron,
)
from zoo.visualize.optimization.generate import make_noise
from zoo.visualize.optimization.parametrize import Parametrization
from zoo.visualize.pictures import PictureError

SIZE = 48


def respond(trained, pixels, layer):
    """A layer's output for pictures [N, H, W, 3], uint8, or pixels from 0 to 1."""
    pixels = np.asarray(pixels) / (255 if np.asarray(pixels).dtype == np.uint8 else 1)
    x = normalize(trained.info.preprocessing, np.float32(pixels))
    return np.asarray(zoo.features(trained, jnp.asarray(x), layer)[layer], np.float64)


def start_pixels(size, seed=0):
    """The noise that pictures start from, not rounded: [1, size, size, 3]."""
    parametrization = Parametrization("fourier", size)
    return parametrization.to_pixels(make_noise(parametrization, seed, 1, 1)[0])[None]


@pytest.fixture(scope="module")
def textures(lite):
    """Pictures of four channels of a layer."""
    numbers = [3, 7, 12, 20]
    texts = [f"stage3:{number}" for number in numbers]
    return numbers, feature(lite, texts, size=SIZE, steps=40, seed=1)


def test_a_picture_excites_its_own_channel_most(lite, examples, textures):
    numbers, generated = textures
    assert generated.titles == ["stage3:3", "stage3:7", "stage3:12", "stage3:20"]
    means = respond(lite, generated.pixels, "stage3").mean((1, 2))[:, numbers]
    assert (means.argmax(0) == np.arange(4)).all()  # of each channel, its own picture
    photos = lite.preprocess(sorted(examples.glob("*.jpg")), size=SIZE)
    y = np.asarray(zoo.features(lite, jnp.asarray(photos), "stage3")["stage3"]).mean((1, 2))
    assert (np.diag(means) > 3 * y[:, numbers].max(0)).all()


def test_values_rise_and_are_those_of_the_layer(lite, textures):
    numbers, generated = textures
    assert generated.values.shape == (4, 40)
    assert (generated.values[:, -5:].mean(1) > generated.values[:, :5].mean(1) + 5).all()
    still = feature(lite, "stage3:3", size=SIZE, steps=1, transforms=False, seed=4)
    mean = respond(lite, start_pixels(SIZE, seed=4), "stage3").mean((1, 2))[0, numbers[0]]
    np.testing.assert_allclose(still.values, mean, rtol=1e-3)


def test_the_same_seed_gives_the_same_picture_in_any_company(lite, textures):
    numbers, generated = textures
    again = feature(lite, [f"stage3:{n}" for n in numbers], size=SIZE, steps=40, seed=1)
    np.testing.assert_array_equal(again.pixels, generated.pixels)
    other = feature(lite, [f"stage3:{n}" for n in numbers], size=SIZE, steps=40, seed=2)
    assert np.abs(np.int32(other.pixels) - generated.pixels).mean() > 5


def test_one_program_serves_all_objectives_of_a_layer(lite, monkeypatch):
    traced = []
    read = ascent.read_layers
    monkeypatch.setattr(ascent, "read_layers", lambda *args: traced.append(args[3]) or read(*args))
    options = {"size": 33, "steps": 2}
    feature(lite, "stage1:2", **options)
    first = list(traced)
    assert first
    feature(lite, "stage1:5", **options, seed=3, rate=0.1)
    feature(lite, neuron("stage1", 3, (2, 5)), **options)
    feature(lite, direction("stage1", np.ones(16), cosine_power=2), **options)
    assert traced == first
    feature(lite, "stage2:5", **options)
    assert len(traced) > len(first)


def test_neuron_direction_and_sum_equal_their_definitions(lite):
    vector = np.random.default_rng(0).normal(size=24)
    objectives = [
        neuron("stage2", 5),
        neuron("stage2", 5, (1, 4)),
        direction("stage2", 7 * vector, cosine_power=1),
        direction("stage2", vector, cosine_power=0),
        channel("stage2", 1) - 2 * channel("stage2", 4),
        0.5 * channel("stage2", 1) + neuron("stage1", 3),
    ]
    still = feature(lite, objectives, size=SIZE, steps=1, transforms=False)
    y, early = (respond(lite, start_pixels(SIZE), layer)[0] for layer in ("stage2", "stage1"))
    dot = y @ vector / np.linalg.norm(vector)
    cosine = np.maximum(0.1, dot / np.linalg.norm(y, axis=-1))
    expected = [
        y[6, 6, 5],
        y[1, 4, 5],
        (dot * cosine).mean(),
        dot.mean(),
        (y[..., 1] - 2 * y[..., 4]).mean(),
        0.5 * y[..., 1].mean() + early[12, 12, 3],
    ]
    np.testing.assert_allclose(still.values[:, 0], expected, rtol=1e-3, atol=1e-3)
    assert still.titles[4] == "stage2:1 - 2 * stage2:4"


def test_interpolation_goes_from_one_objective_to_the_other(lite):
    row = interpolate("stage2:3", channel("stage2", 9), 3)
    assert [item.title for item in row] == ["stage2:3", "50%", "stage2:9"]
    generated = feature(lite, row, size=SIZE, steps=30, aligned=True)
    first, last = respond(lite, generated.pixels, "stage2").mean((1, 2))[:, [3, 9]].T
    assert first[0] > first[1] > first[2]
    assert last[0] < last[1] < last[2]
    apart = feature(lite, row, size=SIZE, steps=30)

    def distance(pictures):
        return np.abs(np.diff(np.int32(pictures.pixels), axis=0)).mean()

    assert distance(generated) < 0.8 * distance(apart)


@pytest.mark.slow
def test_diversity_makes_pictures_differ(lite):
    def gram_cosines(generated):
        y = respond(lite, generated.pixels, "stage3")
        grams = np.einsum("nhwc,nhwd->ncd", y, y).reshape(len(y), -1)
        grams /= np.linalg.norm(grams, axis=1, keepdims=True)
        return (grams @ grams.T)[np.triu_indices(len(y), 1)].mean()

    options = {"size": SIZE, "steps": 40, "count": 3}
    alike, diverse = (feature(lite, "stage3:7", diversity=d, **options) for d in (0, 1))
    assert alike.titles == ["stage3:7"] * 3
    assert gram_cosines(diverse) < gram_cosines(alike) - 0.1
    own = respond(lite, diverse.pixels, "stage3").mean((1, 2))
    assert (own[:, 7] > 3).all()  # and still show the channel


@pytest.mark.slow
def test_class_pictures_are_classified_as_their_class(lite):
    for generated in (
        feature(lite, "head:967", size=96, steps=40),
        class_image(lite, "espresso", size=96, steps=48),
    ):
        logits = lite(lite.info.preprocessing.normalize(generated.pixels))
        assert np.argmax(logits, axis=1).tolist() == [967]
        assert (generated.values[:, -1] > 8).all()


@pytest.mark.slow
def test_class_image_starts_at_the_mean_color_and_is_held_there(lite):
    start = class_image(lite, "tabby", size=80, steps=1, rate=1e-9)
    mean = np.float32(lite.info.preprocessing.mean)
    np.testing.assert_allclose(
        start.pixels[0] / 255, np.broadcast_to(mean, (80, 80, 3)), atol=0.003
    )

    def contrast(regularization):
        options = {"size": 80, "steps": 12, "regularization": regularization}
        return class_image(lite, "tabby", **options).pixels.std()

    assert contrast(1e4) < 0.5 * contrast(0.0)


@pytest.mark.slow
def test_inversion_finds_the_features_and_deep_layers_forget_more(lite, examples):
    cat = examples / "cat.jpg"
    layers = ["stage1", "stage5"]
    inverted = invert(lite, cat, layers, size=64, steps=96, variation=0)
    assert (inverted.values[:, 0] < -0.9).all()
    assert (inverted.values[:, -1] > -0.25).all()
    # The last value is of the features of the picture (which is one step further).
    shown = lite.preprocess(cat, size=64)
    for layer, pixels, value in zip(layers, inverted.pixels, inverted.values[:, -1], strict=True):
        r = np.asarray(zoo.features(lite, jnp.asarray(shown), layer)[layer], np.float64)
        y = respond(lite, pixels[None], layer)
        np.testing.assert_allclose(np.square(y - r).sum() / np.square(r).sum(), -value, atol=0.05)
    original = 255 * (
        shown[0] * np.float32(lite.info.preprocessing.std)
        + np.float32(lite.info.preprocessing.mean)
    )
    shallow, deep = np.square(inverted.pixels - original).mean((1, 2, 3))
    assert shallow < 0.5 * deep


@pytest.mark.parametrize("start", ["noise", "image"])
def test_a_caricature_has_more_of_the_same_features(lite, examples, start):
    cat = examples / "cat.jpg"
    made = caricature(lite, cat, "stage3", size=64, steps=48, start=start, transforms=False)
    r = np.asarray(zoo.features(lite, lite.preprocess(cat, size=64), "stage3")["stage3"]).ravel()
    y = respond(lite, made.pixels, "stage3").ravel()
    assert y @ r > 1.2 * (r @ r)
    assert y @ r / np.linalg.norm(y) / np.linalg.norm(r) > 0.8


def make_small(family, bands=3, channels="RGB"):
    model = SMALL[family]
    trained = as_trained((model, random_variables(model, bands)))
    mean, std = (0.4, 0.2, 0.6)[:bands], (0.2, 0.3, 0.4)[:bands]
    preprocessing = Preprocessing(64, 64, "bilinear", mean, std, channels)
    return trained.replace(info=dataclasses.replace(trained.info, preprocessing=preprocessing))


@pytest.mark.slow
def test_grey_and_bgr_models_get_what_is_shown(examples):
    grey = make_small("resnet", 1, "grey")
    made = feature(grey, "stage2:3", size=33, steps=3, rate=1e-9, transforms=False)
    assert (made.pixels[..., :1] == made.pixels).all()
    y = zoo.features(grey, grey.info.preprocessing.normalize(made.pixels[..., :1]), "stage2")
    np.testing.assert_allclose(np.mean(y["stage2"][..., 3]), made.values[0, -1], rtol=0.02)

    bgr = make_small("resnet", channels="BGR")
    made = class_image(bgr, 2, size=33, steps=3, rate=1e-9)
    np.testing.assert_array_equal(made.pixels[0, 0, 0], np.round(255 * np.array([0.6, 0.2, 0.4])))
    # The distance of the noise's features from the photo's, as the definition has it.
    made = invert(bgr, examples / "cat.jpg", "stem", size=48, steps=1)
    photo = bgr.preprocess(examples / "cat.jpg", size=48)
    parametrization = Parametrization("fourier", 48)
    noise = parametrization.to_pixels(parametrization.init(jax.random.key(0)))
    x = jnp.stack([normalize(bgr.info.preprocessing, noise[..., ::-1]), photo[0]])
    y, r = np.asarray(zoo.features(bgr, x, "stem")["stem"], np.float64)
    np.testing.assert_allclose(made.values, -np.square(y - r).sum() / np.square(r).sum(), rtol=1e-3)
    with pytest.raises(PictureError, match="takes 3 bands"):
        feature(make_small("resnet", channels="bands"), "stage2:3")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vgg", "mobilenet_v3", "squeezenet"])
def test_every_kind_of_network_can_be_climbed(family):
    trained = make_small(family)
    objectives = [class_logit(1), "stage2:3", "stage2:2"]
    made = feature(trained, objectives, size=64, steps=32, transforms=False, decay=1)
    logit = trained(normalize(trained.info.preprocessing, start_pixels(64)))[0, 1]
    np.testing.assert_allclose(made.values[0, 0], logit, rtol=1e-3, atol=1e-3)
    assert (made.values[:, -1] > made.values[:, 0]).all()
    if family == "vgg":  # a channel that is 0 in the beginning, and so is its gradient
        assert made.values[2, 0] == 0


def test_headless_weights_suffice_before_the_head():
    model, variables = SMALL["resnet"], random_variables(SMALL["resnet"])
    params = {name: tree for name, tree in variables["params"].items() if name != "head"}
    headless = as_trained((model, {**variables, "params": params}))
    both = channel("stage2", 1) + channel("stage3", 1)
    assert len(feature(headless, both, size=33, steps=1)) == 1
    for attempt in (
        lambda: feature(headless, "head:1", size=33, steps=1),
        lambda: feature(headless, class_logit(1), size=33, steps=1),
        lambda: class_image(headless, 1, size=33, steps=1),
    ):
        with pytest.raises(ValueError, match="have no classifier"):
            attempt()


def test_progress_counts_all_steps(lite):
    calls = []
    feature(
        lite, ["stage1:1", "stem:2"], size=33, steps=2, progress=lambda *args: calls.append(args)
    )
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("method", [invert, caricature])
def test_progress_counts_the_steps_of_all_layers(lite, examples, method):
    calls = []
    layers, options = ["stem", "stage1"], {"size": 32, "steps": 2}
    method(lite, examples / "cat.jpg", layers, progress=lambda *c: calls.append(c), **options)
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("what", "options", "error", "message"),
    [
        ("stage4", {}, LayerError, "such as 'stage4:12'"),
        ("stage4:", {}, LayerError, "such as 'stage4:12'"),
        ("stage4:tabby", {}, LayerError, "such as 'stage4:12'"),
        (":3", {}, LayerError, "such as 'stage4:12'"),
        (3, {}, LayerError, "got 3"),
        ([3], {}, LayerError, "got 3"),
        ([], {}, LayerError, "got nothing"),
        ("stage4:80", {}, LayerError, "channels 0 to 79, got 80"),
        (channel("stage4", -1), {}, LayerError, "channels 0 to 79, got -1"),
        ("stage44:1", {}, LayerError, "did you mean"),
        (direction("stage4", np.ones(79)), {}, LayerError, r"80 finite .* got \[79\]"),
        (direction("stage4", np.zeros(80)), {}, LayerError, "not all 0"),
        (direction("stage4", np.full(80, np.nan)), {}, LayerError, "finite"),
        (neuron("stage4", 1, (2, 99)), {}, LayerError, "2x2 map"),
        (neuron("head", 1), {}, LayerError, "no spatial extent"),
        (class_logit("taby"), {}, TargetError, "tabby"),
        (class_logit(1000), {}, TargetError, "0 to 999"),
        ("stage4:1", {"size": 15}, ArgumentError, "size must be .* 16, got 15"),
        ("stage4:1", {"size": 40.5}, ArgumentError, "size must be"),
        ("stage4:1", {"steps": 0}, ArgumentError, "steps must be .* 1, got 0"),
        ("stage4:1", {"count": 0}, ArgumentError, "count must be"),
        ("stage4:1", {"rate": 0}, ArgumentError, "rate must be"),
        ("stage4:1", {"diversity": 1.0}, PictureError, "count above 1"),
        ("stage4:1", {"diversity": -1.0, "count": 2}, ArgumentError, "diversity must be"),
        ("stage4:1", {"decay": 0}, ArgumentError, "decay must be"),
        ("stage4:1", {"transforms": "no"}, ArgumentError, "True, False or Movements, got 'no'"),
        ("stage4:1", {"parametrization": "wavelet"}, PictureError, "fourier, pixels"),
    ],
)
def test_bad_input_is_a_clear_error(lite, what, options, error, message):
    with pytest.raises(error, match=message):
        feature(lite, what, **{"size": 32, "steps": 1, **options})


def test_bad_input_of_the_others(lite, examples):
    cat = examples / "cat.jpg"
    for attempt, error in (
        (lambda: class_image(lite, "taby"), TargetError),
        (lambda: class_image(lite, []), PictureError),
        (lambda: class_image(lite, 1, rate=-1), ArgumentError),
        (lambda: class_image(lite, 1, regularization=-1), ArgumentError),
        (lambda: invert(lite, cat, "stag1"), LayerError),
        (lambda: invert(lite, cat, []), PictureError),
        (lambda: invert(lite, cat, "stage1", variation=-1), ArgumentError),
        (lambda: caricature(lite, cat, "stage1", start="cat"), PictureError),
        (lambda: caricature(lite, cat, "stage1", rate=float("nan")), ArgumentError),
        (lambda: caricature(lite, cat, "stage1", transforms=1), ArgumentError),
        (lambda: interpolate("stage1:1", "stage1:2", 1), ArgumentError),
        (lambda: interpolate("stage1:1", "stage1:2", "a"), ArgumentError),
    ):
        with pytest.raises(error):
            attempt()


def test_pictures_of_one_objective_start_from_other_noise(lite):
    pictures = feature(lite, "stage1:1", size=33, steps=1, rate=1e-9, count=2, transforms=False)
    assert (pictures.pixels[0] != pictures.pixels[1]).any()
