"""Trainings of styles, from the first step to the folder that they leave."""

import dataclasses
import functools
import importlib
import itertools
import json
import os
import signal
import tomllib
import types
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import zoo
import zoo.style.run
from tests.zoo.deep_dream.tiny import photo
from zoo.inference.images import ImageError
from zoo.runtime.checks import ArgumentError
from zoo.style import (
    StyleError,
    StyleNetwork,
    Styles,
    StyleSettings,
    load_styles,
    make_style_loss,
)
from zoo.style.pixels import to_float
from zoo.style.step import StyleTraining
from zoo.style.styles import variable_shapes
from zoo.style.train import name_styles, split_photos
from zoo.training import DivergenceError, InterruptedTrainingError
from zoo.training.run_folder import RunError
from zoo_pretrained.checkpoint import flatten_variables

# In the package, the function has its name.
MODULE = importlib.import_module("zoo.style.train")
SIZE = 32
SETTINGS = StyleSettings(
    steps=5, batch_size=2, size=SIZE, style_size=SIZE, width=1 / 16, copy_steps=0, evaluate_steps=2
)
STYLE, OTHER_STYLE = photo(seed=9), photo(seed=10)
TWO = {"waves": STYLE, "dots": OTHER_STYLE}
PHOTOS = [photo(seed=seed) for seed in range(4)]
NORM = "params/block3/conv1/norm/scale"
# What the first step may change in a value: Adam's rate, of which the warm-up takes 30 steps.
FIRST_STEP = 1e-3 / 30 * 1.01


class Training(StyleTraining):
    """One that is compiled once for all tests, and to which something may happen in a step.

    Args:
      events: {number of a call of `step`: what to call before it}.
      held_out: what evaluations give as the loss, in place of what it is.
    """

    programs: ClassVar[dict] = {}
    events: ClassVar[dict] = {}
    held_out = None

    def __init__(self, network, loss, variables, grams, settings):
        super().__init__(network, loss, variables, grams, settings)
        traced = (settings.rate, settings.average_decay, settings.norms_only)
        compiled = self._copy, self._style, self._evaluate
        compiled = self.programs.setdefault((network, loss, *traced), compiled)
        self._copy, self._style, self._evaluate = compiled
        self.calls = itertools.count(1)

    def step(self, state, photos, copies):
        self.events.get(next(self.calls), lambda: None)()
        return super().step(state, photos, copies)

    def evaluate(self, variables, photos, weights):
        if self.held_out is not None:
            return {"loss": jnp.asarray(next(self.held_out))}
        return super().evaluate(variables, photos, weights)


MAKE_FIRST = MODULE._make_first


@functools.cache
def new_network(names, settings):
    """Of NumPy's arrays, which no training changes; a second is saved where there is one."""
    first = MAKE_FIRST(None, names, settings)
    return dataclasses.replace(first, variables=jax.tree.map(np.asarray, first.variables))


def make_first(begun, names, settings):
    if begun is not None:
        return MAKE_FIRST(begun, names, settings)
    settings = dataclasses.replace(SETTINGS, seed=settings.seed)
    first = new_network(names, settings)
    return dataclasses.replace(first, variables=jax.tree.map(jnp.array, first.variables))


@pytest.fixture(autouse=True, scope="module")
def _compiled_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "StyleTraining", Training)
        patch.setattr(MODULE, "_make_first", make_first)
        yield


@pytest.fixture
def training(monkeypatch):
    monkeypatch.setattr(Training, "events", {})
    monkeypatch.setattr(Training, "held_out", None)
    return Training


@pytest.fixture(scope="module")
def train(judge):
    def run(style=STYLE, photos=PHOTOS, **given):
        fixed = {"model": judge, "settings": SETTINGS, "workers": 0, "verbose": False}
        return zoo.style.train(style, photos, **{**fixed, **given})

    return run


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """A folder of a run of two styles with all that a state remembers, and its result."""
    folder = tmp_path_factory.mktemp("run")
    return folder, train(TWO, folder=folder, copy_steps=2)


@pytest.fixture
def begun():
    """Styles whose values are all drawn at random."""
    network = StyleNetwork(2, SETTINGS.width)
    return Styles(network, random_variables_of(network), ("a", "b"), extra={"step": 3})


