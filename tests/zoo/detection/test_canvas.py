import numpy as np
import pytest

from zoo.detection import SSD300_VGG16, RetinaNet_ResNet50_FPN
from zoo.detection.canvas import choose_canvas, make_canvas, resize, unresize

DETECTOR = RetinaNet_ResNet50_FPN(short_side=96, long_side=160)


@pytest.mark.parametrize(
    ("photo", "size", "canvas"),
    [
        ((480, 640), (96, 128), (96, 128)),  # 4:3 has no padding
        ((640, 480), (128, 96), (128, 96)),
        ((500, 500), (96, 96), (96, 96)),
        ((450, 800), (90, 160), (96, 160)),  # 16:9: the longer side decides
        ((100, 1000), (16, 160), (64, 160)),
    ],
)
def test_canvas(photo, size, canvas):
    assert DETECTOR.resized_size(*photo) == size
    assert choose_canvas(DETECTOR, size) == canvas


def test_canvases_are_few():
    """Photos of all shapes fit into a dozen canvases, each a program."""
    canvases = set()
    for height, width in np.random.default_rng(0).integers(20, 4000, (500, 2)).tolist():
        size = DETECTOR.resized_size(height, width)
        canvas = choose_canvas(DETECTOR, size)
        assert canvas[0] >= size[0]
        assert canvas[1] >= size[1]
        assert canvas[0] % 32 == canvas[1] % 32 == 0
        canvases.add(canvas)
    assert len(canvases) <= 14


def test_canvas_of_one_size():
    detector = SSD300_VGG16()
    assert choose_canvas(detector, detector.resized_size(10, 700)) == (300, 300)


def test_make_canvas():
    """The photo is at the left top, normalised; the rest is 0."""
    photo = np.full((100, 200, 3), 90, np.uint8)
    mean, std = np.float32([10, 20, 30]), np.float32([2, 2, 4])
    canvas = make_canvas(photo, DETECTOR, mean, std)
    assert canvas.size == (80, 160)
    assert canvas.original == (100, 200)
    assert canvas.pixels.shape == (96, 160, 3)
    assert canvas.pixels.dtype == np.float32
    assert (canvas.pixels[:80] == [40, 35, 15]).all()
    assert not canvas.pixels[80:].any()
    assert make_canvas(photo, DETECTOR, mean, std, (128, 192)).pixels.shape == (128, 192, 3)


def test_resize():
    """Pixels of twice the size are a quarter and three quarters between two; the ends stay."""
    row = np.asarray([[0, 8, 80]], np.uint8)[..., None]
    assert resize(row, (1, 6)).ravel().tolist() == [0, 2, 6, 26, 62, 80]
    assert resize(row, (1, 3)).dtype == np.float32
    # Half the size is the mean of pairs.
    assert resize(np.asarray([[0, 8, 80, 20]], np.uint8)[..., None], (1, 2)).ravel().tolist() == [
        4,
        50,
    ]


def test_unresize():
    boxes = np.asarray([[0, 8, 16, 80]], np.float32)
    np.testing.assert_allclose(unresize(boxes, (80, 160), (100, 400)), [[0, 10, 40, 100]])
