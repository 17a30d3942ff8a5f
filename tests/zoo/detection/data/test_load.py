"""Detection data sets of any kind, in two parts."""

import json

import pytest

from tests.zoo.detection.data.trees_of_files import (
    annotation,
    save_json,
    save_labels,
    save_photo,
    save_xml,
    voc_object,
    write,
)
from zoo.data.dataset import DatasetError
from zoo.detection.data.coco import save_coco
from zoo.detection.data.load import load_detection
from zoo.detection.data.shapes import make_shapes
from zoo.runtime.checks import ArgumentError


def test_each_kind_is_loaded(tmp_path):
    save_xml(tmp_path / "voc", "one", [voc_object((1, 1, 5, 5))])
    write(tmp_path / "yolo" / "classes.txt", "cat")
    save_labels(tmp_path / "yolo", "a.jpg", ["0 0.5 0.5 0.1 0.1"])
    save_json(tmp_path / "coco", [annotation(1, [1, 1, 2, 2])])
    for kind in ("voc", "yolo", "coco"):
        train, val = load_detection(tmp_path / kind, kind)
        assert len(train.boxes[0]) == 1
        assert val is None
    with pytest.raises(ArgumentError, match="kind must be one of coco, voc, yolo, got 'x'"):
        load_detection(tmp_path, "x")


def test_coco_s_parts_have_the_same_classes(tmp_path):
    dataset = make_shapes(6, size=32)
    save_coco(dataset.select([0, 1, 2, 3]), tmp_path, "train2017")
    order = ("star", "circle", "square", "triangle", "more")
    save_coco(dataset.select([4, 5]).with_classes(order), tmp_path, "val2017")
    train, val = load_detection(tmp_path)
    assert (len(train), len(val)) == (4, 2)
    assert train.classes == val.classes == dataset.classes
    assert [part.tolist() for part in val.labels] == [part.tolist() for part in dataset.labels[4:]]


def test_each_part_may_have_its_own_folder(tmp_path):
    """As Roboflow exports them."""
    for part in ("train", "valid"):
        path = save_json(tmp_path / "all", [annotation(1, [1, 1, 2, 2])])
        content = json.loads(path.read_text())
        write(tmp_path / "set" / part / "_annotations.coco.json", json.dumps(content))
        for name in ("a.jpg", "b.jpg"):
            save_photo(tmp_path / "set" / part / name)
    train, val = load_detection(tmp_path / "set", "coco")
    assert [name.split("/")[-2] for name in (*train.images, *val.images)] == [
        *2 * ["train"],
        *2 * ["valid"],
    ]


def test_several_or_no_files_are_named(tmp_path):
    with pytest.raises(DatasetError, match="has no boxes: neither JSON"):
        load_detection(tmp_path)
    with pytest.raises(DatasetError, match="0 JSON files"):
        load_detection(tmp_path, "coco")
    for name in ("train2014", "train2017"):
        write(tmp_path / "annotations" / f"instances_{name}.json", "{}")
    with pytest.raises(DatasetError, match=r"train2014\.json and instances_train2017\.json"):
        load_detection(tmp_path)
