"""YOLO's annotations."""

import numpy as np
import pytest

from tests.zoo.detection.data.trees_of_files import save_labels, save_photo, write
from zoo.data.dataset import DatasetError
from zoo.detection.data.yolo import load_yolo

BOX = "1 0.5 0.5 0.2 0.5"  # of 100 x 60 pixels: 40 to 60, 15 to 45
PIXELS = [[40, 15, 60, 45]]


def test_boxes_are_shares_of_the_image(tmp_path):
    write(tmp_path / "classes.txt", "cat\ndog\n")
    save_labels(tmp_path, "a.jpg", [BOX, "", "0 0.005 0.5 0.01 1"])
    save_photo(tmp_path / "images" / "b.jpg")
    dataset, val = load_yolo(tmp_path)
    assert val is None
    assert dataset.classes == ("cat", "dog")
    np.testing.assert_allclose(dataset.boxes[0], [*PIXELS, [0, 0, 1, 60]], atol=1e-5)
    assert [part.tolist() for part in dataset.labels] == [[1, 0], []]
    assert (dataset.skipped, dataset.clipped) == ((), 0)


def test_shares_are_of_the_upright_image(tmp_path):
    """A photo of 60 x 100 pixels that is to be turned by 90° (EXIF's 6)."""
    write(tmp_path / "classes.txt", "cat\ndog\n")
    save_labels(tmp_path, "a.jpg", [BOX], size=(60, 100), orientation=6)
    np.testing.assert_allclose(load_yolo(tmp_path)[0].boxes[0], PIXELS, atol=1e-5)


@pytest.mark.parametrize("names", ["[cat, dog]", "\n  0: cat\n  1: dog", "{1: dog, 0: cat}"])
@pytest.mark.parametrize(
    ("pattern", "values"),
    [
        ("{}/images", ("../train/images", "../valid/images")),
        ("images/{}", ("images/train", "./images/valid")),
        ("images/{}", None),
        ("{}/images", None),
    ],
)
def test_parts_are_where_data_yaml_says(tmp_path, names, pattern, values):
    keys = "" if values is None else f"train: {values[0]}\nval: {values[1]}\n"
    write(tmp_path / "data.yaml", f"path: /somewhere/else\n{keys}names: {names}\n")
    for part in ("train", "valid"):
        image = f"{pattern.format(part)}/{part}.jpg"
        save_photo(tmp_path / image)
        write(tmp_path / image.replace("images", "labels").replace("jpg", "txt"), BOX)
    train, val = load_yolo(tmp_path)
    assert [name.rpartition("/")[2] for name in (*train.images, *val.images)] == [
        "train.jpg",
        "valid.jpg",
    ]
    assert train.classes == val.classes == ("cat", "dog")
    np.testing.assert_allclose([*train.boxes, *val.boxes], [PIXELS, PIXELS], atol=1e-5)


def test_labels_may_be_beside_the_images(tmp_path):
    write(tmp_path / "classes.txt", "cat\ndog\n")
    save_photo(tmp_path / "a.jpg")
    write(tmp_path / "a.txt", BOX)
    dataset, _ = load_yolo(tmp_path)
    assert (len(dataset.boxes[0]), dataset.skipped) == (1, ())


def test_wrong_lines_are_named(tmp_path):
    write(tmp_path / "classes.txt", "cat\ndog\n")
    lines = [
        BOX,
        "2 0.5 0.5 0.2 0.2",
        "0.5 0.5 0.5 0.2 0.2",
        "-1 0.5 0.5 0.2 0.2",
        "1 0.5 0.5 0 0.2",
        "1 0.5 0.5 -0.1 0.2",
        "1 nan 0.5 0.1 0.2",
        "1 1.5 0.5 0.1 0.2",
        "1 0.5 0.5 0.1",
        "cat 0.5 0.5 0.1 0.1",
        "1 1.0 0.5 0.2 0.5",
    ]
    path = save_labels(tmp_path, "a.jpg", lines)
    dataset, _ = load_yolo(tmp_path)
    np.testing.assert_allclose(dataset.boxes[0], [*PIXELS, [90, 15, 100, 45]], atol=1e-5)
    assert dataset.clipped == 1
    reasons = 3 * ["unknown"] + 2 * ["above 0"] + ["not finite", "no area inside", *2 * ["no box"]]
    assert len(dataset.skipped) == len(reasons)
    for line, (message, reason) in enumerate(zip(dataset.skipped, reasons, strict=True), 2):
        assert message.startswith(f"{path}: line {line}: ")
        assert reason in message


def test_photos_that_cannot_be_read_and_labels_without_one_are_named(tmp_path):
    write(tmp_path / "classes.txt", "cat\ndog\n")
    save_labels(tmp_path, "a.jpg", [BOX])
    damaged = write(tmp_path / "images" / "b.jpg", "no photo")
    alone = write(tmp_path / "labels" / "c.txt", BOX)
    dataset, _ = load_yolo(tmp_path)
    assert len(dataset) == 1
    assert [str(damaged) in dataset.skipped[0], str(alone) in dataset.skipped[1]] == [True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [cat\ntrain: {", "line 2 is no YAML"),
        ("- a", "no entries"),
        ("", "no entries"),
        ("names: 3", "no names"),
        ("names: {1: cat, 2: dog}", "no names"),
        ("names: [cat]\ntrain: ../outside", "stay inside"),
        ("names: [cat]\ntrain: ../../outside", "stay inside"),
        ("names: [cat]\ntrain: /etc", "stay inside"),
        ("names: [cat]\ntrain: nowhere", "does not exist"),
        ("names: [cat]\ntrain: [a, b]", "one folder"),
        ("names: !!python/object/apply:os.system ['true']", "no YAML"),
        ("a: " + "[" * 5000, "YAML"),
    ],
)
def test_settings_that_cannot_be_used_are_named(tmp_path, text, message):
    folder = tmp_path / "set"
    save_photo(tmp_path / "outside" / "a.jpg")
    save_labels(folder, "a.jpg", [BOX])
    write(folder / "data.yaml", text)
    with pytest.raises(DatasetError, match=message) as raised:
        load_yolo(folder)
    assert str(folder) in str(raised.value)


def test_a_folder_without_names_is_refused(tmp_path):
    save_labels(tmp_path, "a.jpg", [BOX])
    with pytest.raises(DatasetError, match=r"neither data\.yaml nor classes\.txt"):
        load_yolo(tmp_path)
    write(tmp_path / "classes.txt", "cat\ndog\n")
    (tmp_path / "labels" / "a.txt").write_bytes(b"1 0.5\n\xff")
    with pytest.raises(DatasetError, match=r"a\.txt: line 2 is no text"):
        load_yolo(tmp_path)
