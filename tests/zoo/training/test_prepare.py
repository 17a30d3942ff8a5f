"""The model that is trained: whose weights it begins with, and which head."""

import dataclasses
import functools

import numpy as np
import pytest

import zoo
from tests.zoo.training.tiny import TinyNet
from zoo.data.dataset import Dataset
from zoo.data.sources import as_dataset
from zoo.models.densenet import DenseNet
from zoo.training.prepare import prepare_model, weigh_classes
from zoo.training.settings import Settings, SettingsError
from zoo_pretrained.checkpoint import flatten_variables

SMALL = Settings(size=32)


def arrays(*classes, shape=(8, 8, 3), count=6):
    labels = np.arange(count) % len(classes)
    return Dataset(images=np.zeros((count, *shape), np.uint8), labels=labels, classes=classes)


def definition(**options):
    return TinyNet(**options)


@functools.cache
def trained(*labels, channels=3):
    """A model of these classes, with fresh weights that stand for trained ones."""
    return prepare_model(definition(), arrays(*labels), SMALL.replace(seed=2), channels)


def assert_same(got, want, but=()):
    got, want = dict(flatten_variables(got)), dict(flatten_variables(want))
    for path, array in want.items():
        equal = got[path].shape == array.shape and np.array_equal(got[path], array)
        assert equal == (not path.startswith(tuple(but))), path


def test_a_definition_gets_the_classes_of_the_data_and_random_weights():
    dataset = arrays("cat", "dog", "owl")
    made = prepare_model(definition(), dataset, SMALL)
    assert made.labels == ("cat", "dog", "owl")
    assert made.model == definition(num_classes=3)
    assert (made.channels, made.info.preprocessing.size) == (3, 32)
    assert made.info.top1 is None
    assert_same(made.variables, prepare_model(definition(), dataset, SMALL).variables)
    other = prepare_model(definition(), dataset, SMALL.replace(seed=1))
    kernel = made.variables["params"]["head"]["kernel"]
    assert not np.array_equal(kernel, other.variables["params"]["head"]["kernel"])


@pytest.mark.parametrize(
    ("shape", "channels"), [((8, 8), 1), ((8, 8, 1), 1), ((8, 8, 3), 3), ((8, 8, 5), 5)]
)
def test_a_definition_has_the_channels_of_arrays(shape, channels):
    assert prepare_model(definition(), arrays("a", "b", shape=shape), SMALL).channels == channels


def test_a_definition_has_three_channels_for_files_unless_told_otherwise():
    files = Dataset(images=["a.jpg", "b.npy"], labels=np.arange(2), classes=("a", "b"))
    assert prepare_model(definition(), files, SMALL).channels == 3
    assert prepare_model(definition(), files, SMALL, 4).channels == 4


def test_a_damaged_first_image_tells_no_channels():
    class Scans:
        targets = (0, 1)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            if index == 1:
                raise OSError("damaged")
            return np.zeros((8, 8), np.uint8), index

    dataset = as_dataset(Scans(), classes=("a", "b")).select([1, 0])
    assert prepare_model(definition(), dataset, SMALL).channels == 1


def test_the_size_is_the_model_s_own_unless_it_is_set():
    preprocessing = prepare_model(definition(), arrays("a", "b"), Settings()).info.preprocessing
    assert preprocessing.size == 224
    smaller = prepare_model(definition(), arrays("a", "b"), SMALL).info.preprocessing
    assert smaller == preprocessing.resized(32)


def test_the_same_classes_keep_the_head():
    old = trained("a", "b", "c")
    assert_same(prepare_model(old, arrays("a", "b", "c"), SMALL).variables, old.variables)


@pytest.mark.parametrize("classes", [("a", "c", "b"), ("a", "b", "d"), ("a", "b"), tuple("abcd")])
def test_other_classes_get_a_fresh_head(classes):
    old = trained("a", "b", "c")
    made = prepare_model(old, arrays(*classes), SMALL)
    assert made.labels == classes
    assert made.model.num_classes == len(classes)
    assert_same(made.variables, old.variables, but=["params/head/kernel", *_bias(classes)])
    other = prepare_model(old, arrays(*classes), SMALL.replace(seed=1))
    assert_same(other.variables, made.variables, but=["params/head/kernel"])


def _bias(classes):
    """Fresh biases are zeros too, unless there are more or fewer."""
    return [] if len(classes) == 3 else ["params/head/bias"]


