"""What belongs together."""

import numpy as np
import pytest

from tests.zoo.data.trees import save
from zoo.data.groups import find_copies, guess_groups, join_groups


def partition(groups):
    """The groups as a set of sets of positions, whatever they are called."""
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)}


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["p1_1.png", "p1_2.png", "p2_1.png"], {(0, 1), (2,)}),
        (["p1/left/1.png", "p1/right/1.png", "p2/1.png"], {(0, 1), (2,)}),
        (["s12-003.png", "s12 4.png", "s13.4.png"], {(0, 1), (2,)}),
        (["cat.1.jpg", "cat.2.jpg", "cat.3.jpg"], None),
        (["0001.png", "0002.png", "0003.png"], None),
        # What begins all names is no group: here the synset, and the year.
        ([f"n01440764_{n}.JPEG" for n in range(10)], None),
        ([f"2007_{n:06}.jpg" for n in range(10)] + [f"2008_{n}.jpg" for n in range(10)], None),
        # Unique numbers, behind which others follow.
        ([f"{n}_e6dd915111.jpg" for n in range(10)], None),
    ],
)
def test_guesses_groups(names, groups):
    found = guess_groups(names, np.zeros(len(names), int))
    assert groups == (
        None if found is None else {tuple(sorted(group)) for group in partition(found)}
    )


def test_groups_are_believed_only_if_each_class_has_enough_of_them():
    names = [f"p{n // 2}_{n}.png" for n in range(20)]
    assert guess_groups(names, np.repeat([0, 1], 10)) is not None
    prefixed = names[:10] + [f"dog1_{n}.png" for n in range(10)]
    assert guess_groups(prefixed, np.repeat([0, 1], 10)) is None


def test_a_patient_in_two_classes_is_one_group():
    found = guess_groups(["p1_1.png", "p2_1.png", "p1_2.png", "p3_1.png"], np.array([0, 0, 1, 1]))
    assert partition(found) == {frozenset({0, 2}), frozenset({1}), frozenset({3})}


def test_finds_copies_by_their_bytes(tmp_path):
    photo = save(tmp_path / "a.png").read_bytes()
    long = bytes(20_000)
    contents = [photo, long, photo, long[:-1] + b"x", b"x" + long[1:], long, b"", b"", photo[:-1]]
    paths = []
    for number, content in enumerate(contents):
        paths.append(tmp_path / f"{number}")
        paths[-1].write_bytes(content)
    want = {(0, 2), (1, 5), (3,), (4,), (6, 7), (8,), (9,), (10,)}
    paths += [tmp_path / "missing", tmp_path / "missing too"]
    assert {tuple(sorted(group)) for group in partition(find_copies(paths))} == want


def test_opens_only_files_of_one_size(tmp_path, monkeypatch):
    for number in range(4):
        (tmp_path / f"{number}").write_bytes(bytes(number))
    monkeypatch.setattr("pathlib.Path.open", None)
    assert len(set(find_copies([tmp_path / f"{number}" for number in range(4)]))) == 4


def test_joins_groups_that_are_linked_over_several():
    one = np.array(["a", "a", "b", "b", "c", "d"])
    other = np.array([0, 1, 1, 2, 2, 3])
    assert partition(join_groups(one, other)) == {frozenset({0, 1, 2, 3, 4}), frozenset({5})}
    assert len(join_groups(one[:0], other[:0])) == 0
