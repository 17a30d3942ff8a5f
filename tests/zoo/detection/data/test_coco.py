"""COCO's annotations: what is read, what is left out, and what is written."""

import json

import numpy as np
import pytest

from tests.zoo.detection.data.trees_of_files import annotation, save_json, save_photo, write
from zoo.data.dataset import DatasetError
from zoo.detection.data.coco import load_coco, save_coco
from zoo.detection.data.dataset import DetectionDataset


def test_boxes_go_to_their_images_and_classes(tmp_path):
    path = save_json(
        tmp_path,
        [
            annotation(1, [10, 20, 30, 5.5], area=77.5),
            annotation(2, [1, 2, 3, 4], image=3, category=4, iscrowd=1),
            annotation(3, [0, 0, 100, 60]),
        ],
    )
    dataset = load_coco(path)
    assert dataset.classes == ("cat", "dog")  # by the categories' ids
    assert dataset.images == [str(tmp_path / "train2017" / name) for name in ("a.jpg", "b.jpg")]
    np.testing.assert_array_equal(dataset.boxes[0], [[10, 20, 40, 25.5], [0, 0, 100, 60]])
    np.testing.assert_array_equal(dataset.boxes[1], [[1, 2, 4, 6]])
    assert [part.tolist() for part in dataset.labels] == [[1, 1], [0]]
    assert [part.tolist() for part in dataset.areas] == [[77.5, 6000], [12]]
    assert [part.tolist() for part in dataset.crowd] == [[False, False], [True]]
    assert (dataset.skipped, dataset.clipped) == ((), 0)


WRONG = [
    ([10, 10, -5, 5], "width -5"),
    ([10, 10, 5, 0], "height 0"),
    ([float("nan"), 10, 5, 5], "not finite"),
    ([10, 10, float("inf"), 5], "not finite"),
    ([200, 10, 5, 5], "100x60"),
    ([10, -9, 5, 9], "no area inside"),
    ([10, 10, 1e-9, 9], "no area inside"),
    ([10, 10, 5], "four numbers"),
    ([10, 10, 5, "5"], "four numbers"),
    ([10, 10, 5, True], "four numbers"),
    ([10**400, 10, 5, 5], "four numbers"),
    (None, "four numbers"),
]


@pytest.mark.parametrize("indent", [None, 1])
def test_wrong_boxes_are_left_out_and_named(tmp_path, indent):
    good = annotation(1, [1, 1, 2, 2])
    wrong = [annotation(100 + i, box) for i, (box, _) in enumerate(WRONG)]
    path = save_json(tmp_path, [good, *wrong, good], indent=indent)
    dataset = load_coco(path)
    assert [len(part) for part in dataset.boxes] == [2, 0]
    assert len(dataset.skipped) == len(WRONG)
    lines = path.read_text().splitlines()
    for number, (message, (_, reason)) in enumerate(zip(dataset.skipped, WRONG, strict=True), 100):
        assert message.startswith(str(path))
        assert f"annotation {number}:" in message
        assert reason in message
        if indent:  # an annotation begins with its brace, a line before its id
            line = lines.index(f'   "id": {number},')
            assert f" line {line}, " in message
        else:
            assert "line" not in message


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (annotation(5, [1, 1, 2, 2], category=99), "category_id is 99"),
        (annotation(5, [1, 1, 2, 2], category=[4]), "category_id is"),
        (annotation(5, [1, 1, 2, 2], image=99), "image_id is 99"),
        ({"bbox": [1, 1, 2, 2]}, "annotations[1]: image_id is None"),
        ([1, 2], "annotations[1]: it is a list"),
    ],
)
def test_annotations_of_nothing_known_are_left_out(tmp_path, wrong, reason):
    dataset = load_coco(save_json(tmp_path, [annotation(1, [1, 1, 2, 2]), wrong]))
    assert [len(part) for part in dataset.boxes] == [1, 0]
    (message,) = dataset.skipped
    assert reason in message


def test_boxes_over_the_edge_are_clipped_and_counted(tmp_path):
    boxes = [[-5, 10, 10, 5], [90, 50, 30, 30], [90, 50, 10.01, 10]]
    dataset = load_coco(save_json(tmp_path, [annotation(i, box) for i, box in enumerate(boxes)]))
    np.testing.assert_array_equal(
        dataset.boxes[0], [[0, 10, 5, 15], [90, 50, 100, 60], [90, 50, 100, 60]]
    )
    assert (dataset.clipped, dataset.skipped) == (2, ())  # a hundredth is rounding


