"""Data sets of any kind in two parts."""

import dataclasses

import numpy as np
import pytest

from tests.zoo.data.trees import names_of, save, save_all
from zoo.data import Dataset, DatasetError, load
from zoo.data.load import hold_out, load_evaluation

PHOTOS = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)
LABELS = np.repeat([0, 1], 5)


@pytest.fixture
def folder(tmp_path):
    """Ten photos of each of two classes."""
    return save_all(tmp_path / "photos", *(f"{c}/{c}{n}.png" for c in "ab" for n in range(10)))


def test_holds_out_a_fifth_of_each_class(folder):
    train, val = load(folder)
    assert train.count_classes().tolist() == [8, 8]
    assert val.count_classes().tolist() == [2, 2]
    assert not set(train.images) & set(val.images)
    assert load(str(folder)).val.images == val.images
    assert load(folder, seed=1).val.images != val.images
    assert len(load(folder, validation=0.5).val) == 10
    assert load(folder, validation=0).val is None
    assert len(load(folder, validation=0).train) == 20


def test_a_part_for_validation_is_taken_whatever_the_fraction(folder, tmp_path):
    folder.rename(tmp_path / "train")
    save_all(tmp_path, "val/a/x.png", "val/b/y.png")
    train, val = load(tmp_path)
    assert (len(train), len(val)) == (20, 2)
    train, val = load(tmp_path, validation=0.1)
    assert (len(train), len(val)) == (20, 2)
    assert len(load(tmp_path, validation=0).val) == 2


def test_copies_stay_together(tmp_path):
    save_all(tmp_path, *(f"{c}/{n}.png" for c in "ab" for n in "tuvwxyz"))
    for label in "ab":
        for number in range(4):
            for name in "tuvwxyz":
                photo = (tmp_path / label / f"{name}.png").read_bytes()
                (tmp_path / label / f"{name} copy {'i' * number}.png").write_bytes(photo)
    for seed in range(5):
        sides = [
            {str(image)[:-4].partition(" copy")[0] for image in part.images}
            for part in load(tmp_path, validation=0.4, seed=seed)
        ]
        assert not sides[0] & sides[1]
        assert len(sides[0] | sides[1]) == 14


def test_groups_stay_together_whether_given_guessed_or_by_copies(tmp_path):
    names = [f"{c}/patient{p}_{view}.png" for c in "ab" for p in range(8) for view in range(3)]
    save_all(tmp_path, *names)
    # A photo of one patient is also called another's, so that both are linked.
    copy = (tmp_path / "a/patient1_0.png").read_bytes()
    (tmp_path / "a/patient2_9.png").write_bytes(copy)
    for group in (None, r"(patient\d+)"):
        for seed in range(5):
            sides = [
                {image.rpartition("/")[2].partition("_")[0] for image in part.images}
                for part in load(tmp_path, seed=seed, group=group)
            ]
            assert not sides[0] & sides[1]
            assert len({"patient1", "patient2"} & sides[0]) in (0, 2)


def test_the_columns_stay_as_they_were(tmp_path):
    save_all(tmp_path, *(f"{c}/p{n}-x.png" for c in "ab" for n in range(6)))
    train, val = load(tmp_path, group=r"(p\d)")
    assert set(train.columns) == {"group"}
    assert {*train.columns["group"], *val.columns["group"]} == {f"p{n}" for n in range(6)}


def test_reads_a_table(folder):
    lines = ["file,label", *(f"{c}/{c}{n}.png,{c}" for c in "ab" for n in range(10))]
    (folder / "table.csv").write_text("\n".join(lines))
    train, val = load(folder / "table.csv")
    assert (len(train), len(val)) == (16, 4)


def test_digits():
    sklearn = pytest.importorskip("sklearn.datasets", reason="it comes with the extra train")
    train, val = load("digits")
    assert len(train) + len(val) == 1797
    assert np.all(np.abs(val.count_classes() - np.bincount(sklearn.load_digits().target) / 5) < 1)
    assert train.classes == tuple("0123456789")
    everything = load("Digits", validation=0).train
    digits = sklearn.load_digits()
    np.testing.assert_array_equal(everything.labels, digits.target)
    assert everything.images.shape == (1797, 8, 8, 1)
    assert everything.images.dtype == np.uint8
    np.testing.assert_allclose(everything.images[..., 0] / 255, digits.images / 16, atol=0.5 / 255)
    with pytest.raises(DatasetError, match="folder cannot be used here: the digits come with"):
        load("digits", "/tmp")


