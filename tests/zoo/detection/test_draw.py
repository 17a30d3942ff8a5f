import itertools

import numpy as np
import pytest
from PIL import Image

from zoo.detection.colors import label_colors
from zoo.detection.detections import Detection
from zoo.detection.draw import draw_detections, place_tags
from zoo.inference.images import ImageError
from zoo.runtime.checks import ArgumentError

GREY = np.full((200, 300, 3), 128, np.uint8)
RED, BLUE = (255, 0, 0), (0, 0, 255)


def draw(*detections, image=GREY, **options):
    return np.asarray(draw_detections(image, detections, **options))


def overlap(one, other):
    return all(max(one[i], other[i]) < min(one[i + 2], other[i + 2]) for i in (0, 1))


def random_boxes(rng, count, width, height):
    low = rng.integers(0, (width - 1, height - 1), (count, 2))
    high = np.minimum(low + rng.integers(1, 90, (count, 2)), (width, height))
    return [tuple(box) for box in np.concatenate([low, high], axis=1).tolist()]


def test_edges_have_the_color_of_the_label():
    pixels = draw(Detection("dog", 0.9, (50, 60, 150.4, 120)), line_width=2)
    color = label_colors(["dog"])["dog"]
    edges = [pixels[60:62, 50:151], pixels[118:120, 50:151], pixels[60:120, 50:52]]
    for edge in [*edges, pixels[60:120, 149:151]]:
        assert (edge == color).all()
    assert (pixels[62:118, 52:149] == 128).all()
    assert (pixels[120:] == 128).all()
    assert (pixels[:, 151:] == 128).all()


def test_colors_that_are_given():
    one, other = Detection("dog", 0.9, (50, 60, 150, 120)), Detection("cat", 0.9, (5, 60, 40, 120))
    pixels = draw(one, other, colors={"dog": "red"})
    assert tuple(pixels[119, 100]) == RED
    assert tuple(pixels[119, 20]) == label_colors(["cat"])["cat"]


def test_tag_stands_above_its_box_and_has_text():
    pixels = draw(Detection("dog", 0.9, (50, 60, 150, 120)), colors={"dog": "yellow"})
    assert tuple(pixels[59, 51]) == (255, 255, 0)
    assert (pixels[45:60, 50:100] < 50).all(axis=2).any()  # black letters


def test_text_is_label_and_score():
    first, same, other = (
        draw(Detection("dog", score, (50, 60, 150, 120))) for score in (0.931, 0.934, 0.94)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_higher_scores_are_drawn_over_others():
    detections = [Detection("a", 0.9, (50, 60, 150, 120)), Detection("b", 0.4, (50, 60, 150, 120))]
    for order in (detections, detections[::-1]):
        pixels = draw(*order, colors={"a": RED, "b": BLUE})
        assert tuple(pixels[119, 100]) == RED


def test_nothing_to_draw():
    np.testing.assert_array_equal(draw(), GREY)


@pytest.mark.parametrize("image", [GREY.copy(), Image.fromarray(GREY)])
def test_image_is_not_changed(image):
    drawn = draw_detections(image, [Detection("dog", 0.9, (50, 60, 150, 120))])
    assert drawn is not image
    assert (np.asarray(drawn) != GREY).any()
    np.testing.assert_array_equal(np.asarray(image), GREY)
    assert draw_detections(image, []) is not image


def test_drawing_is_deterministic():
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 40, 300, 200)
    detections = [Detection("abc"[i % 3], 0.1 * (i % 5), box) for i, box in enumerate(boxes)]
    np.testing.assert_array_equal(draw(*detections), draw(*detections))


def test_photo_is_turned_upright(tmp_path):
    path = tmp_path / "photo.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(GREY).save(path, exif=exif)
    pixels = draw(Detection("dog", 0.9, (50, 210, 150, 290)), image=path, colors={"dog": RED})
    assert pixels.shape == (300, 200, 3)
    assert tuple(pixels[289, 100]) == RED


def test_boxes_are_clipped():
    pixels = draw(Detection("dog", 0.9, (-1e9, 100, 1e9, 1e9)), colors={"dog": RED}, line_width=1)
    assert (pixels[150, [0, 299]] == RED).all()
    assert (pixels[199] == RED).all()


@pytest.mark.parametrize("box", [(-50, 10, -1, 20), (301, 10, 400, 20), (10, 201, 20, 300)])
def test_boxes_outside_are_left_out(box):
    np.testing.assert_array_equal(draw(Detection("dog", 0.9, box)), GREY)


@pytest.mark.parametrize(
    ("point", "pixel"), [((0, 0), (0, 0)), ((100, 50), (50, 100)), ((300, 200), (199, 299))]
)
def test_an_empty_box_is_a_pixel(point, pixel):
    pixels = draw(Detection("", 0.9, point * 2), colors={"": RED}, line_width=3, font_size=7)
    assert tuple(pixels[pixel]) == RED


