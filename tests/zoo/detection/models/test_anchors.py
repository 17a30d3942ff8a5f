import math

import numpy as np
import pytest

from zoo.detection.models.anchors import make_anchors, make_default_boxes


def test_anchors():
    """Two rows and three columns, 16 and 20 pixels apart, and on each place three shapes."""
    (anchors,) = make_anchors(((2, 3),), (32, 60), ((32,),), (0.5, 1.0, 2.0))
    assert anchors.shape == (2 * 3 * 3, 4)
    assert anchors.dtype == np.float32
    # 32² pixels: 45.25 wide and 22.63 high, the other way round, and a square; edges are rounded.
    shapes = [(-23, -11, 23, 11), (-16, -16, 16, 16), (-11, -23, 11, 23)]
    np.testing.assert_array_equal(anchors[:3], shapes)
    np.testing.assert_array_equal(anchors[3:6], np.add(shapes, (20, 0, 20, 0)))
    np.testing.assert_array_equal(anchors[9:12], np.add(shapes, (0, 16, 0, 16)))


def test_anchor_sizes():
    """Ratios come before sizes; each map has sizes of its own."""
    fine, coarse = make_anchors(((1, 1), (1, 1)), (8, 8), ((4, 8), (16, 32)), (1.0, 4.0))
    np.testing.assert_array_equal(fine[:2], [(-2, -2, 2, 2), (-4, -4, 4, 4)])
    np.testing.assert_array_equal(coarse[2:], [(-4, -16, 4, 16), (-8, -32, 8, 32)])


def test_anchors_need_sizes():
    with pytest.raises(ValueError, match="sizes must be for 2 feature maps, got 1"):
        make_anchors(((1, 1), (1, 1)), (8, 8), ((4,),), (1.0,))


def test_default_boxes():
    """Centres are in the middle of cells; a square, a larger one, and two of ratio 2."""
    (boxes,) = make_default_boxes(((2, 2),), (100, 200), ((2.0,),), (0.2, 0.45))
    assert boxes.shape == (2 * 2 * 4, 4)
    extents = (boxes[:, 2:] - boxes[:, :2])[:4] / (200, 100)
    root = math.sqrt(2)
    wanted = [(0.2, 0.2), (0.3, 0.3), (0.2 * root, 0.2 / root), (0.2 / root, 0.2 * root)]
    np.testing.assert_allclose(extents, wanted, rtol=1e-6)
    centres = (boxes[::4, :2] + boxes[::4, 2:]) / 2
    np.testing.assert_allclose(centres, [(50, 25), (150, 25), (50, 75), (150, 75)], rtol=1e-6)


def test_default_boxes_of_steps():
    """Steps in pixels, as of SSD300, whose last maps do not divide the image."""
    (boxes,) = make_default_boxes(((3, 3),), (300, 300), ((),), (0.5, 0.5), (64,))
    centres = (boxes[::2, :2] + boxes[::2, 2:]) / 2
    np.testing.assert_allclose(centres[0], (32, 32), rtol=1e-6)
    np.testing.assert_allclose(centres[-1], (160, 160), rtol=1e-6)


def test_default_boxes_are_no_larger_than_images():
    (boxes,) = make_default_boxes(((1, 1),), (10, 10), ((3.0,),), (0.9, 1.4))
    assert (boxes[:, 2:] - boxes[:, :2]).max() == 10
