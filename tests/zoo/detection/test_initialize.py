"""Fresh detectors on trained classifiers."""

import jax
import numpy as np
import pytest

import zoo
from zoo.checkpoints.load import as_trained
from zoo.detection import SSD300_VGG16, FCOS_ResNet50_FPN, SSDLite320_MobileNetV3_Large
from zoo.inference.preprocessing import Preprocessing
from zoo.runtime.checks import ArgumentError
from zoo_pretrained.checkpoint import flatten_variables

SCALE = Preprocessing(64, 64, "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "BGR")


def random_classifier(name, channels=3, **arguments):
    model = zoo.create(name, num_classes=3, **arguments)
    rng = np.random.default_rng(0)
    return model, jax.tree.map(
        lambda leaf: rng.uniform(0.01, 0.1, leaf.shape).astype(np.float32),
        model.variable_shapes(channels),
    )


def assert_backbone(detector, variables):
    """The backbone's arrays are the classifier's, and no other is."""
    given = dict(flatten_variables(variables))
    inside = {
        path.replace("/backbone/", "/"): array
        for path, array in flatten_variables(detector.variables)
        if "/backbone/" in path
    }
    assert inside
    for path, array in inside.items():
        np.testing.assert_array_equal(array, given[path], err_msg=path)


@pytest.mark.parametrize("reduced_tail", [False, True])
def test_a_mobilenet_with_what_it_was_trained_with(reduced_tail):
    """Its epsilon, its pixels, and how wide its last stage is, as public classifiers are wider."""
    model, variables = random_classifier(
        "MobileNetV3_Large", norm_eps=0.01, reduced_tail=reduced_tail
    )
    trained = as_trained(model, variables)
    trained = trained.replace(
        info=trained.info.without_accuracy(preprocessing=SCALE, licence="MIT")
    )
    found = zoo.detection.with_backbone(SSDLite320_MobileNetV3_Large(num_classes=4), trained)
    assert type(found) is zoo.detection.TrainedDetector
    assert found.model == SSDLite320_MobileNetV3_Large(
        num_classes=4, norm_eps=0.01, reduced_tail=reduced_tail
    )
    preprocessing = found.info.preprocessing
    assert (preprocessing.mean, preprocessing.std) == (SCALE.mean, SCALE.std)
    assert (preprocessing.size, preprocessing.channels) == (320, "BGR")
    assert found.info.licence == "MIT"
    assert_backbone(found, variables)


def test_vgg_without_its_fully_connected_layers():
    model, variables = random_classifier("VGG16")
    for name in ("fc6", "fc7", "head"):
        del variables["params"][name]
    found = zoo.detection.with_backbone(SSD300_VGG16, (model, variables))
    assert_backbone(found, variables)
    assert found.variables["params"]["fc6"]["kernel"].shape == (3, 3, 512, 1024)


def test_other_backbones_grey_images_and_the_key():
    model, variables = random_classifier("ResNet18", channels=1)
    wanted = FCOS_ResNet50_FPN(backbone="ResNet18", num_classes=2)
    one, other = (
        zoo.detection.with_backbone(wanted, (model, variables), key=jax.random.key(seed))
        for seed in (1, 2)
    )
    assert one.channels == 1
    assert one.info.preprocessing.channels == "grey"
    assert_backbone(one, variables)
    assert_backbone(other, variables)
    kernels = [d.variables["params"]["class_head"]["conv"]["kernel"] for d in (one, other)]
    assert not np.array_equal(*kernels)


def test_what_does_not_fit_is_named():
    def initialize(detector, name, **arguments):
        return zoo.detection.with_backbone(detector, random_classifier(name, **arguments))

    with pytest.raises(ArgumentError, match="detector must be a detector, got a ResNet18"):
        initialize(zoo.ResNet18, "ResNet18")
    with pytest.raises(ArgumentError, match=r"must be a ResNet50, .* backbone .*, got a ResNet18"):
        initialize(FCOS_ResNet50_FPN, "ResNet18")
    detector = FCOS_ResNet50_FPN(backbone="ResNet50", num_classes=2)
    with pytest.raises(ArgumentError, match=r"must have stride_in_1x1=False, .* got .*=True"):
        initialize(detector, "ResNet50", stride_in_1x1=True)
    with pytest.raises(ArgumentError, match=r"have padding='symmetric', .* got padding='SAME'"):
        initialize(SSDLite320_MobileNetV3_Large, "MobileNetV3_Large", padding="SAME")
    model, variables = random_classifier("MobileNetV3_Large")
    with pytest.raises(ArgumentError, match="must have fused=False"):
        zoo.detection.with_backbone(SSDLite320_MobileNetV3_Large, zoo.fuse(model, variables))
    del variables["params"]["stage2"]
    with pytest.raises(ArgumentError, match=r"classifier does not fit this SSDLite.*stage2.*None"):
        zoo.detection.with_backbone(SSDLite320_MobileNetV3_Large, (model, variables))
