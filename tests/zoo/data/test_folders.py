"""A folder for each class."""

import os

import numpy as np
import pytest

from tests.zoo.data.trees import names_of, save, save_all
from zoo.data import DatasetError
from zoo.data.files import list_images
from zoo.data.folders import load_folder
from zoo.inference.images import find_photos


def test_reads_train_and_val(tmp_path):
    save_all(tmp_path, "train/cat/1.png", "train/dog/1.png", "train/dog/2.jpg", "val/cat/3.png")
    save(tmp_path / "val/dog/deep/er/4.PNG")
    train, val = load_folder(tmp_path)
    assert train.classes == val.classes == ("cat", "dog")
    assert names_of(train, tmp_path) == [
        ("train/cat/1.png", "cat"), ("train/dog/1.png", "dog"), ("train/dog/2.jpg", "dog")
    ]  # fmt: skip
    assert names_of(val, tmp_path) == [("val/cat/3.png", "cat"), ("val/dog/deep/er/4.PNG", "dog")]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test", "Valid"])
def test_validation_has_several_names(tmp_path, name):
    save_all(tmp_path, "Train/a/1.png", "Train/b/2.png", f"{name}/a/3.png", f"{name}/b/4.png")
    train, val = load_folder(tmp_path)
    assert (len(train), len(val)) == (2, 2)


def test_val_comes_before_test(tmp_path):
    parts = [f"{part}/{name}/1.png" for part in ("train", "test", "val") for name in "ab"]
    _, val = load_folder(save_all(tmp_path, *parts))
    assert names_of(val, tmp_path) == [("val/a/1.png", "a"), ("val/b/1.png", "b")]


def test_classes_are_in_natural_order_and_arrays_are_images(tmp_path):
    save_all(tmp_path, "class 10/1.png", "class 2/1.npy", "class 2/2.png", "notes.png")
    train, val = load_folder(tmp_path)
    assert val is None
    assert train.classes == ("class 2", "class 10")
    assert names_of(train, tmp_path) == [
        ("class 2/1.npy", "class 2"), ("class 2/2.png", "class 2"), ("class 10/1.png", "class 10")
    ]  # fmt: skip


def test_a_class_may_be_called_train(tmp_path):
    train, val = load_folder(save_all(tmp_path, "train/1.png", "bus/1.png", "test/1.png"))
    assert train.classes == ("bus", "test", "train")
    assert val is None


def test_train_alone_has_no_validation(tmp_path):
    train, val = load_folder(save_all(tmp_path, "train/a/1.png", "train/b/1.png", "docs/page.png"))
    assert train.classes == ("a", "b")
    assert val is None


def test_lists_what_find_photos_finds(tmp_path):
    save_all(tmp_path / "in", "b/1.png", "a.jpg", ".hidden.png", ".hidden/2.png", "c/._3.png")
    (tmp_path / "in/notes.txt").write_text("no photo")
    os.mkfifo(tmp_path / "in/pipe.png")
    save(tmp_path / "elsewhere/4.png")
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/linked.png").symlink_to(tmp_path / "elsewhere/4.png")
    (tmp_path / "in/broken.png").symlink_to(tmp_path / "nowhere.png")
    found = list_images(str(tmp_path / "in"))
    assert found == [str(path) for path in sorted(find_photos([tmp_path / "in"]), key=str)]
    assert len(found) == 5
    assert list_images(str(tmp_path / "in"), below=False) == [
        str(tmp_path / "in" / name) for name in ("a.jpg", "broken.png", "linked.png")
    ]


@pytest.mark.parametrize(
    ("files", "match"),
    [
        (["1.png", "2.png"], r"has images, but no folders of classes; expected .*/CLASS/photo.jpg"),
        (["train/1.png", "val/2.png"], r"/train has images, but no folders of classes; expected"),
        ([], "has no folders of classes; expected"),
        (["a/notes.txt", "b/notes.txt"], "no images in .*, whose folders are 'a', 'b'; expected"),
        (["a/1.png", "b/notes.txt", "c/notes.txt"], "has no images of 'b', 'c'; put images there"),
        (["val/a/1.png", "test/a/1.png"], "has 'test', 'val', but no train folder; give the path"),
        (["train/a/1.png", "val/a/1.png", "val/b/1.png"], "/train lacks 'b' of the classes in "),
        (["train/a/1.png", "train/b/1.png", "val/b/1.png"], "/val lacks 'a' of the classes in "),
        (["train/a/1.png", "train/b/1.png", "val/b/1.png", "val/a/x.txt"], "no images of 'a'"),
    ],
)  # fmt: skip
def test_says_what_is_wrong_with_the_layout(tmp_path, files, match):
    for number, name in enumerate(files):
        save(tmp_path / name, number)
    with pytest.raises(DatasetError, match=match):
        load_folder(tmp_path)


def test_says_what_is_no_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"/none does not exist; a folder"):
        load_folder(tmp_path / "none")
    with pytest.raises(DatasetError, match=r"1\.png is a file; a folder"):
        load_folder(save(tmp_path / "1.png"))
    with pytest.raises(DatasetError, match=r"cannot be read: .*null"):
        load_folder("a\0b")
    with pytest.raises(DatasetError, match="no home folder is known"):
        load_folder("~nobody-has-this-name/photos")


def test_says_which_folder_may_not_be_read(tmp_path, monkeypatch):
    """Root may read any, so that it is the system's answer that is replaced."""
    save_all(tmp_path, "a/1.png", "b/deep/1.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DatasetError, match="b/deep cannot be read: Permission denied"):
        load_folder(tmp_path)


def test_a_pattern_tells_groups_below_the_folder_of_the_class(tmp_path):
    save_all(tmp_path, "a/patient1_x.png", "a/patient1/y.png", "b/patient2.png", "b/patient1.png")
    train, _ = load_folder(tmp_path, group=r"(patient\d+)")
    names = [str(image).removeprefix(f"{tmp_path}/") for image in train.images]
    assert dict(zip(names, train.columns["group"].tolist(), strict=True)) == {
        "a/patient1_x.png": "patient1",
        "a/patient1/y.png": "patient1",
        "b/patient2.png": "patient2",
        "b/patient1.png": "patient1",
    }
    with pytest.raises(DatasetError, match=r"'\(x\)' is not found in 'patient1/y\.png'"):
        load_folder(tmp_path, group="(x)")
    with pytest.raises(DatasetError, match=r"one part in parentheses.* with 0"):
        load_folder(tmp_path, group="patient")
    with pytest.raises(DatasetError, match=r"must be a regular expression, got '\('"):
        load_folder(tmp_path, group="(")


def test_groups_are_guessed_from_near_identical_names(tmp_path):
    names = [f"{c}/patient{p}_{view}.png" for c in "ab" for p in range(4) for view in range(2)]
    train, _ = load_folder(save_all(tmp_path, *names))
    patients = [str(image).rpartition("/")[2].partition("_")[0] for image in train.images]
    together = np.equal.outer(train.columns["group"], train.columns["group"])
    np.testing.assert_array_equal(together, np.equal.outer(patients, patients))
