"""A small DenseNet finds the fractures of generated bones."""

import pytest

import zoo
from tests.zoo.data.mura_tree import generate
from zoo.models.densenet import DenseNet
from zoo.training.evaluation.mura import evaluate_mura


@pytest.mark.slow
def test_a_small_densenet_finds_drawn_fractures(tmp_path):
    generate(tmp_path, patients=300, seed=0)
    splits = zoo.data.load("mura", tmp_path)
    settings = zoo.training.Settings(
        epochs=12, batch_size=32, size=64, optimizer="adamw", rate=3e-3, flip=0.5
    )
    model = DenseNet(depths=(2, 2, 2, 2), growth_rate=12, stem_channels=24)
    trained = zoo.training.fit(
        model, splits, settings=settings, channels=1, workers=0, verbose=False
    )
    assert trained.labels == ("negative", "positive")
    evaluation, studies = evaluate_mura(trained, tmp_path, workers=0)
    assert len(evaluation) == len(splits.val)
    assert studies.overall.metrics["auroc"].value > 0.95