def test_tiny_image():
    pixels = draw(
        Detection("dog", 0.9, (2, 3, 8, 9)),
        image=np.full((10, 10, 3), 128, np.uint8),
        colors={"dog": RED},
    )
    red = (pixels == RED).all(axis=2)
    assert red.sum() == 20  # the edges of 6 x 6 pixels, and no tag
    assert red[3, 2:8].all()


def test_long_label_gets_a_smaller_font():
    box = (5, 40, 60, 60)
    small, none = (
        draw(Detection(label, 0.9, box), image=GREY[:64, :64], colors={label: RED})
        for label in ("traffic light", "a very long name of a class of objects")
    )
    above = slice(0, 40)
    assert (small[above] == RED).all(axis=2).any()
    assert (none[above] == 128).all()
    assert (none[40:60, 5] == RED).all()


def test_labels_of_several_lines_are_drawn_in_one():
    one, other = (
        draw(Detection(label, 0.9, (50, 60, 150, 120)), colors={label: RED})
        for label in ("a b", "a\n b")
    )
    np.testing.assert_array_equal(one, other)


def test_sizes_grow_with_the_image():
    large = np.full((1200, 1200, 3), 128, np.uint8)
    pixels = draw(Detection("dog", 0.9, (300, 300, 900, 900)), image=large, colors={"dog": RED})
    assert (pixels[600, 300:306] == RED).all()
    assert tuple(pixels[600, 306]) == (128, 128, 128)
    assert tuple(pixels[275, 301]) == RED  # the tag is over 25 pixels high


@pytest.mark.parametrize("count", [1, 10, 300])
@pytest.mark.parametrize("size", [(300, 200), (60, 600)])
def test_tags_do_not_overlap_nor_leave_the_image(count, size):
    rng = np.random.default_rng(count)
    boxes = random_boxes(rng, count, *size)
    sizes = [(int(width), 12) for width in rng.integers(20, 60, count)]
    tags = place_tags(boxes, sizes, size)
    assert len(tags) == count
    assert tags[0] is not None
    shown = [(tag, size) for tag, size in zip(tags, sizes, strict=True) if tag is not None]
    assert len(shown) >= min(count, 20)
    for (left, top, right, bottom), tag_size in shown:
        assert (right - left, bottom - top) == tag_size
        assert left >= 0
        assert top >= 0
        assert right <= size[0]
        assert bottom <= size[1]
    for (one, _), (other, _) in itertools.combinations(shown, 2):
        assert not overlap(one, other)


def test_tags_of_equal_boxes_stand_around_them():
    tags = place_tags([(100, 80, 180, 140)] * 12, [(60, 12)] * 12, (300, 200))
    assert tags[0] == (100, 68, 160, 80)
    assert tags[1] == (100, 80, 160, 92)
    assert None not in tags
    assert not any(overlap(*pair) for pair in itertools.combinations(tags, 2))
    # None is further away than its own height times the steps that are allowed.
    assert all(overlap(tag, (100 - 60, 80 - 72, 180 + 60, 140 + 72)) for tag in tags)


def test_tag_at_the_edges_moves_inside():
    boxes = [(0, 0, 50, 50), (290, 100, 300, 150), (0, 190, 300, 200)]
    tags = place_tags(boxes, [(40, 12)] * 3, (300, 200))
    assert tags == [(0, 0, 40, 12), (260, 88, 300, 100), (0, 178, 40, 190)]


def test_boxes_without_tags():
    assert place_tags([], [], (300, 200)) == []
    assert place_tags([(0, 0, 9, 9)], [None], (300, 200)) == [None]


def test_three_hundred_detections():
    boxes = random_boxes(np.random.default_rng(1), 300, 300, 200)
    pixels = draw(*(Detection(str(i % 90), i / 300, box) for i, box in enumerate(boxes)))
    assert (pixels != 128).any(axis=2).mean() > 0.5


@pytest.mark.parametrize(
    "box", [(np.nan, 0, 1, 1), (0, 0, np.inf, 1), (-np.inf, 0, 1, 1), (5, 0, 4, 1), (0, 5, 1, 4)]
)
def test_wrong_boxes(box):
    with pytest.raises(ArgumentError, match="the box of 'dog' must be finite"):
        draw(Detection("dog", 0.9, box))


def test_wrong_arguments():
    with pytest.raises(ArgumentError, match="line_width must be an integer of at least 1, got 0"):
        draw(line_width=0)
    with pytest.raises(ArgumentError, match="font_size must be an integer of at least 7, got 2"):
        draw(font_size=2)
    with pytest.raises(ArgumentError, match="colors must be"):
        draw(colors={"dog": "no colour"})
    with pytest.raises(ImageError, match=r"missing\.jpg"):
        draw(image="missing.jpg")