def random_variables_of(network):
    draw = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(draw.uniform(-1, 1, leaf.shape), jnp.float32),
        variable_shapes(network),
    )


def flatten(styles):
    return {path: np.asarray(array) for path, array in flatten_variables(styles.variables)}


def assert_same(styles, expected):
    got, want = flatten(styles), flatten(expected)
    assert got.keys() == want.keys()
    for path, array in got.items():
        np.testing.assert_array_equal(array, want[path], err_msg=path)


def read_metrics(folder):
    """The lines of a run's record, without the times."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in ("time", "elapsed")} for line in lines]


# --- learning


def test_the_held_out_loss_falls(train):
    before, after = (train(steps=steps).extra["held_out"]["loss"] for steps in (1, 15))
    assert after < before / 2


def test_copying_comes_first(finished):
    """Its steps have no loss of style."""
    steps = [line for line in read_metrics(finished[0]) if "loss" in line]
    assert [line["step"] for line in steps if "style" in line] == [3, 4, 5]


def test_copying_is_learnt(judge):
    """Of one batch again and again, as the photos' contrast differs."""
    first = MAKE_FIRST(None, ("a", "b"), SETTINGS)
    loss = make_style_loss(judge, SETTINGS.loss_weights)
    photos = np.stack([pixels[:SIZE, :SIZE] for pixels in PHOTOS[:2]])
    grams = loss.grams(judge.variables, photos / np.float32(255))
    training = Training(first.network, loss, judge.variables, grams, SETTINGS)
    state, errors = training.begin(first.variables["params"]), []
    for _ in range(40):
        state, metrics = training.step(state, photos, copies=True)
        errors.append(float(metrics["loss"]))
    assert errors[-1] < errors[0] / 2


def test_the_seed_decides(train):
    first, same, other = (train(steps=2, seed=seed) for seed in (1, 1, 2))
    assert_same(first, same)
    assert (flatten(first)["params/out/kernel"] != flatten(other)["params/out/kernel"]).any()


def test_styles_get_norms_of_their_own(finished):
    _, styles = finished
    assert styles.names == ("waves", "dots")
    scale = flatten(styles)[NORM]
    assert np.abs(scale[0] - scale[1]).max() > FIRST_STEP


@pytest.mark.parametrize("level", [0, 128])
def test_even_photos_do_not_diverge(level, train, begun):
    even = [np.full((40, 40, 3), level, np.uint8)] * 3
    styles = train(photos=even, start=begun)
    assert all(np.isfinite(array).all() for array in flatten(styles).values())


def test_a_loss_that_is_not_finite(train, judge):
    broken = judge.replace(variables=jax.tree.map(lambda x: x * np.nan, judge.variables))
    with pytest.raises(DivergenceError, match=r"diverged in step 1: .*a lower rate may help"):
        train(model=broken)


# --- what it returns, and when it ends


def test_the_best_weights_are_returned(train, training):
    """Those of step 2, although it goes on for another one."""
    training.held_out = iter([3.0, 2.0, 2.5])
    best = train(steps=3, evaluate_steps=1)
    training.held_out = None
    assert best.extra["held_out"] == {"loss": 2.0, "step": 2}
    assert_same(best, train(steps=2))


def test_patience(train, training):
    """It ends behind the second evaluation that is not below the least, 1.9."""
    training.held_out = iter([3.0, 2.0, 2.5, 1.9, 2.0, 1.9, 1.0])
    train(steps=7, evaluate_steps=1, patience=2)
    assert next(training.held_out) == 1.0


def test_no_patience(train, training):
    training.held_out = itertools.count(1.0)
    train(evaluate_steps=1, patience=0)
    assert next(training.held_out) == 6.0


@pytest.fixture
def slow_clock(monkeypatch):
    """Each step seems to take twenty seconds."""
    ticks = itertools.count(0, 20)
    monkeypatch.setattr(zoo.style.run, "time", types.SimpleNamespace(monotonic=ticks.__next__))


def test_minutes(train, slow_clock):
    assert train(steps=None, minutes=1).extra["step"] == 3


