"""MURA's archive: its files, labels, patients and weights."""

import errno
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.zoo.data.mura_tree import generate
from zoo.data.dataset import DatasetError
from zoo.data.mura import load_mura

PIXELS = Image.new("L", (10, 10))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("drawn"), patients=20, parts=("ELBOW", "HAND"))


@pytest.fixture
def archive(drawn, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(drawn, tmp_path / "MURA-v1.1")


def make(folder, *studies, split="train", images=1):
    """Adds studies with empty images to a tree without CSV files."""
    for study in studies:
        path = folder / split / study
        path.mkdir(parents=True)
        for number in range(images):
            PIXELS.save(path / f"image{number + 1}.png")


def remove_listings(archive):
    for file in archive.glob("*.csv"):
        file.unlink()


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_reads_what_the_archive_holds(drawn):
    datasets = load_mura(drawn)
    for split, dataset in zip(("train", "valid"), datasets, strict=True):
        files = sorted((drawn / split).glob("*/*/*/*.png"))
        assert [*dataset.images] == files
        assert dataset.classes == ("negative", "positive")
        assert dataset.labels.tolist() == [file.parent.name.endswith("positive") for file in files]
        assert dataset.columns["group"].tolist() == [file.parts[-3] for file in files]
        assert dataset.columns["part"].tolist() == [file.parts[-4][3:].lower() for file in files]
        assert dataset.columns["study"].tolist() == ["/".join(file.parts[-4:-1]) for file in files]
    train, valid = datasets
    assert not {*train.columns["group"]} & {*valid.columns["group"]}
    assert (drawn / "train_image_paths.csv").read_text().count("\n") == len(train)


def test_the_tree_gives_what_the_lists_give(drawn, archive):
    remove_listings(archive)
    for listed, walked in zip(load_mura(drawn), load_mura(archive), strict=True):
        assert [path.relative_to(drawn) for path in listed.images] == [
            path.relative_to(archive) for path in walked.images
        ]
        np.testing.assert_array_equal(listed.labels, walked.labels)
        np.testing.assert_array_equal(listed.weights, walked.weights)


@pytest.mark.parametrize("convert", [str, lambda path: path])
def test_the_folder_may_be_the_parent_and_may_have_another_name(drawn, archive, convert):
    number = len(load_mura(drawn)[0])
    assert len(load_mura(convert(archive.parent))[0]) == number
    assert len(load_mura(convert(archive.rename(archive.parent / "renamed")))[0]) == number


def test_weighs_the_classes_of_each_body_part_by_the_other_ones_images(tmp_path):
    make(tmp_path, "XR_HAND/patient00001/study1_positive", images=3)
    make(tmp_path, "XR_HAND/patient00001/study2_negative", "XR_WRIST/patient00002/study1_positive")
    make(tmp_path, "XR_WRIST/patient00003/study1_negative", images=4)
    make(tmp_path, "XR_HAND/patient00011/study1_negative", split="valid", images=2)
    make(tmp_path, "XR_WRIST/patient00011/study2_positive", split="valid")
    train, valid = load_mura(tmp_path)
    # Abnormal and normal images: 3 and 1 of the hand, 1 and 4 of the wrist.
    assert train.weights.tolist() == [1 / 4] * 3 + [3 / 4] + [4 / 5] + [1 / 5] * 4
    assert valid.weights.tolist() == [3 / 4, 3 / 4, 4 / 5]


def test_both_classes_of_a_body_part_weigh_the_same_in_all(drawn):
    train, _ = load_mura(drawn)
    sums = defaultdict(float)
    for part, label, weight in zip(train.columns["part"], train.labels, train.weights, strict=True):
        sums[part, label] += weight
    for part in ("elbow", "hand"):
        assert sums[part, 0] == pytest.approx(sums[part, 1])


def test_reads_some_body_parts(drawn):
    both, hand = load_mura(drawn)[0], load_mura(drawn, parts=["hand"])[0]
    assert set(hand.columns["part"]) == {"hand"}
    assert len(hand) == (both.columns["part"] == "hand").sum()
    assert len(load_mura(drawn, parts="hand")[0]) == len(hand)
    for parts, got in ((["knee"], "'knee'"), ((), "none")):
        with pytest.raises(DatasetError, match=rf"parts must be some of elbow.*; got {got}"):
            load_mura(drawn, parts=parts)
    with pytest.raises(DatasetError, match="has no images of wrist, forearm"):
        load_mura(drawn, parts=["wrist", "forearm"])


@pytest.mark.parametrize("listed", [True, False])
def test_hidden_files_are_ignored(drawn, archive, listed):
    first = next(archive.glob("train/*/*/*/image1.png"))
    hidden = first.with_name("._image1.png")
    hidden.write_bytes(b"\0\5\x16\7")
    (archive / "train/.DS_Store").touch()
    (archive / "train/XR_HAND/Thumbs.db").touch()
    with (archive / "train_image_paths.csv").open("a") as file:
        file.write(f"MURA-v1.1/{hidden.relative_to(archive).as_posix()}\n")
    if not listed:
        remove_listings(archive)
    assert len(load_mura(archive)[0]) == len(load_mura(drawn)[0])


def test_lists_may_have_windows_line_ends_and_a_mark(drawn, archive):
    for file in archive.glob("*.csv"):
        file.write_text(file.read_text() + "\n", encoding="utf-8-sig", newline="\r\n")
    assert len(load_mura(archive)[0]) == len(load_mura(drawn)[0])


def test_a_patient_in_both_splits_is_refused(archive):
    remove_listings(archive)
    # The same patient with another body part.
    make(archive, "XR_ELBOW/patient00002/study9_negative", split="valid")
    with pytest.raises(DatasetError, match=r"patient00002 is in both train and valid of"):
        load_mura(archive)


def test_a_label_unlike_the_folders_name_is_refused(archive):
    file = archive / "valid_labeled_studies.csv"
    edit(file, "negative/,0", "negative/,1")
    with pytest.raises(
        DatasetError, match=r"line \d+ of .*valid_labeled.*gives XR_.*'1'.*must be 0"
    ):
        load_mura(archive)


def test_a_listed_image_that_is_missing_is_refused(archive):
    next(archive.glob("train/XR_HAND/*/*/image1.png")).unlink()
    with pytest.raises(DatasetError, match=r"image1\.png is missing, but train_image_paths\.csv"):
        load_mura(archive)
    assert len(load_mura(archive, parts=["elbow"])[0]) > 0


def test_lists_that_contradict_each_other_are_refused(archive):
    file = archive / "train_labeled_studies.csv"
    complete = file.read_text()
    file.write_text(complete.partition("\n")[2])
    with pytest.raises(DatasetError, match=r"train_labeled_studies\.csv has no label of XR_"):
        load_mura(archive)
    file.write_text(complete + "MURA-v1.1/train/XR_HAND/patient77777/study1_positive/,1\n")
    with pytest.raises(DatasetError, match=r"patient77777/study1_positive, which has no images"):
        load_mura(archive)
    file.write_text(complete)
    listing = archive / "train_image_paths.csv"
    listing.write_text(listing.read_text() + listing.read_text().split("\n")[0])
    with pytest.raises(DatasetError, match=r"lists XR_.*image1\.png twice"):
        load_mura(archive)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("path", r"line 1 of .* must begin with MURA-v1\.1/train/, got 'path'"),
        ("MURA-v1.1/train/XR_HAND/patient1/study1_positive/image1.png,1,2", "must begin with"),
        ("MURA-v1.1/train/XR_HAND/patient1/study1_unknown/image1.png", r"'XR_.*is not XR_PART/"),
        ("MURA-v1.1/train/XR_KNEE/patient1/study1_positive/image1.png", r"'XR_.*is not XR_PART/"),
        ("MURA-v1.1/train/XR_HAND/image1.png", r"is not XR_PART/"),
        ("a/b/train/XR_HAND/patient1/study1_positive/image1.png", "must begin with"),
    ],
)
def test_a_line_that_is_no_path_of_the_layout_is_refused(archive, line, message):
    listing = archive / "train_image_paths.csv"
    listing.write_text(f"{line}\n{listing.read_text()}")
    with pytest.raises(DatasetError, match=message):
        load_mura(archive)


