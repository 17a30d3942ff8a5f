"""The generated set, tiles of large photos, and the photos of trees."""

import importlib.util

import numpy as np
import pytest

from zoo.data.dataset import DatasetError
from zoo.detection.data import trees
from zoo.detection.data.dataset import DetectionDataset
from zoo.detection.data.shapes import make_shapes
from zoo.detection.data.tiles import cut_tiles
from zoo.runtime.checks import ArgumentError


def test_shapes_are_where_their_boxes_are():
    """On a white background nothing else has colour."""
    white = np.full((200, 300, 3), 255, np.uint8)
    dataset = make_shapes(30, size=64, photos=[white])
    for image, boxes, labels, *_ in map(dataset.__getitem__, range(30)):
        assert image.shape == (64, 64, 3)
        assert 1 <= len(boxes) == len(labels)
        colored = (image < 250).any(axis=2)
        inside = np.zeros((64, 64), bool)
        for x1, y1, x2, y2 in boxes.astype(int):
            # A quarter of a square's turn, or a star, fills less than half of its box.
            assert colored[y1:y2, x1:x2].mean() > 0.2
            for edge in (colored[y1, x1:x2], colored[y2 - 1, x1:x2]):
                assert edge.any()
            for edge in (colored[y1:y2, x1], colored[y1:y2, x2 - 1]):
                assert edge.any()
            # Pixels that a shape covers by less than a half are outside of its box.
            inside[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = True
        assert not colored[~inside].any()


def test_shapes_depend_on_seed_and_number_alone(examples):
    photos = [examples / "cat.jpg", examples / "rocket.jpg"]
    few, more, other = (make_shapes(n, seed=s, photos=photos) for n, s in ((3, 1), (5, 1), (3, 2)))
    for index in range(3):
        np.testing.assert_array_equal(few.images[index], more.images[index])
        np.testing.assert_array_equal(few.boxes[index], more.boxes[index])
        assert not np.array_equal(few.images[index], other.images[index])


def test_shapes_are_of_all_classes_and_sizes():
    dataset = make_shapes(200, size=48)
    assert dataset.classes == ("circle", "square", "triangle", "star")
    counts = dataset.count_boxes()
    assert counts.min() > 0.7 * counts.mean()
    widths = np.concatenate([part[:, 2] - part[:, 0] for part in dataset.boxes])
    assert widths.min() < 8
    assert widths.max() > 16
    with pytest.raises(ArgumentError, match="count"):
        make_shapes(0)
    with pytest.raises(ArgumentError, match="size"):
        make_shapes(1, size=8)


def test_tiles_cover_the_image_and_their_boxes():
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    boxes = [[0, 0, 10, 10], [20, 5, 40, 15], [29, 0, 60, 2], [69, 49, 70, 50]]
    dataset = DetectionDataset(
        images=[image], boxes=[boxes], labels=[[0, 1, 0, 1]], classes=("a", "b")
    )
    tiles = cut_tiles(dataset, 30)
    corners = [(x, y) for y in (0, 20) for x in (0, 30, 40)]
    assert len(tiles) == 6
    for tile, (x, y) in zip(tiles.images, corners, strict=True):
        np.testing.assert_array_equal(tile, image[y : y + 30, x : x + 30])
    np.testing.assert_array_equal(tiles.boxes[0], [[0, 0, 10, 10], [20, 5, 30, 15]])
    assert tiles.areas[0].tolist() == [100, 100]
    np.testing.assert_array_equal(tiles.boxes[1], [[0, 5, 10, 15], [0, 0, 30, 2]])
    assert [part.tolist() for part in tiles.labels] == [[0, 1], [1, 0], [0], [], [], [1]]
    np.testing.assert_array_equal(tiles.boxes[5], [[29, 29, 30, 30]])


def test_tiles_of_small_images_and_of_overlap():
    image = np.zeros((20, 64, 3), np.uint8)
    dataset = DetectionDataset(images=[image], boxes=[[]], labels=[[]], classes=("a",))
    assert [tile.shape for tile in cut_tiles(dataset, 64).images] == [(20, 64, 3)]
    assert [tile.shape[1] for tile in cut_tiles(dataset, 32, overlap=16).images] == [32, 32, 32]
    with pytest.raises(ArgumentError, match="overlap"):
        cut_tiles(dataset, 32, overlap=32)


@pytest.mark.skipif(
    importlib.util.find_spec("deepforest") is None,
    reason="deepforest ships these photos; it asks for PyTorch, so that it is in no extra",
)
def test_the_photos_of_trees():
    train, val = trees.load_trees(size=400)
    assert train.classes == val.classes == ("tree",)
    whole = trees.load_trees(size=4000)
    assert [int(part.count_boxes()[0]) for part in whole] == [672, 279]
    assert [len(part) for part in whole] == [3, 1]
    assert not train.clipped
    assert {tile.shape for tile in train.images} == {(400, 400, 3)}


def test_where_the_photos_of_trees_are_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(DatasetError, match="pip install --no-deps deepforest"):
        trees.load_trees()
    with pytest.raises(DatasetError, match="has no XML files"):
        trees.load_trees(tmp_path)