def test_minutes_before_an_interruption_count(train, training, slow_clock, tmp_path):
    training.events = {2: stop}
    with pytest.raises(InterruptedTrainingError):
        train(TWO, steps=None, minutes=1, folder=tmp_path)
    training.events = {}
    assert train(TWO, steps=None, minutes=1, folder=tmp_path).extra["step"] == 3


def test_what_is_noted(train):
    styles = train(steps=1, licence="MIT")
    assert styles.licence == "MIT"
    assert styles.extra["loss_network"] == "Judge"
    assert styles.extra["settings"] == {**dataclasses.asdict(SETTINGS), "steps": 1}


# --- interruptions


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


def fail():
    raise RuntimeError("in the middle")


# In a step: while it copies, in the last such step, and later. What fails loses the steps since
# the last state, the first of which is that of step 2.
INTERRUPTIONS = {
    "copying": (1, stop, InterruptedTrainingError),
    "copied": (2, stop, InterruptedTrainingError),
    "later": (3, stop, InterruptedTrainingError),
    "before a state": (2, fail, RuntimeError),
    "behind a state": (4, fail, RuntimeError),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", INTERRUPTIONS)
def test_an_interrupted_run_ends_as_if_it_had_not_been(case, train, training, finished, tmp_path):
    step, event, error = INTERRUPTIONS[case]
    training.events = {step: event}
    with pytest.raises(error):
        train(TWO, folder=tmp_path, copy_steps=2)
    training.events = {}
    styles = train(TWO, folder=tmp_path, copy_steps=2)
    folder, expected = finished
    assert_same(styles, expected)
    assert_same(load_styles(tmp_path / "model"), expected)
    assert styles.extra == expected.extra
    assert read_metrics(tmp_path) == read_metrics(folder)


def test_an_interruption_without_a_folder(train, training):
    training.events = {2: stop}
    with pytest.raises(InterruptedTrainingError, match="in step 2; nothing is kept") as caught:
        train()
    assert caught.value.signal_number == signal.SIGTERM


def test_a_resumed_run_keeps_its_best_weights(train, training, tmp_path):
    """Those of step 1, although the state from which it goes on is of step 2."""
    short = {"steps": 3, "evaluate_steps": 1, "folder": tmp_path}
    training.events = {2: stop}
    # Of each of two styles.
    training.held_out = iter([1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    with pytest.raises(InterruptedTrainingError):
        train(TWO, **short)
    training.events = {}
    resumed = train(TWO, **short)
    training.held_out = None
    assert_same(resumed, train(TWO, steps=1))
    assert_same(load_styles(tmp_path / "model"), resumed)


def test_a_finished_run_gives_the_same_again(train, training, tmp_path):
    training.held_out = iter([1.0, 2.0])
    first, again = (train(folder=tmp_path, steps=2, evaluate_steps=1) for _ in range(2))
    assert_same(again, first)


# --- the folder


def test_what_a_folder_holds(finished):
    folder, styles = finished
    assert {path.name for path in folder.iterdir()} - {".lock"} == {
        "settings.toml", "run.json", "metrics.jsonl", "model", "previews", "states",
    }  # fmt: skip
    settings = tomllib.loads((folder / "settings.toml").read_text())
    assert StyleSettings(**settings) == dataclasses.replace(SETTINGS, copy_steps=2)
    assert json.loads((folder / "run.json").read_text())["styles"] == ["waves", "dots"]
    assert_same(load_styles(folder / "model"), styles)
    assert sorted(path.name for path in (folder / "states").iterdir()) == ["4", "5"]


def test_the_record_of_a_run(finished):
    lines = read_metrics(finished[0])
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5]
    evaluated = [line for line in lines if "validation_loss" in line]
    assert [line["step"] for line in evaluated] == [2, 4, 5]
    weights = SETTINGS.loss_weights
    for line in evaluated:  # the loss is the weighted sum of its parts, but for rounding
        parts = [line[f"validation_{name}"] for name in ("content", "style", "total_variation")]
        total = np.dot(parts, dataclasses.astuple(weights))
        assert line["validation_loss"] == pytest.approx(total, rel=1e-5)


def test_previews(finished):
    """Each shows the one held-out photo, and beside it the picture in each of two styles."""
    folder, styles = finished
    names = [path.name for path in sorted((folder / "previews").iterdir())]
    assert names == ["step-000002.png", "step-000004.png", "step-000005.png"]
    with Image.open(folder / "previews" / names[-1]) as image:
        assert image.size == (3 * SIZE, SIZE)
        shown = np.asarray(image)
    x = to_float(shown[None, :, :SIZE], SETTINGS.noise)
    picture = np.asarray(styles(x, np.eye(2, dtype=np.float32)[1:]))[0]
    # Within half a level of the rounding, and that of another program.
    np.testing.assert_allclose(shown[:, 2 * SIZE :], picture.clip(0, 1) * 255, atol=0.51)


OTHER_RUNS = {
    "a name": ({"style": {"waves": STYLE, "lines": OTHER_STYLE}}, r"styles \['waves', 'dots'\]"),
    "an image": ({"style": {"waves": STYLE, "dots": STYLE}}, "other style images"),
    "settings": ({"rate": 0.5}, r"other settings: rate was 0\.001 and is 0\.5"),
    "layers": ({"content_layers": ["conv2"]}, "layers .*'conv3'.*, not .*'conv2'"),
    "photos": ({"photos": PHOTOS[:3]}, r"images for training and validation \[3, 1\], not \[2, 1"),
}


@pytest.mark.parametrize("case", OTHER_RUNS)
def test_another_run_in_a_folder(case, train, finished):
    changes, message = OTHER_RUNS[case]
    before = read_metrics(finished[0])
    with pytest.raises(RunError, match=f"holds a run with {message}"):
        train(**{"style": TWO, "folder": finished[0], "copy_steps": 3, **changes})
    assert read_metrics(finished[0]) == before


def test_a_start_is_one_of_the_facts(train, finished, begun):
    with pytest.raises(RunError, match="holds a run with start None, not "):
        train(TWO, folder=finished[0], copy_steps=2, start=begun)


# --- a network that is begun with


def test_a_start_gives_kernels_and_norms(begun):
    """Those of a style that it has; mean norms to others."""
    styles = MODULE._make_first(begun, ("c", "b", "e"), SETTINGS)
    assert (styles.names, styles.network.styles) == (("c", "b", "e"), 3)
    before = flatten(begun)
    for path, array in flatten(styles).items():
        expected = before[path]
        if "/norm/" in path:
            mean = (expected[0] + expected[1]) / 2
            expected = np.stack([mean, expected[1], mean])
        np.testing.assert_array_equal(array, expected, err_msg=path)


def test_it_begins_with_a_start(train, begun, tmp_path):
    """Which may be a path, and is not taught to copy."""
    begun.save(tmp_path / "begun")
    run = {"steps": 1, "copy_steps": 5, "folder": tmp_path / "run"}
    after, before = flatten(train(start=tmp_path / "begun", **run)), flatten(begun)
    assert "style" in read_metrics(tmp_path / "run")[0]
    for path, array in after.items():
        expected = before[path].mean(0, keepdims=True) if "/norm/" in path else before[path]
        np.testing.assert_allclose(array, expected, rtol=0, atol=FIRST_STEP, err_msg=path)


def test_a_start_can_still_be_used(train, begun):
    """A step of training donates its arrays, which must not be those of the start."""
    # NumPy's views of the very arrays would keep them from being donated.
    copy = dataclasses.replace(begun, variables=jax.tree.map(jnp.array, begun.variables))
    before = flatten(copy)
    train(start=begun, steps=1)
    for path, array in flatten(begun).items():
        np.testing.assert_array_equal(array, before[path])


def test_norms_only_leaves_kernels_as_they_are(train, begun):
    before = flatten(begun)
    after = flatten(train(start=begun, norms_only=True))
    fixed = [path for path in after if "/norm/" not in path]
    assert len(fixed) == 17  # the kernels of 16 convolutions, and a bias
    for path in fixed:
        np.testing.assert_array_equal(after[path], before[path], err_msg=path)
    assert np.abs(after[NORM] - before[NORM].mean(0)).max() > FIRST_STEP


def test_norms_only_needs_a_start(train):
    with pytest.raises(ValueError, match="norms_only needs start"):
        train(norms_only=True)


# --- styles


def test_names_are_those_of_files(tmp_path):
    for name in ("mosaic.jpg", "stars.by.night.png"):
        Image.fromarray(STYLE).save(tmp_path / name)
    paths = [tmp_path / "mosaic.jpg", str(tmp_path / "stars.by.night.png")]
    assert name_styles(paths) == {"mosaic": paths[0], "stars.by.night": paths[1]}
    assert [*name_styles(paths[1])] == ["stars.by.night"]


def test_names_of_arrays_are_numbers():
    assert [*name_styles([STYLE, OTHER_STYLE])] == ["image 1", "image 2"]


def test_names_that_are_given():
    assert name_styles(TWO) == TWO


def test_two_styles_of_one_name():
    with pytest.raises(StyleError, match="two styles are called 'mosaic'"):
        name_styles(["old/mosaic.jpg", "new/mosaic.png"])


@pytest.mark.parametrize("none", [[], {}])
def test_no_styles(none):
    with pytest.raises(StyleError, match="at least one image"):
        name_styles(none)


def test_a_style_that_is_no_image(train):
    with pytest.raises(ImageError):
        train(b"no image")


# --- photos


@pytest.mark.parametrize(
    ("photos", "share", "counts"),
    [(10, 0.2, (8, 2)), (10, 0.01, (9, 1)), (2, 0.9, (1, 1)), (10, 0, (10, 10)), (1, 0.2, (1, 1))],
)
def test_how_many_photos_are_held_out(photos, share, counts):
    """At least one, and not all; but those for training where there are no others."""
    names = [f"{number}.jpg" for number in range(photos)]
    arrays = dict(zip(names, [STYLE] * photos, strict=True))
    parts = split_photos([*arrays.values()], StyleSettings(validation=share))
    assert tuple(map(len, parts)) == counts


def test_photos_are_held_out_or_trained_on():
    numbered = [np.full((32, 32, 3), number, np.uint8) for number in range(10)]
    parts = split_photos(numbered, StyleSettings(validation=0.3))
    first, second = ({int(image[0, 0, 0]) for image in part.images} for part in parts)
    assert (len(first), len(second), first | second) == (7, 3, set(range(10)))


def test_one_photo(train):
    assert isinstance(train(photos=PHOTOS[0], steps=1), Styles)


@pytest.fixture
def photo_files(tmp_path):
    """Three photos and a damaged one, whose name is the last."""
    for number, pixels in enumerate(PHOTOS[:3]):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "0.png").read_bytes()[:100])
    return tmp_path


