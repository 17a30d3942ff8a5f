"""The phases of a training: first the classifier alone, then all that is not frozen."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.training.tiny import TinyNet
from zoo.data.dataset import Dataset
from zoo.inference.preprocessing import Preprocessing
from zoo.runtime.extras import MissingExtraError
from zoo.training.classification import ClassificationTask, make_augmentation, make_prepare
from zoo.training.devices import make_placement
from zoo.training.mixing import mix
from zoo.training.phases import make_phases
from zoo.training.prepare import prepare_model
from zoo.training.settings import Settings, SettingsError
from zoo.training.step import init_train_state

CLASSES = ("a", "b", "c")
STEPS_PER_EPOCH = 10
SETTINGS = Settings(epochs=2, size=8, schedule="cosine", warmup_epochs=0.2, rate=0.5)


@functools.cache
def trained():
    images = np.zeros((3, 8, 8, 3), np.uint8)
    return prepare_model(
        TinyNet(), Dataset(images=images, labels=np.arange(3), classes=CLASSES), SETTINGS
    )


def phases(**settings):
    model, settings = trained().model, SETTINGS.replace(**settings)
    task = ClassificationTask()
    return make_phases(
        model,
        trained(),
        settings,
        STEPS_PER_EPOCH,
        make_placement(),
        task.make_objective(settings),
        task.find_head(model, trained().variables["params"]),
    )


def run(phase, state=None):
    """The state after a step of a phase."""
    random = np.random.default_rng(0)
    images = jnp.asarray(random.normal(size=(8, 8, 8, 3)), jnp.float32)
    if state is None:
        variables = jax.tree.map(jnp.copy, trained().variables)
        state = init_train_state(variables, phase.optimizer, trainable=phase.trainable)
    return phase.step(phase.begin(state), images, jnp.arange(8) % 3)[0]


def changed(state):
    """The outermost modules whose parameters changed, and whether statistics did."""
    before = trained().variables

    def differ(a, b):
        return any(jax.tree.leaves(jax.tree.map(lambda x, y: not np.array_equal(x, y), a, b)))

    names = {n for n, p in state.variables["params"].items() if differ(p, before["params"][n])}
    return names, differ(state.variables["batch_stats"], before["batch_stats"])


def test_without_a_phase_of_the_head_there_is_one_phase():
    (phase,) = phases()
    assert (phase.first_step, phase.last_step) == (0, 20)
    assert changed(run(phase)) == ({"stem", "head"}, True)


def test_first_only_the_head_changes_and_then_all():
    first, second = phases(head_epochs=0.5)
    assert [(p.first_step, p.last_step) for p in (first, second)] == [(0, 5), (5, 25)]
    after_first = run(first)
    assert changed(after_first) == ({"head"}, False)
    # The first step consumes the state that it is given.
    assert changed(run(second, after_first)) == ({"stem", "head"}, True)


def test_the_rate_is_constant_for_the_head_and_then_follows_the_schedule():
    first, second = phases(head_epochs=0.5)
    assert [first.rate(step) for step in range(1, 6)] == pytest.approx([0.5] * 5)
    assert [second.rate(step) for step in (6, 7, 8)] == pytest.approx([0.25, 0.5, 0.5])
    assert second.rate(25) < 0.01


def test_what_is_frozen_stays_in_all_phases():
    (phase,) = phases(freeze=("stem",))
    assert changed(run(phase)) == ({"head"}, True)
    first, second = phases(freeze=("**", "!stem/norm", "!head"), head_epochs=1.0)
    state = run(first)
    assert changed(state) == ({"head"}, False)
    state = run(second, state)
    kernels = (state.variables["params"], trained().variables["params"])
    kernel, before = (params["stem"]["conv"]["kernel"] for params in kernels)
    np.testing.assert_array_equal(kernel, before)
    assert changed(state) == ({"stem", "head"}, True)


def test_norms_can_be_frozen():
    (phase,) = phases(freeze_norms=("**",))
    assert changed(run(phase)) == ({"stem", "head"}, False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": ["stm"]}, "freeze: 'stm' matches no module of the model; did you mean stem"),
        ({"freeze_norms": ["x"]}, "freeze_norms: 'x' matches no module of the model"),
        ({"freeze": ["**"]}, "freeze leaves nothing to train, got ['**']"),
        ({"freeze": ["stem", "head"]}, "freeze leaves nothing to train, got ['stem', 'head']"),
        (
            {"freeze": ["head"], "head_epochs": 1},
            "head_epochs must be 0 where freeze has the classifier, got 1",
        ),
        (
            {"shard_params": True, "sync_norms": False},
            "sync_norms must be true where shard_params is, got false",
        ),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(SettingsError) as caught:
        phases(**settings)
    assert str(caught.value).startswith(message)


def test_a_training_has_at_least_one_step():
    (phase,) = phases(epochs=0.01)
    assert (phase.first_step, phase.last_step) == (0, 1)


def test_an_augmentation_has_the_settings_of_its_name():
    preprocessing = trained().info.preprocessing
    settings = Settings(crop_scale=0.5, flip=0.25, rotate=3, randaugment=2, erasing=0.1)
    made = make_augmentation(preprocessing, settings)
    assert made.preprocessing is preprocessing
    for name in ("crop_scale", "flip", "rotate", "color_jitter", "randaugment", "erasing"):
        assert getattr(made, name) == getattr(settings, name)


def test_an_augmentation_whose_library_lacks_is_told_before_the_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "albumentations", None)
    preprocessing = trained().info.preprocessing
    with pytest.raises(MissingExtraError, match=r"pip install 'jax-zoo\[train\]'"):
        make_augmentation(preprocessing, Settings(flip=0.5))
    make_augmentation(preprocessing, Settings(crop_scale=1, flip=0))  # which needs none


PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
LABELS, WEIGHTS = np.array([0, 1, 2, 1], np.int32), np.ones(4, np.float32)
BGR = Preprocessing(8, 8, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "BGR")


def test_pixels_are_normalised_as_the_model_wants_them():
    images, labels, weights = make_prepare(BGR, SETTINGS, 3)(PIXELS, LABELS, WEIGHTS, 0)
    want = (PIXELS[..., ::-1] / 255 - np.array(BGR.mean)) / np.array(BGR.std)
    np.testing.assert_allclose(images, want, atol=1e-5)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(weights, WEIGHTS)


def test_each_step_is_mixed_in_its_own_way_by_the_seed():
    def prepare(step, seed=0):
        settings = SETTINGS.replace(mixup=0.4, seed=seed)
        return make_prepare(BGR, settings, 3)(PIXELS, LABELS, WEIGHTS, np.int32(step))

    first, again, other_step, other_seed = prepare(0), prepare(0), prepare(1), prepare(0, seed=1)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first[1], other_step[1])
    assert not np.array_equal(first[1], other_seed[1])
    plain, *_ = make_prepare(BGR, SETTINGS, 3)(PIXELS, LABELS, WEIGHTS, 0)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 0)
    mixed = jax.jit(functools.partial(mix, num_classes=3, mixup=0.4))
    want = mixed(plain, LABELS, WEIGHTS, key)
    for got, expected in zip(first, want, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
