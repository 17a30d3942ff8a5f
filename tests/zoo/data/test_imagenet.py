"""ImageNet's layouts."""

import numpy as np
import pytest

from tests.zoo.data.trees import save
from zoo.data import DatasetError, load
from zoo.data.imagenet import load_imagenet, load_imagenet_validation
from zoo.data.load import load_evaluation
from zoo_pretrained import catalogue

LABELS = catalogue.labels("imagenet1k")
# The class numbers of six validation images, and their ILSVRC2012_IDs in an order of its own.
NUMBERS = [3, 0, 999, 3, 134, 517]
IDS = {number: 1000 - index for index, number in enumerate(dict.fromkeys(NUMBERS))}


def save_synsets(folder, numbers=range(1000)):
    for number in numbers:
        place = folder / LABELS[number].synset
        place.mkdir(parents=True)
        (place / f"{LABELS[number].synset}_1.JPEG").touch()
    return folder


@pytest.fixture
def flat(tmp_path):
    """A folder of six validation images by their numbers."""
    for number in range(1, 7):
        save(tmp_path / f"val/ILSVRC2012_val_{number:08}.JPEG", number)
    return tmp_path


def check(dataset):
    assert dataset.labels.tolist() == NUMBERS
    assert dataset.classes == tuple(label.name for label in LABELS)
    assert str(dataset.images[2]).endswith("ILSVRC2012_val_00000003.JPEG")


def write_devkit(folder):
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{IDS[number]}\n" for number in NUMBERS]
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(lines))
    rows = [(IDS[number], LABELS[number].synset, "words") for number in IDS]
    rows.append((1001, "n00001740", "no leaf"))
    dtype = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object)]
    savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype)})


@pytest.mark.parametrize(
    "place", ["ILSVRC2012_devkit_t12/data", "devkit/data", "val/devkit/data", ""]
)
def test_the_devkit_gives_labels_by_ids_that_are_in_no_order(flat, place):
    write_devkit(flat / place)
    check(load_imagenet_validation(flat, partial=True))


def test_kaggle_gives_labels_in_any_order(flat):
    place = flat / "ILSVRC/Data/CLS-LOC"
    place.mkdir(parents=True)
    (flat / "val").rename(place / "val")
    rows = [
        f"ILSVRC2012_val_{number:08},{LABELS[label].synset} 1 2 3 4 n00000000 5 6 7 8 "
        for number, label in enumerate(NUMBERS, start=1)
    ]
    text = "\n".join(["ImageId,PredictionString", *reversed(rows)])
    (flat / "LOC_val_solution.csv").write_text(text)
    check(load_imagenet_validation(flat, partial=True))


@pytest.mark.parametrize("below", ["", "val"])
def test_a_list_gives_labels_by_line(flat, below):
    lines = "\n".join(LABELS[number].synset for number in NUMBERS)
    (flat / "synset_labels.txt").write_text(lines)
    check(load_imagenet_validation(flat / below, partial=True))


def test_folders_named_by_synsets(tmp_path):
    save_synsets(tmp_path / "train")
    save_synsets(tmp_path / "val")
    train, val = load("imagenet", tmp_path)
    np.testing.assert_array_equal(train.labels, np.arange(1000))
    assert train.classes[134] == "crane (bird)"
    assert str(val.images[3]).split("/")[-3:-1] == ["val", LABELS[3].synset]
    assert len(load_evaluation("ImageNet", tmp_path / "val")) == 1000


def test_a_part_of_the_classes_must_be_asked_for(tmp_path):
    save_synsets(tmp_path / "train", [5, 2])
    save_synsets(tmp_path / "val", [2, 5])
    with pytest.raises(DatasetError, match=r"/train has no images of 998 of .*: 'n01440764', 'n01"):
        load_imagenet(tmp_path)
    with pytest.raises(DatasetError, match=r"/val has no images of 998"):
        load_evaluation("imagenet", tmp_path)
    train, val = load_imagenet(tmp_path, partial=True)
    assert train.labels.tolist() == val.labels.tolist() == [2, 5]
    assert len(train.classes) == 1000


def test_says_what_is_missing(flat, tmp_path):
    with pytest.raises(DatasetError, match=r"has no train/nXXXXXXXX/\*\.JPEG"):
        load("imagenet", flat)
    with pytest.raises(
        DatasetError, match=r"no labels for the images in .*/val: put ILSVRC2012_de"
    ):
        load_imagenet_validation(flat)
    (flat / "synset_labels.txt").write_text("\n".join(["n01440764"] * 5))
    with pytest.raises(DatasetError, match=r"labels of the images in .*/val lack 6"):
        load_imagenet_validation(flat)
    (flat / "synset_labels.txt").write_text("n01440764\ntench\n")
    with pytest.raises(
        DatasetError, match=r"synset_labels.txt holds no labels .*'tench' is no syn"
    ):
        load_imagenet_validation(flat)
    save(flat / "val/cat.jpg")
    with pytest.raises(
        DatasetError, match=r"neither folders named by synsets.* nor images named IL"
    ):
        load_imagenet_validation(flat)
    with pytest.raises(DatasetError, match="imagenet needs folder"):
        load("imagenet")
    save_synsets(tmp_path / "other/val", [3])
    save(tmp_path / "other/val/cat/1.png")
    with pytest.raises(DatasetError, match=r"none of ImageNet's 1,000 synsets, .*: 'cat'"):
        load_imagenet_validation(tmp_path / "other")


def test_a_damaged_devkit_is_named(flat):
    write_devkit(flat / "devkit/data")
    (flat / "devkit/data/meta.mat").write_bytes(b"no such file of MATLAB" * 20)
    with pytest.raises(DatasetError, match=r"ground_truth.txt holds no labels of ImageNet"):
        load_imagenet_validation(flat)
