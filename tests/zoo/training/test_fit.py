"""Whole trainings on the digits: what they give, and what they leave in their folder."""

import json

import jax
import numpy as np
import pytest

import zoo
from tests.zoo.training.tiny import TinyNet, register_tiny
from zoo.models.base import MODELS
from zoo.training import evaluate, fit

EPOCHS = 3
SETTINGS = {
    "epochs": EPOCHS,
    "batch_size": 32,
    "optimizer": "adamw",
    "rate": 0.03,
    "size": 8,
    "verbose": False,
}


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn", reason="the extra `train` installs it")
    return zoo.data.load("digits")


@pytest.fixture(scope="module", autouse=True)
def _tiny(cached):
    register_tiny()
    yield
    del MODELS[TinyNet.__name__]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "digits"


@pytest.fixture(scope="module")
def trained(digits, folder):
    return fit(TinyNet(features=64), digits, folder=folder, tensorboard=True, **SETTINGS)


@pytest.fixture(scope="module")
def record(trained, folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def evaluation(trained, digits):
    return evaluate(trained, digits.val, workers=0)


def test_a_small_model_learns_the_digits(evaluation):
    """By chance it would be 10 %; five times the epochs give 80 %."""
    assert evaluation.top1 > 0.5


def test_the_result_classifies_grey_images(trained, digits):
    assert trained.labels == tuple("0123456789")
    assert (trained.channels, trained.info.preprocessing.size) == (1, 8)
    images = list(digits.val.images[:20])
    best = [ranked[0][0] for ranked in trained.classify(images)]
    truth = [digits.val.classes[label] for label in digits.val.labels[:20]]
    assert np.mean([a == b for a, b in zip(best, truth, strict=True)]) > 0.4
    assert trained.classify(images[0][..., 0]) == trained.classify(images[0])


def test_the_result_can_be_saved_and_loaded(trained, folder, tmp_path, digits):
    trained.save(tmp_path / "mine")
    for place in (tmp_path / "mine", folder / "model"):
        loaded = zoo.trained("TinyNet", weights=place)
        assert loaded.labels == trained.labels
        assert loaded.info.preprocessing == trained.info.preprocessing
        assert loaded.model == trained.model
        jax.tree.map(np.testing.assert_array_equal, loaded.variables, trained.variables)
    image = digits.val.images[0]
    assert loaded.classify(image) == trained.classify(image)


def test_without_a_folder_the_weights_are_the_same(trained, digits):
    again = fit(TinyNet(features=64), digits, **SETTINGS)
    assert again.info.labels == trained.info.labels
    jax.tree.map(np.testing.assert_array_equal, again.variables, trained.variables)


def test_the_record_has_steps_and_an_evaluation_of_each_epoch(record, digits):
    steps = [line["step"] for line in record]
    assert steps == sorted(steps)
    assert steps[-1] == EPOCHS * (len(digits.train) // 32)
    evaluations = [line for line in record if "validation_loss" in line]
    assert [line["epoch"] for line in evaluations] == [1, 2, 3]
    rates = [line["learning_rate"] for line in record if "learning_rate" in line]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(0.03, rel=0.01)


def test_what_is_kept_is_the_best_of_the_record(record, evaluation, trained):
    found = [
        (line["validation_accuracy"], -line["validation_loss"])
        for line in record
        if "validation_loss" in line
    ]
    best = max(found)
    # Of the fused model, so that some digits of the loss differ.
    assert evaluation.top1 == pytest.approx(best[0], abs=0.006)
    assert evaluation.loss == pytest.approx(-best[1], rel=1e-3)
    assert trained.info.top1 is None


def test_the_report_shows_the_best_accuracy_and_the_settings(folder, record):
    page = (folder / "report.html").read_text()
    best = max(line.get("validation_accuracy", 0) for line in record)
    assert f"{100 * best:.1f} %" in page
    assert "adamw" in page
    assert "TinyNet" in page
    assert page.count("<figure>") == 24


def test_the_folder_has_the_settings_and_files_of_tensorboard(folder):
    settings = zoo.training.Settings.read(folder / "settings.toml")
    assert (settings.epochs, settings.optimizer) == (EPOCHS, "adamw")
    assert any((folder / "tensorboard").glob("events.*"))


def test_a_complete_run_gives_its_result_again(trained, digits, folder, capfd):
    before = (folder / "metrics.jsonl").read_bytes()
    again = fit(TinyNet(features=64), digits, folder=folder, **{**SETTINGS, "verbose": True})
    jax.tree.map(np.testing.assert_array_equal, again.variables, trained.variables)
    assert "this run is complete" in capfd.readouterr().err
    assert (folder / "metrics.jsonl").read_bytes() == before
