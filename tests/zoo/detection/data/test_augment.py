"""Photos and their boxes in training: boxes stay on what they surround."""

import concurrent.futures
import multiprocessing

import numpy as np
import pytest

from zoo.detection.data.augment import FILL, DetectionAugmentation, DetectionResize
from zoo.runtime.checks import ArgumentError

pytest.importorskip("albumentations", reason="the extra `train` installs it")

STRETCH = DetectionResize(96, 128)
FIT = DetectionResize(96, 128, keep_aspect=True)
EVERYTHING = {"flip": 0.5, "crop": 0.6, "zoom_out": 1.0, "color_jitter": 0.2}
NONE = np.zeros((0, 4), np.float32)


def draw(height, width, box, color=255):
    """A black image with a filled rectangle."""
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = color
    return image


def find(image, size=None):
    """The box around what is bright, in pixels."""
    height, width = size if size is not None else image.shape[:2]
    bright = image[:height, :width].astype(int).min(axis=2) > 150
    rows, columns = (np.flatnonzero(bright.any(axis=axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def boxes_of(sample):
    return sample.boxes[sample.labels >= 0]


@pytest.mark.parametrize("resize", [STRETCH, FIT])
@pytest.mark.parametrize("size", [(240, 320), (320, 150), (50, 200), (40, 40)])
def test_resized_boxes_follow_the_pixels(resize, size):
    height, width = size
    box = (width // 4, height // 5, width // 2, height - 7)
    sample = resize(draw(height, width, box), [box], [3])
    assert sample.image.shape == (96, 128, 3)
    assert sample.image.dtype == np.uint8
    assert sample.labels.tolist() == [3] + 99 * [-1]
    # Edges of resized rectangles are blurred by a pixel.
    np.testing.assert_allclose(boxes_of(sample)[0], find(sample.image, sample.size), atol=1)
    scale = np.tile((sample.original_size / sample.size)[::-1], 2)
    np.testing.assert_allclose(boxes_of(sample)[0] * scale, box, rtol=1e-6)
    assert not sample.boxes[1:].any()


def test_the_aspect_is_kept_and_the_rest_is_padding():
    sample = FIT(np.full((300, 200, 3), 9, np.uint8), NONE, [])
    assert sample.size.tolist() == [96, 64]
    assert (sample.image[:, :64] == 9).all()
    assert (sample.image[:, 64:] == FILL).all()
    assert STRETCH(np.full((300, 200, 3), 9, np.uint8), NONE, []).size.tolist() == [96, 128]


@pytest.mark.parametrize("resize", [STRETCH, FIT])
@pytest.mark.parametrize("options", [{"flip": 1.0}, {"crop": 0.6}, {"zoom_out": 1.0}, EVERYTHING])
def test_augmented_boxes_follow_the_pixels(resize, options):
    """The rectangle is bright enough to be found whatever the change of colour."""
    box = (70, 60, 150, 130)
    image = draw(200, 260, box)
    augment = DetectionAugmentation(resize, **{"flip": 0.0, **options})
    found = set()
    for seed in range(40):
        sample = augment(image, [box], [1], np.random.default_rng(seed))
        (moved,) = boxes_of(sample)
        # The blur of an edge is a pixel, which grows where a crop is enlarged.
        np.testing.assert_allclose(moved, find(sample.image, sample.size), atol=1.5)
        found.add(tuple(moved.round().tolist()))
    assert len(found) == 1 if options == {"flip": 1.0} else len(found) > 9


def test_a_flip_mirrors_boxes():
    augment = DetectionAugmentation(DetectionResize(50, 100), flip=1.0)
    sample = augment(np.zeros((50, 100, 3), np.uint8), [[10, 5, 30, 20]], [0], generator(0))
    np.testing.assert_allclose(boxes_of(sample), [[70, 5, 90, 20]], atol=1e-4)


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def test_boxes_of_which_too_little_is_left_are_dropped():
    """Of a row of boxes, those at the ends are cut; each has its own shade of grey."""
    boxes = np.array([[x, 10, x + 40, 50] for x in range(0, 400, 40)], np.float32)
    image = np.repeat(np.repeat(np.arange(10, dtype=np.uint8), 40)[None, :, None], 60, axis=0)
    image = np.repeat(20 * image, 3, axis=2)
    resize = DetectionResize(60, 400, keep_aspect=True)
    for share in (0.0, 0.5, 0.9):
        augment = DetectionAugmentation(resize, flip=0, crop=0.8, min_visible=share)
        shares = []
        for seed in range(60):
            sample = augment(image, boxes, np.arange(10), generator(seed))
            kept = boxes_of(sample)
            areas = np.prod(kept[:, 2:] - kept[:, :2], axis=1)
            assert areas.min() > 0
            for box, label in zip(kept, sample.labels, strict=False):
                x, y = ((box[:2] + box[2:]) / 2).astype(int)
                # A sliver's centre may show a bit of its neighbour, whose shade is 20 away.
                assert abs(int(sample.image[y, x, 0]) - 20 * label) < 10
            # The largest box that is left is whole, or all are cut above and below.
            shares.append((areas / areas.max()).min())
        assert min(shares) >= share - 1e-3
        assert min(shares) < share + 0.1


def test_a_crop_that_shows_no_object_is_drawn_anew():
    """A small box in a corner is in few crops; mirrored, it shows that something was drawn."""
    image = draw(100, 100, (0, 0, 6, 6))
    augment = DetectionAugmentation(DetectionResize(100, 100), flip=1.0, crop=0.8)
    for seed in range(30):
        (box,) = boxes_of(augment(image, [[0, 0, 6, 6]], [2], generator(seed)))
        assert box[2] == pytest.approx(100)


@pytest.mark.parametrize("resize", [STRETCH, FIT])
def test_edge_cases_stay_boxes(resize):
    augment = DetectionAugmentation(resize, **EVERYTHING)
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    cases = [
        NONE,
        [],
        [[0, 0, 1, 1]],
        [[69, 89, 70, 90]],
        [[0, 0, 70, 90]],
        [[0, 0, 0.01, 90], [69.9, 0, 70, 90]],
    ]
    for boxes in cases:
        for seed in range(20):
            sample = augment(image, boxes, np.arange(len(boxes)), generator(seed))
            kept = boxes_of(sample)
            height, width = sample.size
            assert bool(len(kept)) == bool(len(boxes))
            assert np.isfinite(kept).all()
            assert (kept[:, 2:] > kept[:, :2]).all()
            assert (kept >= 0).all()
            assert (kept <= np.array([width, height, width, height]) + 1e-3).all()


def test_the_smallest_boxes_are_dropped_beyond_the_maximum():
    boxes = [[0, 0, side, side] for side in (5, 30, 2, 20, 9)]
    resize = DetectionResize(64, 64, max_boxes=3)
    sample = resize(np.zeros((64, 64, 3), np.uint8), boxes, [0, 1, 2, 3, 4])
    assert sample.labels.tolist() == [1, 3, 4]
    assert sample.boxes[:, 2].tolist() == [30, 20, 9]
    assert sample.dropped == 2
    assert resize(np.zeros((64, 64, 3), np.uint8), boxes[:3], [0, 1, 2]).dropped == 0


def augmented(seed):
    image = np.random.default_rng(5).integers(0, 256, (90, 120, 3), np.uint8)
    boxes = [[10, 10, 50, 60], [70, 30, 110, 80]]
    return DetectionAugmentation(FIT, **EVERYTHING)(image, boxes, [0, 1], generator(seed))


def test_the_generator_alone_decides_in_any_thread_and_process():
    want = [augmented(seed) for seed in range(6)]
    assert len({sample.image.tobytes() for sample in want}) == 6
    seeds = [*reversed(range(6)), *range(6)]
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        by_threads = list(threads.map(augmented, seeds))
    with multiprocessing.get_context("spawn").Pool(1) as processes:
        by_processes = processes.map(augmented, seeds[:6])
    for seed, got in zip([*seeds, *seeds[:6]], by_threads + by_processes, strict=True):
        for one, other in zip(got, want[seed], strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_photo_is_loaded(examples):
    sample = STRETCH(examples / "cat.jpg", [[0, 0, 451, 300]], [0])
    assert sample.original_size.tolist() == [300, 451]
    np.testing.assert_allclose(sample.boxes[0], [0, 0, 128, 96], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: DetectionResize(0, 5), "height"),
        (lambda: DetectionResize(5, 2.5), "width"),
        (lambda: DetectionResize(5, 5, max_boxes=0), "max_boxes"),
        (lambda: DetectionAugmentation(FIT, flip=1.5), "flip"),
        (lambda: DetectionAugmentation(FIT, crop=1.0), "crop"),
        (lambda: DetectionAugmentation(FIT, zoom_out=-1), "zoom_out"),
        (lambda: DetectionAugmentation(FIT, min_visible=1), "min_visible"),
        (lambda: DetectionAugmentation(FIT, color_jitter=float("nan")), "color_jitter"),
    ],
)
def test_numbers_out_of_range_are_named(make, name):
    with pytest.raises(ArgumentError, match=name):
        make()
