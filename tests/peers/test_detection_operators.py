"""Operators of detection against torchvision's own, compiled ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.harness.torchvision_operators import load_operators
from zoo.detection import boxes as box_functions
from zoo.detection.losses import giou_loss, sigmoid_focal_loss, smooth_l1
from zoo.detection.nms import batched_nms
from zoo.detection.roi_align import multiscale_roi_align, roi_align

pytestmark = pytest.mark.peer

SMALL, LARGE = 128, 4096  # scores are padded to one of these, so that two programs do
THRESHOLDS = (0.3, 0.5, 0.6, 0.75)
RTOL = 1e-9  # in float64, where sums have few terms


@pytest.fixture(scope="module")
def ops():
    if not load_operators():
        pytest.skip("torchvision's operators load beside this PyTorch only with a C compiler")
    import torchvision.ops

    return torchvision.ops


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def tensor(array):
    import torch

    return torch.from_numpy(np.array(array))


def check_values_and_gradients(function, original, x, *others):
    """Of functions of x that are summed with random weights, in float64."""
    leaf = tensor(x).requires_grad_()
    expected = original(leaf, *map(tensor, others))
    weights = np.random.default_rng(0).normal(size=expected.shape)
    (expected * tensor(weights)).sum().backward()
    value, gradient_of = jax.vjp(lambda x: function(x, *others), jnp.asarray(x))
    np.testing.assert_allclose(value, expected.detach(), RTOL, RTOL)
    np.testing.assert_allclose(gradient_of(jnp.asarray(weights))[0], leaf.grad, RTOL, RTOL)


# --- Suppression

suppress = jax.jit(
    functools.partial(batched_nms, max_outputs=LARGE), static_argnames="iou_threshold"
)


def make_case(seed):
    """Boxes at quarters of a pixel, so that areas and sums are exact in float32.

    By turns: without ties, with many, all scores equal, all boxes twice, many without area; every
    eighth set is empty or has one box.
    """
    random = np.random.default_rng(seed)
    count = seed % 16 // 8 if seed % 8 == 7 else int(random.integers(2, SMALL + 1))
    start = random.integers(0, 4 * random.integers(5, 80), (count, 2)) / 4
    boxes = np.concatenate([start, start + random.integers(1, 200, (count, 2)) / 4], axis=1)
    scores = random.random(count)
    kind = seed % 5
    if kind == 1:
        scores = random.integers(0, 5, count) / 4
    elif kind == 2:
        scores[:] = 0.5
    elif kind == 3:
        boxes[: count // 2] = boxes[count - count // 2 :]
    elif kind == 4:
        boxes[random.random(count) < 0.3, 2 + random.integers(2)] = 0
        boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
    return boxes.astype(np.float32), scores.astype(np.float32), random.integers(0, 4, count)


def run_suppression(boxes, scores, classes, threshold):
    """The indices that are kept of boxes that are padded to one of two numbers."""
    missing = (SMALL if len(scores) <= SMALL else LARGE) - len(scores)
    indices, count = suppress(
        np.pad(boxes, ((0, missing), (0, 0))),
        np.pad(scores, (0, missing), constant_values=-np.inf),
        np.pad(classes, (0, missing)),
        threshold,
    )
    return np.asarray(indices[:count])


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_nms(ops, threshold):
    kept = 0
    for seed in range(150):
        boxes, scores, classes = make_case(seed)
        expected = ops.nms(tensor(boxes), tensor(scores), threshold)
        np.testing.assert_array_equal(
            run_suppression(boxes, scores, 0 * classes, threshold), expected, f"seed {seed}"
        )
        expected = ops.batched_nms(tensor(boxes), tensor(scores), tensor(classes), threshold)
        np.testing.assert_array_equal(
            run_suppression(boxes, scores, classes, threshold), expected, f"seed {seed}"
        )
        kept += len(expected) / max(len(scores), 1)
    assert 0.1 < kept / 150 < 0.95  # neither all nor few


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_boxes(ops, seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(2100, LARGE))
    start = random.integers(0, 4 * 600, (count, 2)) / 4
    boxes = np.concatenate([start, start + random.integers(1, 400, (count, 2)) / 4], axis=1)
    boxes, classes = boxes.astype(np.float32), np.zeros(count, np.int64)
    scores = (random.integers(0, count, count) / count).astype(np.float32)
    expected = ops.nms(tensor(boxes), tensor(scores), 0.5)
    assert 100 < len(expected) < count
    np.testing.assert_array_equal(run_suppression(boxes, scores, classes, 0.5), expected)


# --- Pooling


def make_boxes(random, count, height, width):
    """Boxes in an image, and some that lie partly or wholly outside or have no area."""
    start = random.uniform(-0.3, 1.1, (count, 2)) * (width, height)
    size = np.exp(random.uniform(-1, 5, (count, 2)))
    size[::7] = 0
    return np.concatenate([start, start + size], axis=1)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("points", [0, 1, 2, 3])
@pytest.mark.usefixtures("x64")
def test_roi_align(ops, points, aligned):
    random = np.random.default_rng(points)
    features = random.normal(size=(2, 20, 24, 3))
    boxes, numbers = make_boxes(random, 48, 80, 96), random.integers(0, 2, 48)
    options = {
        "output_size": (3, 4),
        "spatial_scale": 0.25,
        "sampling_ratio": points,
        "aligned": aligned,
    }

    def original(features, boxes, numbers):
        numbered = tensor(np.column_stack([numbers, boxes]))
        pooled = ops.roi_align(features.permute(0, 3, 1, 2), numbered, **options)
        return pooled.permute(0, 2, 3, 1)

    check_values_and_gradients(
        lambda *arguments: roi_align(*arguments, **options), original, features, boxes, numbers
    )


@pytest.mark.parametrize("levels", [1, 2, 4])
@pytest.mark.usefixtures("x64")
def test_multiscale_roi_align(ops, levels):
    random = np.random.default_rng(0)
    height, width = 250, 310  # which strides do not divide
    features = [
        random.normal(size=(2, -(-height // stride), -(-width // stride), 3))
        for stride in (4, 8, 16, 32)[:levels]
    ]
    boxes = np.stack([make_boxes(random, 40, height, width) for _ in range(2)])
    boxes[:, ::3, 2:] += 150  # for the coarse levels
    boxes[:, 1::8, 2:] += 450
    names = [str(number) for number in range(levels)]
    original = ops.MultiScaleRoIAlign(names, 7, 2)
    maps = [tensor(x.transpose(0, 3, 1, 2)).requires_grad_() for x in features]
    sizes = [(height, width - 20), (height - 30, width)]
    expected = original(dict(zip(names, maps, strict=True)), [*tensor(boxes)], sizes)
    weights = random.normal(size=(2, 40, 7, 7, 3))
    (expected.permute(0, 2, 3, 1) * tensor(weights).flatten(0, 1)).sum().backward()
    pooled, gradient_of = jax.vjp(
        lambda features: multiscale_roi_align(
            features, boxes, (height, width), output_size=7, sampling_ratio=2
        ),
        features,
    )
    np.testing.assert_allclose(
        pooled.reshape(80, 7, 7, 3), expected.detach().permute(0, 2, 3, 1), RTOL, RTOL
    )
    for gradient, original_map in zip(gradient_of(jnp.asarray(weights))[0], maps, strict=True):
        assert original_map.grad.abs().max() > 0  # every level is used
        np.testing.assert_allclose(gradient, original_map.grad.permute(0, 2, 3, 1), RTOL, RTOL)


# --- Boxes and losses


@pytest.mark.usefixtures("x64")
def test_boxes(ops):
    random = np.random.default_rng(0)
    boxes, others = (make_boxes(random, 30, 80, 90) for _ in range(2))
    boxes[::7, 2:] += 1  # two boxes without area have no overlap there
    expected = ops.box_iou(tensor(boxes), tensor(others))
    np.testing.assert_allclose(box_functions.box_iou(boxes, others), expected, RTOL)
    expected = ops.clip_boxes_to_image(tensor(boxes), (80, 90))
    np.testing.assert_array_equal(box_functions.clip_boxes(boxes, 80, 90), expected)
    for source in box_functions.FORMATS:
        for target in box_functions.FORMATS:
            expected = ops.box_convert(tensor(boxes), source, target)
            converted = box_functions.convert_boxes(jnp.asarray(boxes), source, target)
            np.testing.assert_allclose(converted, expected, RTOL, RTOL)


@pytest.mark.usefixtures("ops", "x64")
def test_codes():
    from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder

    random = np.random.default_rng(0)
    boxes, anchors = (make_boxes(random, 30, 80, 90) for _ in range(2))
    boxes[:, 2:] += 1
    anchors[:, 2:] += 1
    weights = (10.0, 10.0, 5.0, 5.0)
    coder, linear = BoxCoder(weights), BoxLinearCoder()
    code = box_functions.encode_boxes(boxes, anchors, weights)
    expected = coder.encode_single(tensor(boxes), tensor(anchors))
    np.testing.assert_allclose(code, expected, RTOL, RTOL)
    distances = box_functions.encode_distances(boxes, anchors)
    expected = linear.encode(tensor(anchors), tensor(boxes))
    np.testing.assert_allclose(distances, expected, RTOL, RTOL)
    deltas = random.normal(size=(30, 4)) * 20  # some exceed the greatest ratio
    decoded = box_functions.decode_boxes(deltas, anchors, weights)
    expected = coder.decode_single(tensor(deltas), tensor(anchors))
    np.testing.assert_allclose(decoded, expected, RTOL, RTOL)
    decoded = box_functions.decode_distances(deltas, anchors)
    expected = linear.decode(tensor(deltas), tensor(anchors))
    np.testing.assert_allclose(decoded, expected, RTOL, RTOL)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2), (-1, 1), (0.6, 0), (0.25, 3.5)])
@pytest.mark.usefixtures("x64")
def test_focal_loss(ops, alpha, gamma):
    random = np.random.default_rng(0)
    logits = np.append(random.normal(size=199) * 5, 0)
    targets = (random.random(200) < 0.3).astype(np.float64)
    targets[:20] = random.random(20)
    check_values_and_gradients(
        functools.partial(sigmoid_focal_loss, alpha=alpha, gamma=gamma),
        functools.partial(ops.sigmoid_focal_loss, alpha=alpha, gamma=gamma),
        logits,
        targets,
    )


@pytest.mark.usefixtures("x64")
def test_giou_loss(ops):
    random = np.random.default_rng(0)
    boxes, targets = (make_boxes(random, 60, 80, 90) for _ in range(2))
    boxes[1], boxes[2] = targets[1], targets[2] + (0, 0, 5, 5)  # equal, and with equal corners
    check_values_and_gradients(giou_loss, ops.generalized_box_iou_loss, boxes, targets)


@pytest.mark.parametrize("beta", [0, 1 / 9, 1])
@pytest.mark.usefixtures("x64")
def test_smooth_l1(beta):
    import torch

    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 50))
    x[:3], x[3] = y[:3], y[3] + beta  # equal, and where the square ends
    original = functools.partial(torch.nn.functional.smooth_l1_loss, beta=beta, reduction="none")
    check_values_and_gradients(functools.partial(smooth_l1, beta=beta), original, x, y)
