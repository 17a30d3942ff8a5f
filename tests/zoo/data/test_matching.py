"""Which of a model's classes are meant."""

import numpy as np
import pytest

from zoo.data import Dataset, DatasetError
from zoo.data.matching import match_classes, relabel
from zoo.inference.trained import make_labels
from zoo_pretrained import catalogue

IMAGENET = catalogue.labels("imagenet1k")


def find(classes, labels):
    return match_classes(classes, labels).indices.tolist()


def test_every_synset_and_every_name_of_imagenet_finds_its_logit():
    assert find([label.synset for label in IMAGENET], IMAGENET) == list(range(1000))
    assert find([label.name for label in IMAGENET], IMAGENET) == list(range(1000))
    match = match_classes([label.name.upper().replace(" ", "_") for label in IMAGENET], IMAGENET)
    # Of a dog and of a jacket.
    assert match.ambiguous == {"CARDIGAN": ("Cardigan (n02113186)", "cardigan (n02963159)")}
    assert [n for n, index in enumerate(match.indices) if index != n] == [264, 474]


def test_spelling_does_not_matter():
    labels = make_labels(["Golden retriever", "hot-dog", "T-shirt/top"], 3)
    classes = ["HOT_DOG", "hotdog", "hot dog", "golden-retriever", "GoldenRetriever", "t shirt/top"]
    assert find(classes, labels) == [1, 1, 1, 0, 0, 2]


def test_spelling_matters_where_it_tells_names_apart():
    labels = make_labels(["Cat", "cat", "dog"], 3)
    match = match_classes(["cat", "Cat", "CAT", "dog"], labels)
    assert match.indices.tolist() == [1, 0, -1, 2]
    assert match.ambiguous == {"CAT": ("Cat (logit 0)", "cat (logit 1)")}


def test_a_synset_may_stand_before_a_name():
    assert find(["n02099601-golden_retriever", "n01440764"], IMAGENET) == [207, 0]
    match = match_classes(["n02099601x", "n00000001-tench", "tench"], IMAGENET)
    assert match.unmatched == ("n02099601x", "n00000001-tench")


def test_words_in_parentheses_tell_two_classes_apart():
    match = match_classes(["crane", "crane (machine)", "Crane_(bird)", "tench"], IMAGENET)
    assert match.indices.tolist() == [-1, 517, 134, 0]
    assert match.ambiguous == {"crane": ("crane (bird) (n02012849)", "crane (machine) (n03126707)")}
    assert match.describe() == (
        "'crane' may be crane (bird) (n02012849) or crane (machine) (n03126707)"
    )
    assert find(["crane", "dog"], make_labels(["crane (bird)", "dog"], 2)) == [0, 1]


def test_two_labels_of_one_name_are_ambiguous_but_for_their_synsets():
    labels = make_labels([["n03710637", "maillot"], ["n03710721", "maillot"], ["", "cat"]], 3)
    match = match_classes(["maillot", "n03710721", "cat"], labels)
    assert match.indices.tolist() == [-1, 1, 2]
    assert match.ambiguous == {"maillot": ("maillot (n03710637)", "maillot (n03710721)")}


def test_numbers_are_names_where_labels_are_numbered():
    numbered = make_labels(None, 12)
    assert find(["class 3", "Class_11", "class-0", "7"], numbered) == [3, 11, 0, 7]
    assert find(["10", "2"], make_labels(["2", "10"], 2)) == [1, 0]
    with pytest.raises(DatasetError, match="none of the classes"):
        match_classes(["3", "class 4"], IMAGENET)


def test_the_order_of_the_classes_tells_nothing():
    with pytest.raises(DatasetError, match=r"none of the classes is one of the model's: the model "
                       r"has no class 'katze', 'hund'; the model's are 'cat', 'dog'"):  # fmt: skip
        match_classes(["katze", "hund"], make_labels(["cat", "dog"], 2))


def test_relabels_and_leaves_out_what_the_model_does_not_know():
    dataset = Dataset(
        images=list("abcdef"),
        labels=np.array([0, 1, 2, 2, 1, 0]),
        classes=("dog", "unicorn", "cat"),
        columns={"group": np.arange(6)},
    )
    labels = make_labels(["cat", "cow", "dog"], 3)
    relabelled, match = relabel(dataset, labels)
    assert relabelled.images == ["a", "c", "d", "f"]
    assert relabelled.labels.tolist() == [2, 0, 0, 2]
    assert relabelled.classes == ("cat", "cow", "dog")
    assert relabelled.columns["group"].tolist() == [0, 2, 3, 5]
    assert match.describe() == "the model has no class 'unicorn'"
    with pytest.raises(DatasetError, match=r"no image of a class that the model has; .*'unicorn'"):
        relabel(dataset.select([1, 4]), labels)
    everything, match = relabel(dataset.select([0, 2]), labels)
    assert len(everything) == 2
    assert match_classes(["dog"], labels).describe() == ""