def test_a_list_that_is_no_text_is_refused(archive):
    (archive / "train_image_paths.csv").write_bytes(b"\xff\xfe\0")
    with pytest.raises(DatasetError, match="is no CSV file in UTF-8"):
        load_mura(archive)


def test_a_folder_of_another_name_in_the_tree_is_refused(archive):
    remove_listings(archive)
    make(archive, "XR_HAND/patient00001/study7_maybe")
    with pytest.raises(DatasetError, match=r"study7_maybe/image1\.png' of .*train is not XR_PART"):
        load_mura(archive)


def test_folders_that_are_no_mura_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"has no folders train and valid, nor MURA-v1\.1"):
        load_mura(tmp_path)
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
    with pytest.raises(DatasetError, match=r"train has no images of elbow.*: XR_PART/"):
        load_mura(tmp_path)


def test_a_folder_that_may_not_be_read_is_named(archive, monkeypatch):
    remove_listings(archive)
    forbidden = archive / "train/XR_HAND"
    listed = Path.iterdir

    def iterdir(path):  # root, who may run the tests, could read any folder
        if path == forbidden:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DatasetError, match="XR_HAND cannot be read: Permission denied"):
        load_mura(archive)


def test_a_body_part_that_lacks_a_class_in_training_is_refused(tmp_path):
    make(tmp_path, "XR_HAND/patient00001/study1_positive", "XR_HAND/patient00001/study2_negative")
    make(tmp_path, "XR_WRIST/patient00011/study1_negative", split="valid")
    with pytest.raises(
        DatasetError, match=r"WRIST/.*image1\.png shows a body part without training"
    ):
        load_mura(tmp_path)
    make(tmp_path, "XR_WRIST/patient00002/study1_negative")
    with pytest.raises(DatasetError, match=r"training images of wrist are negative.*add positive"):
        load_mura(tmp_path)


def test_the_generated_set_repeats_and_is_like_mura(drawn, tmp_path):
    again = generate(tmp_path, patients=20, parts=("ELBOW", "HAND"))
    train, valid = load_mura(again)
    files = sorted(path.relative_to(drawn) for path in drawn.rglob("*.*"))
    assert files == sorted(path.relative_to(again) for path in again.rglob("*.*"))
    assert all(
        (drawn / file).is_dir() or (drawn / file).read_bytes() == (again / file).read_bytes()
        for file in files
    )
    sizes = set()
    for path in train.images:
        with Image.open(path) as image:
            assert image.mode == "L"
            sizes.add(image.size)
    assert len(sizes) > len(train) / 2
    for dataset in (train, valid):
        _, counts = np.unique(dataset.columns["study"], return_counts=True)
        assert set(counts) <= {1, 2, 3, 4}
        assert min(dataset.count_classes()) > 0
    labels = defaultdict(set)
    for patient, label in zip(train.columns["group"], train.labels, strict=True):
        labels[patient].add(label)
    assert {0, 1} in labels.values()
