"""Training of detectors on the loop of `zoo.training`."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import zoo
from tests.zoo.detection.tiny import TinyDetector, registered
from zoo.data.dataset import DatasetError
from zoo.detection.data.dataset import DetectionDataset
from zoo.detection.data.load import DetectionSplits
from zoo.detection.training.task import DetectionTask
from zoo.training.fit import find_task
from zoo.training.settings import Settings, SettingsError

SIZE = 64


def squares(count, seed, classes=("bright", "dark")):
    """Images of noise with one or two squares, whose brightness is their class."""
    random = np.random.default_rng(seed)
    images, boxes, labels = [], [], []
    for _ in range(count):
        image = random.integers(90, 160, (SIZE, SIZE, 3)).astype(np.uint8)
        here, kinds = [], []
        for left in (2, 34)[: random.integers(1, 3)]:
            side = int(random.integers(18, 28))
            top = int(random.integers(2, SIZE - side - 2))
            kind = int(random.integers(2))
            image[top : top + side, left : left + side] = (250, 5)[kind]
            here.append((left, top, left + side, top + side))
            kinds.append(kind)
        images.append(image)
        boxes.append(np.float32(here))
        labels.append(np.int32(kinds))
    return DetectionDataset(images=images, boxes=boxes, labels=labels, classes=classes)


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with registered():
        yield


FIT = {
    "size": SIZE,
    "batch_size": 8,
    "epochs": 2,
    "optimizer": "adamw",
    "rate": 2e-3,
    "flip": 0.5,
    "crop_scale": 0.8,
    "zoom_out": 0.1,
    "workers": 0,
    "verbose": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, and what it gave."""
    folder = tmp_path_factory.mktemp("run")
    splits = DetectionSplits(squares(24, 0), squares(8, 1))
    return folder, zoo.training.fit(TinyDetector(), splits, folder=folder, **FIT)


def test_a_run_gives_a_detector_of_the_data(run):
    folder, detector = run
    assert isinstance(detector, zoo.detection.TrainedDetector)
    assert detector.labels == ("background", "bright", "dark")
    assert detector.model.image_size == SIZE
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "classification", "box", "grad_norm"} <= lines[0].keys()
    total = lines[0]["classification"] + lines[0]["box"]
    assert lines[0]["loss"] == pytest.approx(total, rel=1e-5)
    assert any("validation_ap" in line for line in lines)
    page = (folder / "report.html").read_text()
    assert "AP at IoU 0.5" in page
    assert page.count("<figure>") == 8


def test_its_checkpoint_finds_the_same(run):
    folder, detector = run
    loaded = zoo.trained("TinyDetector", weights=folder / "model")
    image = squares(1, 2).images[0]
    first, second = (each.detect(image, threshold=0) for each in (detector, loaded))
    assert first == second
    assert first


def test_a_run_that_is_complete_goes_on_to_its_end_at_once(run):
    folder, detector = run
    splits = DetectionSplits(squares(24, 0), squares(8, 1))
    again = zoo.training.fit(TinyDetector(), splits, folder=folder, **FIT)
    jax.tree.map(np.testing.assert_array_equal, again.variables, detector.variables)
    moved = [boxes + 1 for boxes in splits.train.boxes]
    other = DetectionSplits(dataclasses.replace(splits.train, boxes=moved, areas=()), splits.val)
    with pytest.raises(zoo.training.run_folder.RunError, match="other images"):
        zoo.training.fit(TinyDetector(), other, folder=folder, **FIT)


def test_the_loss_falls():
    data = squares(8, 0)
    task = DetectionTask()
    settings = Settings(size=SIZE, batch_size=8, optimizer="adamw", rate=3e-3, flip=0)
    start = task.prepare_model(TinyDetector(), data, settings, None)
    optimizer = zoo.training.make_optimizer(settings, start.model, lambda step: 3e-3)
    step = zoo.training.make_train_step(
        start.model, optimizer, objective=task.make_objective(settings)
    )
    resize = task.make_transform(start, settings).resize
    samples = [resize(*data[i][:3]) for i in range(8)]
    batch = type(samples[0])(*map(np.stack, zip(*samples, strict=True)))
    arrays = task.make_prepare(start, settings)(batch.image, batch, np.ones(8, np.float32), 0)
    state, losses = zoo.training.init_train_state(start.variables, optimizer), []
    for _ in range(20):
        state, metrics = step(state, *arrays)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] / 2


def test_unreadable_images_are_left_out(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"none")
    data = squares(17, 0)
    broken = dataclasses.replace(data, images=[*data.images[:16], tmp_path / "broken.png"])
    trained = zoo.training.fit(
        TinyDetector(), DetectionSplits(broken, None), **{**FIT, "epochs": 1}
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.variables))
    score = zoo.detection.evaluate(trained, broken)
    assert len(score.indices) == 16
    assert "broken.png" in score.skipped[0]


def test_evaluation_by_hand_equals_that_of_the_run(run):
    """At one size and without padding both see the same pixels, but for their rounding."""
    folder, detector = run
    score = zoo.detection.evaluate(detector, squares(8, 1), batch_size=4)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = max(line["validation_ap"] for line in lines if "validation_ap" in line)
    assert score.metrics["ap"] == pytest.approx(best, abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixup": 0.2}, "mixup is for classifiers"),
        ({"size": 8192, "channels": 1}, "channels must be 3"),
        ({"class_weights": "balanced"}, "class_weights is for classifiers"),
    ],
)
def test_settings_that_do_not_fit_are_named(change, message):
    with pytest.raises(SettingsError, match=message):
        zoo.training.fit(TinyDetector(), squares(8, 0), **{**FIT, **change})


def test_ssd300_is_of_one_size():
    settings = Settings(size=320)
    with pytest.raises(SettingsError, match="size must be 300 for SSD300_VGG16, got 320"):
        DetectionTask().prepare_model(
            zoo.detection.SSD300_VGG16(backbone="VGG11"), squares(2, 0), settings, None
        )


def test_data_without_any_box_is_an_error():
    data = squares(4, 0)
    empty = DetectionDataset(
        images=data.images,
        boxes=[np.zeros((0, 4), np.float32)] * 4,
        labels=[np.zeros(0, np.int32)] * 4,
        classes=data.classes,
    )
    with pytest.raises(DatasetError, match="none of the 3 training images has a box"):
        zoo.training.fit(TinyDetector(), empty, **FIT)


def test_which_models_are_trained_to_detect():
    assert isinstance(find_task(TinyDetector()), DetectionTask)
    assert isinstance(find_task("ssd300_vgg16"), DetectionTask)
    assert isinstance(find_task(zoo.detection.FCOS_ResNet50_FPN), DetectionTask)
    assert not isinstance(find_task(zoo.ResNet18()), DetectionTask)
    assert not isinstance(find_task("ResNet18"), DetectionTask)


def test_classes_that_a_detector_does_not_have_are_named(run):
    _, detector = run
    with pytest.raises(DatasetError, match="no class 'grey'; its classes are bright, dark"):
        zoo.detection.evaluate(detector, squares(2, 0, ("bright", "grey")))
    swapped = dataclasses.replace(squares(8, 1), classes=("dark", "bright"))
    relabelled = dataclasses.replace(swapped, labels=[1 - part for part in swapped.labels])
    assert (
        zoo.detection.evaluate(detector, relabelled).figures.ap
        == zoo.detection.evaluate(detector, squares(8, 1)).figures.ap
    )