def test_classes_without_names_are_named_and_keep_the_head():
    old = prepare_model(definition(), arrays("class 0", "class 1"), SMALL)
    made = prepare_model((old.model, old.variables), arrays("cat", "dog"), SMALL)
    assert made.labels == ("cat", "dog")
    assert_same(made.variables, old.variables)
    assert made.classify(np.zeros((32, 32, 3), np.uint8))[0][0] in ("cat", "dog")


def test_classes_without_names_of_another_number_get_a_fresh_head():
    old = prepare_model(definition(), arrays("class 0", "class 1"), SMALL)
    made = prepare_model((old.model, old.variables), arrays("cat", "dog", "owl"), SMALL)
    assert made.labels == ("cat", "dog", "owl")
    assert_same(made.variables, old.variables, but=["params/head"])


def test_weights_without_a_classifier_get_one():
    old = trained("a", "b")
    params = {name: tree for name, tree in old.variables["params"].items() if name != "head"}
    headless = old.replace(variables={**old.variables, "params": params})
    made = prepare_model(headless, arrays("a", "b"), SMALL)
    assert made.info.head
    assert made.variables["params"]["head"]["kernel"].shape == (16, 2)
    assert made.labels == ("a", "b")


@pytest.mark.parametrize("channels", [1, 5])
def test_trained_weights_are_adapted_to_other_channels(channels):
    old = trained("a", "b")
    made = prepare_model(old, arrays("a", "b"), SMALL, channels)
    assert made.channels == channels == len(made.info.preprocessing.mean)
    assert_same(made.variables, zoo.adapt(old, channels=channels).variables)


def test_a_published_accuracy_is_not_that_of_other_weights(lite):
    named = dataclasses.replace(lite.info, top1=75.0)
    made = prepare_model(lite.replace(info=named), arrays(*lite.labels, count=1000), SMALL)
    assert made.info.top1 is None
    assert made.info.preprocessing.size == 32
    assert_same(made.variables, lite.variables)


@pytest.mark.parametrize("channels", [0, -1, 1.5])
@pytest.mark.parametrize("model", [definition(), ("a", "b")], ids=["definition", "trained"])
def test_channels_that_there_cannot_be(model, channels):
    model = trained(*model) if isinstance(model, tuple) else model
    with pytest.raises(ValueError, match="channels must be an integer of at least 1, got"):
        prepare_model(model, arrays("a", "b"), SMALL, channels)


def test_a_size_that_is_too_small_for_the_model_is_refused_before_weights_are_drawn(monkeypatch):
    monkeypatch.setattr(DenseNet, "init", lambda *_: pytest.fail("weights were drawn"))
    model = DenseNet(depths=(1, 1, 1, 1), growth_rate=4, stem_channels=8)
    with pytest.raises(SettingsError, match="size must be at least 29 for DenseNet, got 8"):
        prepare_model(model, arrays("a", "b"), Settings(size=8))


def test_a_model_whose_own_size_is_too_small_for_it():
    model = DenseNet(depths=(1, 1, 1, 1), growth_rate=4, stem_channels=8)
    made = prepare_model(model, arrays("a", "b"), Settings(size=32))
    preprocessing = made.info.preprocessing.resized(16)
    made = made.replace(info=dataclasses.replace(made.info, preprocessing=preprocessing))
    with pytest.raises(SettingsError, match="size must be at least 29 for DenseNet, got 16"):
        prepare_model(made, arrays("a", "b"), Settings())


def test_a_fused_model_cannot_be_trained():
    fused = zoo.fuse(trained("a", "b"))
    with pytest.raises(ValueError, match="TinyNet is fused: it has no batch norms left"):
        prepare_model(fused, arrays("a", "b"), SMALL)


def test_balanced_weights_give_each_class_the_same_sum():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    dataset = Dataset(images=np.zeros((10, 8, 8)), labels=labels, classes=tuple("abcd"))
    weighed = weigh_classes(dataset, "balanced")
    sums = np.bincount(labels, weighed.weights, 4)
    np.testing.assert_allclose(sums, [10 / 3, 10 / 3, 10 / 3, 0])
    assert weigh_classes(dataset, "none") is dataset


def test_balanced_weights_multiply_the_data_s_own():
    own = np.linspace(1, 2, 4)
    dataset = Dataset(
        images=np.zeros((4, 8, 8)), labels=np.array([0, 0, 0, 1]), classes=("a", "b"), weights=own
    )
    want = own * [4 / 6, 4 / 6, 4 / 6, 2]
    np.testing.assert_allclose(weigh_classes(dataset, "balanced").weights, want)
    assert weigh_classes(dataset, "none").weights is own
