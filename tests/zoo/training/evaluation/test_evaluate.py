"""Evaluations beside `classify` and `probabilities` of the same images."""

import dataclasses
import shutil

import numpy as np
import pytest

from zoo.data.dataset import Dataset, DatasetError
from zoo.training.evaluation.evaluate import evaluate, select_images

SIZE = 64
PHOTOS = ("cat.jpg", "espresso.jpg", "rocket.jpg")
# Programs of another batch size sum in another order.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}


@pytest.fixture(scope="module")
def names(lite):
    """The likeliest class of each photo."""
    return {label.name: label.synset for label in lite.info.labels}


@pytest.fixture(scope="module")
def photos(examples, lite):
    """Five images, the first of which is the cat and one of which cannot be read."""
    labels = [
        lite.labels.index(name) for name in ("tabby", "espresso", "missile", "espresso", "tabby")
    ]
    images = [examples / name for name in PHOTOS]
    broken = np.zeros((3, 3, 3), np.uint8)
    return Dataset(
        images=[*images[:2], broken, images[1], images[0]],
        labels=np.array(labels),
        classes=lite.labels,
    )


@pytest.fixture(scope="module")
def evaluation(lite, photos):
    return evaluate(lite, photos, size=SIZE, batch_size=2, workers=0)


def test_probabilities_are_those_of_the_model(lite, photos, evaluation):
    readable = [photos.images[index] for index in (0, 1, 3, 4)]
    want = lite.probabilities(lite.preprocess(readable, size=SIZE))
    np.testing.assert_allclose(evaluation.probabilities, want, **TOLERANCE)
    np.testing.assert_array_equal(evaluation.labels, photos.labels[[0, 1, 3, 4]])
    assert evaluation.classes == lite.labels
    assert evaluation.top1 == np.mean(np.argmax(want, 1) == photos.labels[[0, 1, 3, 4]])


def test_what_cannot_be_read_is_listed(evaluation, photos):
    assert len(evaluation.skipped) == 1
    assert evaluation.skipped[0].startswith("image 2: ")
    assert evaluation.names == tuple(str(photos.images[index]) for index in (0, 1, 3, 4))
    np.testing.assert_array_equal(evaluation.indices, [0, 1, 3, 4])


def test_time_counts_from_the_second_batch_on(lite, photos, evaluation):
    assert evaluation.seconds > 0
    assert evaluation.images_per_second > 0
    once = evaluate(lite, photos, size=SIZE, batch_size=100, workers=0)
    assert once.images_per_second is None
    np.testing.assert_allclose(once.probabilities, evaluation.probabilities, **TOLERANCE)


@pytest.fixture
def folder(tmp_path, examples, names):
    """A folder by a synset, one by a name, and one of a class that the model lacks."""
    classes = {
        f"{names['espresso']}-coffee": "espresso.jpg",
        "Tabby": "cat.jpg",
        "ufo": "rocket.jpg",
    }
    for name, photo in classes.items():
        (tmp_path / name).mkdir()
        shutil.copy(examples / photo, tmp_path / name)
    return tmp_path


def test_folders_are_matched_by_synset_or_name_at_the_model_s_own_size(lite, folder, names):
    with pytest.warns(UserWarning, match="the model has no class 'ufo': these are left out"):
        result = evaluate(lite, folder, workers=0)
    assert sorted(lite.labels[label] for label in result.labels) == ["espresso", "tabby"]
    for name, probabilities in zip(result.names, result.probabilities, strict=True):
        best, probability = lite.classify(name, top=1)[0]
        assert lite.labels[probabilities.argmax()] == best
        assert probabilities.max() == pytest.approx(probability, rel=1e-3)


def test_a_folder_of_other_classes_is_an_error(lite, folder):
    for path in folder.iterdir():
        path.rename(folder / f"my {path.name[:1]}")
    with pytest.raises(DatasetError, match="none of the classes is one of the model's"):
        evaluate(lite, folder)


def test_a_limit_draws_the_same_images_each_time(lite):
    images = np.zeros((50, 8, 8, 3), np.uint8)
    dataset = Dataset(images=images, labels=np.arange(50), classes=lite.labels)
    chosen, again = (select_images(dataset, lite, 20).labels for _ in range(2))
    np.testing.assert_array_equal(chosen, again)
    assert len(set(chosen)) == 20
    assert not np.array_equal(chosen, np.arange(20))
    assert len(select_images(dataset, lite, 99)) == len(select_images(dataset, lite)) == 50


def test_an_ensemble_has_the_mean_of_its_models(lite, photos):
    params = lite.variables["params"]
    head = {**params["head"], "bias": params["head"]["bias"][::-1]}
    other = lite.replace(variables={**lite.variables, "params": {**params, "head": head}})
    both = [lite, other]
    results = [evaluate(model, photos, size=SIZE, batch_size=2, workers=0) for model in both]
    together = evaluate(both, photos, size=SIZE, batch_size=2, workers=0)
    assert not np.allclose(results[0].probabilities, results[1].probabilities)
    want = (results[0].probabilities.astype(float) + results[1].probabilities) / 2
    np.testing.assert_allclose(together.probabilities, want, **TOLERANCE)
    assert together.seconds > 0


def test_images_that_are_done_are_told(lite, photos):
    counts = []
    evaluate(lite, photos, size=SIZE, batch_size=2, workers=0, on_batch=counts.append)
    assert counts == [2, 2, 1]


def test_nothing_can_be_read(lite):
    dataset = Dataset(images=["no.jpg"], labels=np.zeros(1, int), classes=lite.labels)
    with pytest.raises(DatasetError, match=r"none of the 1 images can be read; no.jpg cannot"):
        evaluate(lite, dataset, size=SIZE, workers=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"size": 0}, "size"),
    ],
)
def test_arguments_out_of_range(lite, photos, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(lite, photos, **options)


def test_models_that_cannot_be_evaluated(lite, photos):
    turned = dataclasses.replace(lite.info, labels=lite.info.labels[::-1])
    with pytest.raises(ValueError, match="at least one model is needed, got an empty list"):
        evaluate([], photos)
    with pytest.raises(ValueError, match="must have the same labels, but those of"):
        evaluate([lite, lite.replace(info=turned)], photos)
    params = {name: tree for name, tree in lite.variables["params"].items() if name != "head"}
    headless = lite.replace(variables={**lite.variables, "params": params})
    with pytest.raises(ValueError, match="have no classifier"):
        evaluate(headless, photos)
