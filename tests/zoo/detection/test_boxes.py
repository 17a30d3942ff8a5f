"""Formats, overlaps and codes of boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.detection.boxes import (
    MAX_LOG_RATIO,
    box_area,
    box_iou,
    clip_boxes,
    convert_boxes,
    decode_boxes,
    decode_distances,
    encode_boxes,
    encode_distances,
    generalized_iou,
)
from zoo.runtime.checks import ArgumentError

SIZE = 24  # of the square that boxes are drawn in
ZEROS = jnp.zeros((1, 4))


def make_boxes(seed, count):
    """Boxes with corners at integers, at least one pixel wide and high."""
    random = np.random.default_rng(seed)
    start = random.integers(0, SIZE - 1, (count, 2))
    end = random.integers(start + 1, SIZE + 1)
    return np.concatenate([start, end], axis=1).astype(np.float32)


def draw(boxes):
    """The pixels that each box covers [N, SIZE, SIZE]."""
    x, y = np.arange(SIZE), np.arange(SIZE)[:, None]
    x1, y1, x2, y2 = boxes.T[:, :, None, None]
    return (x >= x1) & (x < x2) & (y >= y1) & (y < y2)


def test_formats():
    box = {"xyxy": [2, 3, 8, 13], "xywh": [2, 3, 6, 10], "cxcywh": [5, 8, 6, 10]}
    for source, values in box.items():
        for target, expected in box.items():
            converted = convert_boxes(jnp.array([values], jnp.float32), source, target)
            np.testing.assert_array_equal(converted, [expected])
    with pytest.raises(ArgumentError, match="target must be one of xyxy, xywh, cxcywh, got 'yx'"):
        convert_boxes(ZEROS, "xyxy", "yx")


def test_overlaps_are_those_of_drawn_boxes():
    boxes, others = make_boxes(0, 40), make_boxes(1, 30)
    drawn, drawn_others = draw(boxes), draw(others)
    np.testing.assert_array_equal(box_area(jnp.asarray(boxes)), drawn.sum((1, 2)))
    intersection = (drawn[:, None] & drawn_others).sum((2, 3))
    union = (drawn[:, None] | drawn_others).sum((2, 3))
    # Counts are exact in float32, so only the division rounds.
    expected = intersection.astype(np.float32) / union.astype(np.float32)
    np.testing.assert_array_max_ulp(box_iou(boxes, others), expected, 1)
    assert box_iou(boxes, others[:0]).shape == (40, 0)


def test_generalized_iou_is_that_of_drawn_boxes():
    boxes, others = make_boxes(2, 40), make_boxes(3, 40)
    drawn, drawn_others = draw(boxes), draw(others)
    intersection = (drawn & drawn_others).sum((1, 2))
    union = (drawn | drawn_others).sum((1, 2))
    pairs = np.stack([boxes, others])
    hull = np.concatenate([pairs.min(0)[:, :2], pairs.max(0)[:, 2:]], axis=1)
    hull = draw(hull).sum((1, 2))
    expected = intersection / union - (hull - union) / hull
    np.testing.assert_allclose(generalized_iou(boxes, others), expected, atol=1e-6)
    assert (expected < 0).any()


def test_overlap_of_boxes_without_area():
    boxes = jnp.array([[5, 5, 5, 5], [0, 0, 9, 0], [2, 2, 8, 8]], jnp.float32)
    np.testing.assert_array_equal(box_iou(boxes, boxes), np.diag([0, 0, 1]))
    for function in (lambda x: box_iou(x, boxes).sum(), lambda x: generalized_iou(x, boxes).sum()):
        assert jnp.isfinite(jax.grad(function)(boxes)).all()


def test_clip():
    boxes = jnp.array([[[-5, 3, 20, 40]], [[-5, 3, 20, 40]]], jnp.float32)
    np.testing.assert_array_equal(clip_boxes(boxes, 30, 10)[0], [[0, 3, 10, 30]])
    sizes = jnp.array([[30, 10], [99, 15]])  # of two images
    clipped = clip_boxes(boxes, sizes[:, :1], sizes[:, 1:])
    np.testing.assert_array_equal(clipped, [[[0, 3, 10, 30]], [[0, 3, 15, 40]]])


def test_code_by_hand():
    anchor, box = jnp.array([10.0, 10, 20, 30]), jnp.array([10.0, 20, 30, 40])
    # The centre moves from (15, 20) to (20, 30), the size changes from 10 x 20 to 20 x 20.
    code = encode_boxes(box, anchor, (10, 10, 5, 5))
    np.testing.assert_allclose(code, [5, 5, 5 * np.log(2), 0], rtol=1e-6)
    # The edges are 5, 0, 15 and 20 from the centre.
    np.testing.assert_allclose(encode_distances(box, anchor), [0.5, 0, 1.5, 1], rtol=1e-6)


def test_decoding_inverts_encoding():
    boxes, anchors = make_boxes(4, 50), make_boxes(5, 50)
    weights = (10.0, 10.0, 5.0, 5.0)
    decoded = decode_boxes(encode_boxes(boxes, anchors, weights), anchors, weights)
    np.testing.assert_allclose(decoded, boxes, atol=1e-4)  # in pixels, of up to 24
    decoded = decode_distances(encode_distances(boxes, anchors), anchors)
    np.testing.assert_allclose(decoded, boxes, atol=1e-4)


def test_codes_broadcast():
    deltas = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3, 4)), jnp.float32)
    anchors = make_boxes(6, 5)
    for decode in (decode_boxes, decode_distances):
        decoded = decode(deltas, anchors[:, None])
        one_by_one = [decode(deltas[:, number], anchors) for number in range(3)]
        np.testing.assert_allclose(decoded, np.stack(one_by_one, axis=1), rtol=1e-6)


def test_decoded_size_is_bounded():
    code = jnp.array([0, 0, 1e9, MAX_LOG_RATIO / 2], jnp.float32)
    x1, y1, x2, y2 = decode_boxes(code, jnp.array([0.0, 0, 16, 16]))
    assert x2 - x1 == pytest.approx(1000, rel=1e-5)
    assert y2 - y1 == pytest.approx(16 * (1000 / 16) ** 0.5, rel=1e-5)


def test_codes_of_padding_are_finite():
    box = jnp.array([[3.0, 4, 10, 12]])
    for encode in (encode_boxes, encode_distances):
        for pair in ((ZEROS, box), (box, ZEROS), (ZEROS, ZEROS)):
            assert jnp.isfinite(encode(*pair)).all()
