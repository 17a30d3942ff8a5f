"""Checkpoints of detectors: what they hold, and what is made of them."""

import dataclasses

import jax
import numpy as np
import pytest

import zoo
from zoo.checkpoints.load import as_trained
from zoo.checkpoints.validate import constructor_arguments
from zoo.inference.trained import NoClassifierError
from zoo.models.base import load_detectors
from zoo_pretrained import catalogue, restore
from zoo_pretrained.checkpoint import CheckpointError

DETECTORS = load_detectors()
LITE = "SSDLite320_MobileNetV3_Large"
RCNN = "FasterRCNN_MobileNetV3_Large_320_FPN"


def random_detector(name, **arguments):
    """A detector with random weights, which are made faster than fresh ones."""
    model = zoo.create(name, **arguments)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.uniform(0.01, 0.1, leaf.shape).astype(np.float32), model.variable_shapes()
    )
    return as_trained(model, variables)


@pytest.fixture(scope="module")
def detector():
    return random_detector(LITE, num_classes=4, nms_threshold=0.3)


@pytest.fixture(scope="module")
def two_stages():
    return random_detector(RCNN, num_classes=4)


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_arrays_tell_how_many_classes_there_are(name):
    shapes = DETECTORS[name].constructor(num_classes=5).variable_shapes()
    assert constructor_arguments(shapes, {}) == {"num_classes": 5}


def test_a_saved_detector_is_loaded_as_the_same(detector, tmp_path):
    named = detector.replace(info=zoo.adapt(detector, labels=["background", "a", "b", "c"]).info)
    named.save(tmp_path / "mine")
    found = zoo.trained(LITE.lower(), weights=tmp_path / "mine")
    assert type(found) is zoo.detection.TrainedDetector
    assert found.model == detector.model
    assert found.labels == ("background", "a", "b", "c")
    assert found.info.preprocessing == detector.info.preprocessing
    assert_same(found.variables, detector.variables)
    with pytest.raises(CheckpointError, match=f"holds a {LITE}, not a SSD300_VGG16"):
        zoo.trained("SSD300_VGG16", weights=tmp_path / "mine")


def test_published_labels_and_accuracy_are_kept_until_the_weights_change(tmp_path):
    detector = random_detector(LITE)
    info = dataclasses.replace(detector.info, labels=catalogue.labels("coco"), box_map=21.3)
    detector.replace(info=info).save(tmp_path / "mine")
    metadata = restore(tmp_path / "mine").metadata
    assert (metadata["labels"], metadata["accuracy"]) == ("coco", {"box_map": 21.3})
    found = zoo.trained(LITE, weights=tmp_path / "mine")
    assert (found.info.box_map, found.info.top1, len(found.labels)) == (21.3, None, 91)
    assert found.replace(variables=found.variables).info.box_map is None
    assert zoo.adapt(found, num_classes=2).info.box_map is None


def test_what_a_backbone_decides_is_no_argument():
    """Which maps are read of another backbone than MobileNetV3."""
    model = zoo.detection.FasterRCNN_MobileNetV3_Large_FPN(backbone="ResNet18", num_classes=3)
    assert model.arguments == {"num_classes": 3, "backbone": "ResNet18"}
    assert zoo.create(model.title, **model.arguments) == model


def test_a_larger_image_is_in_the_preprocessing(tmp_path):
    larger = random_detector(LITE, num_classes=2, image_size=384)
    assert larger.info.preprocessing.size == 384
    larger.save(tmp_path / "mine")
    assert zoo.trained(LITE, weights=tmp_path / "mine").model.image_size == 384


@pytest.mark.parametrize("name", [LITE, RCNN])
def test_for_other_classes(name, detector, two_stages):
    """What depends on the number of classes is fresh; all else are the same arrays."""
    old = detector if name == LITE else two_stages
    new = zoo.adapt(old, labels=["background", "cat"])
    assert (new.model.num_classes, new.labels) == (2, ("background", "cat"))
    before, after = old.variables["params"], new.variables["params"]
    assert (
        after["backbone"]["stem"]["conv"]["kernel"] is before["backbone"]["stem"]["conv"]["kernel"]
    )
    if name == LITE:
        changed = after["class_head"]["map1_pointwise"]["kernel"]
        assert changed.shape[-1] == 6 * 2  # of six boxes at each place
        assert (
            after["box_head"]["map1_pointwise"]["kernel"]
            is (before["box_head"]["map1_pointwise"]["kernel"])
        )
    else:
        assert after["class_head"]["kernel"].shape == (1024, 2)
        assert after["box_head"]["kernel"].shape == (1024, 4 * 2)
        assert after["fc7"]["kernel"] is before["fc7"]["kernel"]
    with pytest.raises(ValueError, match="at least 2 classes, of which the first is the backgr"):
        zoo.adapt(old, labels=["cat"])


def test_without_batch_norms(detector, tmp_path):
    fused = zoo.fuse(detector)
    assert type(fused) is zoo.detection.TrainedDetector
    assert set(fused.variables) == {"params"}
    fused.save(tmp_path / "mine")
    found = zoo.trained(LITE, weights=tmp_path / "mine")
    assert found.model.fused
    assert_same(found.variables, fused.variables)
    x = np.random.default_rng(1).normal(size=(1, 320, 320, 3)).astype(np.float32)
    for one, other in zip(jax.tree.leaves(detector(x)), jax.tree.leaves(found(x)), strict=True):
        # Folding changes the rounding only.
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(one).max())


def test_exported_and_converted_again(two_stages, tmp_path):
    zoo.export(two_stages, tmp_path / "file.safetensors")
    zoo.convert(tmp_path / "file.safetensors", RCNN, tmp_path / "mine")
    found = zoo.trained(RCNN, weights=tmp_path / "mine")
    assert found.model == two_stages.model
    assert_same(found.variables, two_stages.variables)


def test_what_is_for_classifiers_says_so(detector, examples):
    for use in (detector.classify, detector.probabilities, lambda image: detector.compile()):
        with pytest.raises(NoClassifierError, match=f"{LITE} is a detector .* detect finds"):
            use(examples / "cat.jpg")


def test_a_misspelt_name_suggests_a_detector():
    with pytest.raises(zoo.UnknownModelError, match="did you mean SSD300_VGG16"):
        zoo.trained("SSD300_VGG")
