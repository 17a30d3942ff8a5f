"""What the detectors share, with small backbones and few numbers; torchvision's are `peer`s."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.detection import tiny
from zoo.checkpoints.load import as_trained
from zoo.detection import Truth
from zoo.detection.models.detector import HeadOutputs
from zoo.models.base import DETECTORS
from zoo.surgery.features import find_stages
from zoo.surgery.intercept import intercept


@pytest.fixture(scope="module")
def small():
    """A small detector with random weights and statistics, whose scores differ."""
    with tiny.registered():
        model = tiny.TinyDetector(num_classes=4, image_size=64, score_threshold=0.3)
        yield as_trained(model, random_variables(model))


def random_variables(model):
    """Random weights that keep activations near 1, and random statistics."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if leaf.ndim > 1:
            return rng.normal(0, (2 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape)
        return rng.uniform(0.5, 1.5, leaf.shape)

    variables = jax.tree_util.tree_map_with_path(draw, model.variable_shapes())
    return jax.tree.map(np.float32, variables)


IMAGES = np.random.default_rng(1).normal(size=(3, 64, 64, 3)).astype(np.float32)
SIZES = np.full((3, 2), 64, np.float32)


def assert_equal(found, wanted):
    """Predictions are equal but for rounding, which another order of sums has."""
    for ours, theirs in zip(jax.device_get(found), jax.device_get(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def predict(detector, x, sizes):
    """Predictions without what `TrainedDetector.predict` adds."""
    outputs = detector.model.apply(detector.variables, x)
    return detector.model.predict(outputs, sizes)


def test_predictions(small):
    """Sorted, within the images, without equal boxes of a class, and zeros behind the last."""
    found = jax.device_get(jax.jit(predict)(small, IMAGES, SIZES))
    assert found.finite.all()
    assert found.counts.min() > 3
    for boxes, scores, labels, count in zip(*found[:4], strict=True):
        assert (np.diff(scores[:count]) <= 0).all()
        assert scores[count - 1] > 0.3
        assert labels[:count].min() >= 1
        assert labels.max() <= 3
        assert boxes.min() >= 0
        assert boxes.max() <= 64
        assert not boxes[count:].any()
        assert not scores[count:].any()
        assert not labels[count:].any()


def test_fused_predictions(small):
    """Without batch norms, as `TrainedDetector.predict` computes, and as `zoo.fuse` gives it."""
    wanted = jax.jit(predict)(small, IMAGES, SIZES)
    fused = zoo.fuse(small)
    assert "batch_stats" not in fused.variables
    assert_equal(jax.jit(predict)(fused, IMAGES, SIZES), wanted)
    assert_equal(small.predict(IMAGES), wanted)


def test_vmapped_predictions(small):
    wanted = jax.jit(predict)(small, IMAGES, SIZES)
    each = jax.jit(jax.vmap(lambda x, size: predict(small, x[None], size[None])))
    found = jax.tree.map(lambda array: array[:, 0], each(IMAGES, SIZES))
    assert_equal(found, wanted)


def test_boxes_end_where_the_image_does(small):
    found = jax.jit(predict)(small, IMAGES, jnp.asarray([(64, 64), (40, 64), (64, 20)]))
    largest = np.asarray(found.boxes[..., 2:].max(1))
    assert (largest <= [(64, 64), (64, 40), (20, 64)]).all()
    assert largest[1, 1] == 40
    assert largest[2, 0] == 20


def test_nothing_is_found(small):
    model = small.model.clone(score_threshold=1.0)
    found = predict(as_trained(model, small.variables), IMAGES, SIZES)
    assert found.finite.all()
    assert not any(array.any() for array in found[:4])


def test_outputs_that_are_not_finite(small):
    images = IMAGES.copy()
    images[1, 0, 0, 0] = np.nan
    assert jax.jit(predict)(small, images, SIZES).finite.tolist() == [True, False, True]


def test_intercepted_modules(small):
    """Who intercepts a detector's modules sees each once, and none of those that find its maps.

    But for "backbone", the path of the classifier and of what takes its maps.
    """
    find_stages.cache_clear()
    paths = []

    def note(call):
        paths.append(call.path)
        return call.run()

    with intercept(note):
        jax.eval_shape(small.model.apply, small.variables, IMAGES)
    inner = [path for path in paths if path != "backbone"]
    assert len(inner) == len(set(inner))
    parents = {path.split("/")[0] for path in paths if path}
    assert parents == {"backbone", "class_head", "box_head"}
    assert "backbone/stage5/conv" in paths
    assert "class_head/map1_pointwise" in paths


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("FCOS_ResNet50_FPN", "ResNet18"),
        ("FasterRCNN_ResNet50_FPN", "DenseNet121"),
        ("FasterRCNN_ResNet50_FPN_V2", "MobileNetV2"),
        ("FasterRCNN_MobileNetV3_Large_FPN", "EfficientNetLite0"),
        ("SSD300_VGG16", "VGG16_BN"),
        ("SSDLite320_MobileNetV3_Large", "MobileNetV2"),
        ("SSDLite320_MobileNetV3_Large", "MobileNetV3_Small"),
    ],
)
def test_backbones(name, backbone):
    """Detectors read the maps of other classifiers, too."""
    model = DETECTORS[name].constructor(backbone=backbone, num_classes=5)
    size = model.image_size or 64
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    outputs = jax.eval_shape(model.apply, model.variable_shapes(), images)
    sizes = jax.ShapeDtypeStruct((2, 2), jnp.float32)
    found = jax.eval_shape(model.predict, outputs, sizes)
    assert found.boxes.shape == (2, model.max_detections, 4)


@pytest.mark.parametrize(
    ("name", "backbone", "size"),
    [
        ("RetinaNet_ResNet50_FPN", "MobileNetV2", 32),  # smaller than all anchors
        ("FasterRCNN_MobileNetV3_Large_320_FPN", "EfficientNetLite0", 64),
        ("SSD300_VGG16", "VGG11_BN", 300),
    ],
)
def test_outputs_of_other_backbones(name, backbone, size):
    options = {"proposals": 20} if name.startswith("FasterRCNN") else {}
    model = DETECTORS[name].constructor(
        backbone=backbone, num_classes=5, score_threshold=0.0, **options
    )
    images = np.random.default_rng(0).normal(size=(1, size, size, 3)).astype(np.float32)
    variables = random_variables(model)
    found = jax.jit(lambda x: model.predict(model.apply(variables, x), jnp.full((1, 2), size)))
    predictions = found(images)
    assert predictions.finite.all()
    assert predictions.counts[0] > 0


@pytest.mark.parametrize(
    ("name", "backbone", "message"),
    [
        ("SSD300_VGG16", "ResNet18", "backbone of SSD300 must be a VGG, got 'ResNet18'"),
        ("FCOS_ResNet50_FPN", "ResNet17", "ResNet17"),
    ],
)
def test_backbones_that_cannot_be(name, backbone, message):
    model = DETECTORS[name].constructor(backbone=backbone)
    with pytest.raises(ValueError, match=message):
        model.variable_shapes()


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("score_threshold", 2, "a number from 0 to 1"),
        ("nms_threshold", -0.1, "a number from 0 to 1"),
        ("nms_threshold", True, "a number from 0 to 1"),
        ("max_detections", 0, "an integer of at least 1, and at most 1048576"),
        ("short_side", 1.5, "an integer of at least 1, and at most 1048576"),
        ("image_size", -1, "an integer of at least 1, and at most 1048576, or None"),
        ("num_classes", 0, "an integer of at least 1, and at most 1048576"),
    ],
)
def test_arguments_that_cannot_be(option, value, expected):
    with pytest.raises(ValueError, match=f"{option} must be {expected}, got {value!r}"):
        zoo.detection.RetinaNet_ResNet50_FPN(**{option: value})