def test_one_pixel_boxes_stay(tmp_path):
    dataset = load_coco(save_json(tmp_path, [annotation(1, [99, 59, 1, 1])]))
    np.testing.assert_array_equal(dataset.boxes[0], [[99, 59, 100, 60]])


@pytest.mark.parametrize("size", [{}, {"width": 0, "height": 60}, {"width": 9**99, "height": "6"}])
def test_sizes_that_are_not_given_are_read(tmp_path, size):
    images = [{"id": 7, "file_name": "a.jpg", **size}]
    path = save_json(tmp_path, [annotation(1, [90, 50, 99, 99])], images=images)
    np.testing.assert_array_equal(load_coco(path).boxes[0], [[90, 50, 100, 60]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [],\n "annotations": [}', "line 2 is no JSON"),
        ("", "line 1 is no JSON"),
        ("[]", "holds a list"),
        ("{}", "no list 'images'"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "without 'file_name'"),
        ("[" * 200_000, "no JSON"),
        ('{"images": ' + "1" * 10_000 + "}", "no JSON"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, text, message):
    path = write(tmp_path / "x.json", text)
    with pytest.raises(DatasetError, match=message) as raised:
        load_coco(path)
    assert str(path) in str(raised.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a":\n\n"\xff"}')
    with pytest.raises(DatasetError, match="line 3 is no text"):
        load_coco(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        load_coco(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["../b.jpg", "/etc/passwd", "x/../../b.jpg", "", "a\0b"])
def test_paths_stay_in_the_folder(tmp_path, name):
    save_photo(tmp_path / "b.jpg")
    images = [{"id": 7, "file_name": name}]
    path = save_json(tmp_path, [annotation(1, [1, 1, 2, 2])], images=images)
    for folder in (None, tmp_path / "train2017"):
        with pytest.raises(DatasetError, match=r"stay inside|without 'file_name'"):
            load_coco(path, folder)


def test_missing_images_are_named(tmp_path):
    path = save_json(tmp_path, [annotation(1, [1, 1, 2, 2])])
    (tmp_path / "train2017" / "b.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 of 2 images do not exist.*b\.jpg"):
        load_coco(path)
    (tmp_path / "train2017" / "a.jpg").unlink()
    with pytest.raises(DatasetError, match=r"a\.jpg.*give the folder"):
        load_coco(path)


def test_ids_and_names_are_unique(tmp_path):
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 7, "file_name": "b.jpg"}]
    with pytest.raises(DatasetError, match="two images of the id 7"):
        load_coco(save_json(tmp_path, [], images=images))
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]
    with pytest.raises(DatasetError, match="two categories of the name 'cat'"):
        load_coco(save_json(tmp_path, [], categories=categories))


def test_a_set_without_a_box_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"no boxes that can be used.*width -1"):
        load_coco(save_json(tmp_path, [annotation(1, [1, 1, -1, 2])]))


def test_what_is_written_is_read_alike(tmp_path):
    random = np.random.default_rng(0)
    low = random.uniform(0, 20, (5, 2))
    boxes = np.concatenate([low, low + random.uniform(0.5, 10, (5, 2))], axis=1)
    dataset = DetectionDataset(
        images=[
            random.integers(0, 256, (32, 40, 3), np.uint8),
            save_photo(tmp_path / "photo.jpg"),
            np.zeros((32, 32, 3), np.uint8),
        ],
        boxes=[boxes[:2], boxes[2:], []],
        labels=[[1, 0], [0, 0, 1], []],
        classes=("zebra", "ant"),
        crowd=[[False, True], [False] * 3, []],
        areas=[[1.5, 2], [3, 4, 5], []],
    )
    path = save_coco(dataset, tmp_path / "set", "val")
    assert path == tmp_path / "set" / "annotations" / "instances_val.json"
    again = load_coco(path)
    assert again.classes == dataset.classes
    for index in range(3):
        for got, want in zip(again[index][1:], dataset[index][1:], strict=True):
            # Widths are differences of float32, and are added again.
            np.testing.assert_allclose(got, want, rtol=2e-7)
    assert json.loads(path.read_text())["annotations"][0]["category_id"] == 2
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]