def test_takes_what_as_dataset_takes():
    train, val = load((PHOTOS, LABELS))
    assert (len(train), len(val)) == (8, 2)
    assert isinstance(train.images, np.ndarray)
    assert len(load(list(zip(PHOTOS, LABELS, strict=True))).val) == 2


def test_a_pair_has_the_classes_of_its_first_part(folder, tmp_path):
    save_all(tmp_path / "other", "b/1.png", "b/2.png")
    train, val = load((folder, tmp_path / "other"))
    assert (train.classes, val.classes) == (("a", "b"), ("a", "b"))
    assert val.labels.tolist() == [1, 1]
    train, val = load(((PHOTOS, LABELS), (PHOTOS[:2], LABELS[:2])))
    assert (len(train), len(val)) == (10, 2)
    assert val.classes == ("class 0", "class 1")
    with pytest.raises(
        DatasetError, match="val has 'a', which are none of the classes of train: 'b'"
    ):
        load((tmp_path / "other", folder))
    save_all(tmp_path / "whole", *(f"{part}/{c}/1.png" for part in ("train", "val") for c in "ab"))
    with pytest.raises(DatasetError, match=r"each must be one part, .*give the path of its train"):
        load((tmp_path / "whole", folder))


def test_evaluation_takes_the_part_for_validation_or_all(folder, tmp_path):
    assert len(load_evaluation(folder)) == 20
    folder.rename(tmp_path / "train")
    save_all(tmp_path, "val/a/x.png", "val/b/y.png")
    assert [name for name, _ in names_of(load_evaluation(tmp_path), tmp_path)] == [
        "val/a/x.png", "val/b/y.png"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "options", "match"),
    [
        ("cifar11", {}, "no data set 'cifar11'; did you mean cifar10 .*Known are digits, "),
        ("my photos", {}, "no data set 'my photos'. Known are .* the path of a folder or of a CSV"),
        ("some/where", {}, "some/where does not exist; a folder of images is needed"),
        ("some.csv", {}, r"some\.csv cannot be read: No such file"),
        ((PHOTOS, LABELS), {"validation": 1}, "validation must be from 0 to below 1, got 1"),
        ((PHOTOS, LABELS), {"group": "(a)"}, "group cannot be used here: .*columns"),
        ("digits", {"group": "(a)"}, "group cannot be used here: it goes with a folder or a CSV"),
        ((PHOTOS, LABELS), {"folder": "/tmp"}, "folder cannot be used here: it goes with the name"),
        ("mura", {}, "mura needs folder"),
        ((PHOTOS, 0 * LABELS), {}, "one class only, 'class 0'"),
        ((PHOTOS[:6], LABELS[:6]), {}, "class 'class 1' has too few images"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(source, options, match):
    with pytest.raises(DatasetError, match=match):
        load(source, **options)


def test_says_that_a_photo_is_no_data_set(tmp_path):
    with pytest.raises(DatasetError, match=r"1\.png is no data set: expected a folder, or a file"):
        load(save(tmp_path / "1.png"))


def test_one_class_is_named(tmp_path):
    save_all(tmp_path, "cat/1.png", "cat/2.png")
    with pytest.raises(DatasetError, match="one class only, 'cat'; to tell classes apart"):
        load(tmp_path)
    assert len(load_evaluation(tmp_path)) == 2


def test_hold_out_keeps_weights_and_order():
    dataset = Dataset(images=PHOTOS, labels=LABELS, classes=("a", "b"), weights=np.arange(10.0))
    rest, held_out = hold_out(dataset, 0.4, seed=3)
    for part in (rest, held_out):
        np.testing.assert_array_equal(part.images, PHOTOS[part.weights.astype(int)])
        assert np.all(np.diff(part.weights) > 0)
    assert sorted([*rest.weights, *held_out.weights]) == list(range(10))
    grouped = dataclasses.replace(dataset, columns={"group": np.arange(10) // 2 % 5})
    for part in hold_out(grouped, 0.4):
        assert np.all(np.bincount(part.columns["group"]) % 2 == 0)
