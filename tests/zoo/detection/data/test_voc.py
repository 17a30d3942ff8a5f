"""Pascal VOC's annotations."""

import numpy as np
import pytest

from tests.zoo.detection.data.trees_of_files import save_xml, voc_object, write
from zoo.data.dataset import DatasetError
from zoo.detection.data.voc import load_voc


def test_boxes_count_pixels_from_1_and_include_the_last(tmp_path):
    save_xml(tmp_path, "one", [voc_object((1, 1, 1, 1)), voc_object((11, 21, 100, 60), "ant")])
    save_xml(tmp_path, "two", [])
    dataset, val = load_voc(tmp_path)
    assert val is None
    assert dataset.classes == ("ant", "cat")
    np.testing.assert_array_equal(dataset.boxes[0], [[0, 0, 1, 1], [10, 20, 100, 60]])
    assert dataset.labels[0].tolist() == [1, 0]
    assert (len(dataset.boxes[1]), dataset.skipped, dataset.clipped) == (0, (), 0)


def test_boxes_that_count_from_0(tmp_path):
    save_xml(tmp_path, "one", [voc_object((0, 0, 1, 2))])
    dataset, _ = load_voc(tmp_path, first_pixel=0)
    np.testing.assert_array_equal(dataset.boxes[0], [[0, 0, 1, 2]])


def test_difficult_objects_are_crowds_and_parts_are_left_out(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>5</xmin></bndbox></part>"
    save_xml(
        tmp_path,
        "one",
        [voc_object((1, 1, 5, 5), difficult=1), voc_object((1, 1, 9, 9), more=part)],
    )
    dataset, _ = load_voc(tmp_path)
    assert dataset.crowd[0].tolist() == [True, False]
    np.testing.assert_array_equal(dataset.boxes[0], [[0, 0, 5, 5], [0, 0, 9, 9]])


def test_the_parts_have_the_same_classes(tmp_path):
    save_xml(tmp_path, "b", [voc_object((1, 1, 5, 5), "cat")])
    save_xml(tmp_path, "a", [voc_object((1, 1, 5, 5), "ant")])
    save_xml(tmp_path, "c", [voc_object((1, 1, 5, 5), "dog")])
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "b\n\n")
    write(tmp_path / "ImageSets" / "Main" / "val.txt", "c\na 1\n")
    write(tmp_path / "ImageSets" / "Main" / "cat_train.txt", "b 1\n")
    train, val = load_voc(tmp_path)
    assert train.classes == val.classes == ("ant", "cat", "dog")
    assert [part.tolist() for part in (*train.labels, *val.labels)] == [[1], [2], [0]]
    write(tmp_path / "ImageSets" / "Main" / "val.txt", "c\n../x\n")
    with pytest.raises(DatasetError, match=r"val\.txt: line 2 has '\.\./x'"):
        load_voc(tmp_path)


def test_xml_files_may_be_beside_the_images(tmp_path):
    save_xml(tmp_path, "one", [voc_object((1, 1, 5, 5))], folders=False, file_name="one.tif")
    dataset, _ = load_voc(tmp_path)
    assert dataset.images == [str(tmp_path / "one.jpg")]


def test_wrong_boxes_are_named_with_their_line(tmp_path):
    objects = [
        voc_object((10, 10, 4, 20)),
        voc_object((300, 10, 310, 20)),
        voc_object(("nan", 1, 5, 5)),
        voc_object(("x", 1, 5, 5)),
        voc_object((1, 1, 5, 5), name=""),
        "<object><name>cat</name></object>",
        voc_object((1, 1, 5, 5), "catt"),
        voc_object((-4, 1, 105, 5)),
    ]
    path = save_xml(tmp_path, "one", objects)
    dataset, _ = load_voc(tmp_path, ["dog", "cat"])
    np.testing.assert_array_equal(dataset.boxes[0], [[0, 0, 100, 5]])
    assert (dataset.clipped, dataset.labels[0].tolist()) == (1, [1])
    reasons = ["width -5", "100x60", "not finite", "could not", "a name", "bndbox", "'catt'"]
    assert len(dataset.skipped) == len(reasons)
    for line, (message, reason) in enumerate(zip(dataset.skipped, reasons, strict=True), 3):
        assert message.startswith(f"{path}: line {line}: ")
        assert reason in message


@pytest.mark.parametrize("size", [None, (0, 0), ("x", 5), ("9" * 5000, 5)])
def test_sizes_that_are_not_given_are_read(tmp_path, size):
    save_xml(tmp_path, "one", [voc_object((91, 51, 200, 200))], size=size)
    dataset, _ = load_voc(tmp_path)
    np.testing.assert_array_equal(dataset.boxes[0], [[90, 50, 100, 60]])


BOMB = """<?xml version="1.0"?>
<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&b;</filename></annotation>"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "line 2 declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "line 1 declares"),
        ("<annotation>\n<object>\n</annotation>", "line 3 is no XML"),
        ("", "no XML"),
        ("a,b\n", "line 1 is no XML"),
        ('<?xml version="1.0" encoding="no-such"?><annotation/>', "no XML"),
        ("\n<html/>", "line 2 begins <html>"),
        ("<annotation>&a;</annotation>", "no XML"),
    ],
)
def test_what_is_no_such_xml_is_refused(tmp_path, text, message):
    path = save_xml(tmp_path, "one", [])
    write(path, text)
    with pytest.raises(DatasetError, match=message) as raised:
        load_voc(tmp_path)
    assert str(path) in str(raised.value)


def test_deep_xml_is_read(tmp_path):
    deep = "<part>" * 5000 + "</part>" * 5000
    save_xml(tmp_path, "one", [voc_object((1, 1, 5, 5), more=deep)])
    assert len(load_voc(tmp_path)[0].boxes[0]) == 1


def test_missing_images_and_other_layouts_are_named(tmp_path):
    with pytest.raises(DatasetError, match="has no XML files"):
        load_voc(tmp_path)
    save_xml(tmp_path, "one", [voc_object((1, 1, 5, 5))], file_name="../../etc/passwd")
    assert len(load_voc(tmp_path)[0]) == 1  # found by the name of the XML file
    (tmp_path / "JPEGImages" / "one.jpg").unlink()
    with pytest.raises(DatasetError, match="1 images that do not exist"):
        load_voc(tmp_path)