@functools.cache
def outputs_of_zeros(name):
    """A detector of three classes, and zeros as what its heads give of two images of 32 pixels."""
    model = DETECTORS[name].constructor(num_classes=3)
    images = jax.ShapeDtypeStruct((2, *[model.image_size or 32] * 2, 3), jnp.float32)
    outputs = jax.eval_shape(model.apply, model.variable_shapes(), images)
    return model, jax.tree.map(lambda array: jnp.zeros(array.shape, array.dtype), outputs)


@functools.cache
def losses_and_gradients(name):
    """(outputs, truth) → the losses by name, and the gradients of their sum."""
    model, _ = outputs_of_zeros(name)

    def compute(outputs, truth):
        losses = model.losses(outputs, truth)
        return sum(losses.values()), losses

    compiled = jax.jit(jax.value_and_grad(compute, has_aux=True))

    def run(*arguments):
        (_, losses), grads = compiled(*arguments)
        return losses, grads

    return run


ONE_STAGE = (
    "SSDLite320_MobileNetV3_Large",
    "RetinaNet_ResNet50_FPN",
    "RetinaNet_ResNet50_FPN_V2",
    "FCOS_ResNet50_FPN",
)


@pytest.mark.parametrize("room", [0, 1])
@pytest.mark.parametrize("name", ONE_STAGE)
def test_losses_without_objects(name, room):
    """Nothing but that all is background: half sure, by the focal loss 0.75 · 0.5² · log 2."""
    _, outputs = outputs_of_zeros(name)
    truth = Truth(jnp.zeros((2, room, 4)), jnp.full((2, room), -1))
    losses, grads = losses_and_gradients(name)(outputs, truth)
    focal = sum(level[0].size for level in outputs.logits) * 0.75 * 0.25 * np.log(2)
    # SSD compares no background with none; RetinaNet takes the mean of images, FCOS the sum.
    wanted = {"SSD": 0, "Ret": focal, "FCO": 2 * focal}[name[:3]]
    assert losses.pop("classification") == pytest.approx(wanted, rel=1e-5)
    assert not any(losses.values())
    assert all(jnp.isfinite(grad).all() for grad in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", ONE_STAGE)
def test_losses_of_one_pixel(name):
    """An object of one pixel, and one as large as the image: losses and gradients are finite."""
    _, outputs = outputs_of_zeros(name)
    size = float(outputs.image_size[0])
    boxes = jnp.asarray([[(5, 6, 6, 7)], [(0, 0, size, size)]], jnp.float32)
    losses, grads = losses_and_gradients(name)(outputs, Truth(boxes, jnp.asarray([[2], [1]])))
    assert losses["classification"] > 0
    assert losses["box"] > 0
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((losses, grads)))


