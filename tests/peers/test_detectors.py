"""The detectors against torchvision's: their heads' outputs and what they find in photos."""

import functools

import jax
import numpy as np
import pytest
from PIL import Image

from benchmarks.harness.torchvision_operators import load_operators
from tests.peers.detectors import NAMES, is_fixed, is_two_stage, make_pair, to_tensors
from zoo.detection import RetinaNet_ResNet50_FPN
from zoo.detection.canvas import resize, unresize
from zoo.detection.models.detector import flatten_maps

pytestmark = pytest.mark.peer

# Small, so that programs run fast; most anchors are larger than the images.
SIZES = {"short_side": 96, "long_side": 128}
PROPOSALS = {"candidates": 300, "proposals": 100}
# Heights and widths of photos: 4:3, which has its canvas for itself, too; 16:9; and a square.
PHOTOS = ((240, 320), (150, 267), (101, 101))


@functools.cache
def photos():
    """Photos, uint8 [H, W, 3], that differ in size and shape, with noise.

    Without it, all places of a sky would have scores that are equal but for rounding, which then
    decides which of them suppresses the next one, and so on.
    """
    rng = np.random.default_rng(0)
    images = []
    for file, (height, width) in zip(("espresso", "rocket", "cat"), PHOTOS, strict=True):
        image = Image.open(f"examples/{file}.jpg").convert("RGB").resize((width, height))
        noise = rng.normal(0, 60, (height, width, 3))
        images.append((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    return images


@functools.lru_cache(maxsize=1)
def pair(name):
    """A detector's original and ours, with the same weights."""
    options = {} if is_fixed(name) else SIZES
    return make_pair(name, photos(), **options, **(PROPOSALS if is_two_stage(name) else {}))


def batch(name):
    """The photos as the original sees them, and as ours does: (images, pixels, canvases)."""
    theirs, ours = pair(name)
    images, _ = theirs.transform(to_tensors(photos()))
    canvases = [ours.prepare(photo, tuple(images.tensors.shape[2:])) for photo in photos()]
    pixels = np.stack([canvas.pixels for canvas in canvases])
    return images, pixels, canvases


@pytest.mark.parametrize("name", NAMES)
def test_detector(name):
    pair.cache_clear()
    check_parameters(name)
    images, pixels, canvases = batch(name)
    assert [canvas.size for canvas in canvases] == images.image_sizes
    wanted = images.tensors.numpy().transpose(0, 2, 3, 1)
    # Places between the pixels of a photo, numbers up to 320, are rounded by up to 1.5e-5 on either
    # axis, and neighbours may differ by the whole range.
    np.testing.assert_allclose(pixels, wanted, atol=4e-5 * np.ptp(wanted), rtol=0)
    outputs = check_heads(name, images, pixels)
    scores = check_predictions(name, pixels, canvases)
    check_thresholds(name, outputs, canvases, middle(scores))


def check_parameters(name):
    """All parameters and statistics have their place, there are no others; norms learn alike."""
    import torch

    theirs, ours = pair(name)
    parameters = sum(array.numel() for array in theirs.parameters())
    statistics = sum(
        array.numel() for path, array in theirs.named_buffers() if "num_batches" not in path
    )
    count = {
        kind: sum(array.size for array in jax.tree.leaves(tree))
        for kind, tree in ours.variables.items()
    }
    assert count.get("batch_stats", 0) == statistics
    assert count["params"] == parameters
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.momentum == pytest.approx(1 - ours.model.norm_momentum)


def check_heads(name, images, pixels):
    """What the heads compute is equal, of a batch."""
    import torch

    theirs, ours = pair(name)
    sizes = np.asarray(images.image_sizes, np.float32)
    outputs = jax.jit(ours.model.apply)(ours.variables, pixels, **ours.model.apply_arguments(sizes))
    with torch.inference_mode():
        maps = theirs.backbone(images.tensors)
        levels = list(maps.values())
        if is_two_stage(name):
            wanted, found = second_stage(theirs, maps, images, outputs)
        else:
            heads = theirs.head(levels)
            wanted = [heads["cls_logits"], heads["bbox_regression"]]
            found = [flatten_maps(outputs.logits), flatten_maps(outputs.deltas)]
            if outputs.centerness:
                wanted.append(heads["bbox_ctrness"])
                found.append(flatten_maps(outputs.centerness))
    for theirs_now, ours_now in zip(wanted, found, strict=True):
        assert_close(ours_now, theirs_now)
    return outputs


def second_stage(theirs, maps, images, outputs):
    """What both stages of a Faster R-CNN compute; the second stage of the same proposals."""
    from torchvision.models.detection.rpn import concat_box_prediction_layers

    objectness, deltas = concat_box_prediction_layers(*theirs.rpn.head(list(maps.values())))
    heads, counts = theirs.roi_heads, np.asarray(outputs.proposal_counts)
    assert counts.min() > 20
    proposals = [np.asarray(boxes)[:n] for boxes, n in zip(outputs.proposals, counts, strict=True)]
    sizes = [tuple(images.tensors.shape[2:])] * len(counts)
    pooled = heads.box_roi_pool(maps, to_torch(proposals), sizes)
    wanted = [objectness, deltas, *heads.box_predictor(heads.box_head(pooled))]
    valid = np.arange(outputs.proposals.shape[1]) < counts[:, None]
    found = [
        flatten_maps(outputs.objectness).reshape(-1, 1),
        flatten_maps(outputs.anchor_deltas).reshape(-1, 4),
        np.asarray(outputs.logits)[valid],
        np.asarray(outputs.deltas)[valid].reshape(valid.sum(), -1),
    ]
    return wanted, found


def to_torch(arrays):
    """NumPy arrays as tensors."""
    import torch

    return [torch.from_numpy(np.array(array)) for array in arrays]


def assert_close(found, wanted):
    """Arrays are equal to 1e-5 of the largest number: rounding, of hundreds of layers."""
    wanted = wanted.numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max(), rtol=0)


def check_predictions(name, pixels, canvases):
    """The same objects are found, whether all photos are one batch, or one of them by itself.

    Returns:
      The scores of the first photo's.
    """
    import torch

    theirs, ours = pair(name)
    predictions = ours.predict(pixels, np.asarray([canvas.size for canvas in canvases]))
    with torch.inference_mode():
        together = theirs(to_tensors(photos()))
        alone = theirs(to_tensors(photos()[:1]))[0]
    compare_predictions(predictions, canvases, together)
    found = ours.detect(photos()[0], threshold=0, batch_size=len(canvases))
    boxes, scores = (np.asarray([getattr(each, key) for each in found]) for key in ("box", "score"))
    labels = np.asarray([ours.labels.index(each.label) for each in found])
    assert_same_detections(boxes, labels, scores, alone)
    return scores


def check_thresholds(name, outputs, canvases, threshold):
    """The same objects are found where a score and no number decides which."""
    import torch

    theirs, ours = pair(name)
    settings = theirs.roi_heads if is_two_stage(name) else theirs
    settings.score_thresh, settings.detections_per_img = threshold, 1000
    model = ours.model.clone(score_threshold=threshold, max_detections=1000)
    sizes = np.asarray([canvas.size for canvas in canvases])
    with torch.inference_mode():
        wanted = theirs(to_tensors(photos()))
    predictions = jax.jit(model.predict)(outputs, sizes)
    assert len(set(predictions.counts.tolist())) > 1
    compare_predictions(predictions, canvases, wanted)


def middle(scores):
    """A number between two of the scores, near their middle, where the gap is largest."""
    scores = np.sort(scores)[len(scores) // 3 : 2 * len(scores) // 3]
    number = np.diff(scores).argmax()
    return float(scores[number : number + 2].mean())


def compare_predictions(predictions, canvases, wanted):
    """Predictions of a batch are torchvision's."""
    predictions = jax.device_get(predictions)
    assert predictions.finite.all()
    assert predictions.counts.sum() > 10
    for number, (theirs, canvas) in enumerate(zip(wanted, canvases, strict=True)):
        count = predictions.counts[number]
        boxes, scores, labels = (array[number][:count] for array in predictions[:3])
        boxes = unresize(boxes, canvas.size, canvas.original)
        assert_same_detections(boxes, labels, scores, theirs)


def assert_same_detections(boxes, labels, scores, wanted):
    """Detections are the same, one to one, with scores to 1e-4 and boxes to an IoU of 0.999.

    Boxes with no area, which are what is left of those outside the image, are compared by their
    edges. Where there are more detections than are kept, the last of them may be another whose
    score is the same but for rounding.
    """
    their_boxes, their_labels, their_scores = (
        wanted[key].numpy() for key in ("boxes", "labels", "scores")
    )
    assert len(boxes) == len(their_boxes)
    missing = []
    free = np.ones(len(boxes), bool)
    for box, label, score in zip(their_boxes, their_labels, their_scores, strict=True):
        matches = free & (labels == label)
        matches &= np.abs(scores - score) < 1e-4
        equal = np.abs(boxes - box).max(1) < 1e-3
        overlaps = np.where(matches, np.maximum(iou(boxes, box), equal), 0)
        if overlaps.max() > 0.999:
            free[overlaps.argmax()] = False
        else:
            missing.append(score)
    assert max(missing, default=0) < their_scores.min(initial=1) + 1e-5


def iou(boxes, box):
    """The intersection over union of boxes and one more."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    intersection = np.maximum(sides, 0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return intersection / np.maximum(areas - intersection, 1e-9)


@pytest.mark.parametrize("size", [(40, 64), (29, 31), (75, 150), (53, 97), (1, 1)])
def test_resize(size):
    import torch

    photo = np.random.default_rng(0).integers(0, 256, (53, 97, 3), np.uint8)
    tensor = torch.from_numpy(photo.transpose(2, 0, 1).astype(np.float32))[None]
    wanted = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False)
    # Places among 97 pixels are rounded to 4e-6, and neighbours differ by up to 255.
    np.testing.assert_allclose(resize(photo, size), wanted[0].permute(1, 2, 0), atol=2e-3)


def test_resized_size():
    """Images of any shape become as large as torchvision's."""
    import torch

    load_operators()
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    theirs = GeneralizedRCNNTransform(80, 133, [0.0], [1.0])
    ours = RetinaNet_ResNet50_FPN(short_side=80, long_side=133)
    rng = np.random.default_rng(0)
    for height, width in [(80, 133), (500, 333), (375, 500), *rng.integers(20, 400, (200, 2))]:
        image, _ = theirs.eval().resize(torch.zeros(1, height, width), None)
        assert ours.resized_size(int(height), int(width)) == tuple(image.shape[1:])