def test_a_damaged_photo_is_left_out(train, photo_files, capsys):
    """It comes in each of two epochs, and is named once."""
    train(photos=photo_files, steps=4, validation=0, verbose=True)
    assert capsys.readouterr().err.count("left out: ") == 1


def test_a_damaged_photo_beside_a_good_one(train, training):
    """In batches of more photos than there are, where each comes several times: it gets going."""
    training.events = {1: fail}
    with pytest.raises(RuntimeError, match="in the middle"):
        train(photos=[PHOTOS[0], b"damaged"], batch_size=4, validation=0)


def test_photos_that_are_all_damaged(train):
    with pytest.raises(ImageError):
        train(photos=[b"damaged", b"too"])


def test_an_empty_folder(train, tmp_path):
    with pytest.raises(ImageError, match="a folder without images"):
        train(photos=tmp_path)


# --- arguments


def test_an_unknown_setting(train):
    with pytest.raises(ArgumentError, match="no setting 'step'; did you mean steps"):
        train(step=3)


@pytest.mark.parametrize("argument", ["content_layers", "style_layers"])
def test_an_unknown_layer(argument, train):
    with pytest.raises(ArgumentError, match=f"^{argument}: Judge has no module 'conv9'; did you"):
        train(**{argument: ["conv9"]})


def test_what_cannot_begin_leaves_no_folder(train, tmp_path):
    with pytest.raises(ArgumentError):
        train(folder=tmp_path / "run", content_layers=["conv9"])
    assert not (tmp_path / "run").exists()