def test_losses_of_two_stages_need_the_truth():
    model = DETECTORS["FasterRCNN_MobileNetV3_Large_320_FPN"].constructor(num_classes=3)
    outputs = jax.eval_shape(
        model.apply, model.variable_shapes(), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    )
    truth = Truth(jnp.zeros((1, 1, 4)), jnp.ones((1, 1), int))
    with pytest.raises(ValueError, match="losses must be of what the model gave with its truth"):
        model.losses(outputs, truth)


def test_hard_negatives(small):
    """SSD: three boxes of the background for each of an object, those that are most wrong."""
    model = small.model.clone(num_classes=2)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(model.apply, model.variable_shapes(), images)
    outputs = jax.tree.map(lambda array: jnp.zeros(array.shape, array.dtype), shapes)
    # All is surely background, but for four boxes of the coarse map at the right bottom.
    fine, coarse = (level.at[..., 0].set(9) for level in outputs.logits)
    coarse = coarse.at[0, -1, -1, :, 1].set(jnp.asarray([19, 18, 17, 16]))
    outputs = HeadOutputs((fine, coarse), outputs.deltas, (), outputs.image_size)
    # A small object, which has one box of the fine map, at the left top.
    truth = Truth(jnp.asarray([[(6, 6, 9, 9)]], jnp.float32), jnp.asarray([[1]]))
    found = model.losses(outputs, truth)["classification"]
    # The object's logits say background, by 9; then there are 10, 9 and 8, and not 7.
    assert found == pytest.approx(9 + 10 + 9 + 8, rel=1e-3)
