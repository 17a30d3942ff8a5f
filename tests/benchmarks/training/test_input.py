"""The benchmark of the input: photos, both sides' batches, and which batches are timed."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.training import input as input_
from benchmarks.training.photos import find_photos, write_photos

CASE = input_.Case((500, 375), jitter=0.4, batches=2, workers=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), CASE.photos, 36)


def test_photos_are_like_those_of_imagenet(photos):
    assert find_photos(Path(photos[0]).parent, CASE.photos) == photos
    sizes = []
    for path in photos:
        with Image.open(path) as photo:
            sizes.append(photo.size)
    assert (sizes.count((500, 375)), sizes.count((375, 500))) == (27, 9)
    bytes_each = [Path(path).stat().st_size for path in photos]
    assert 80_000 < np.mean(bytes_each) < 140_000  # ImageNet's have about 110,000
    assert len({Path(path).read_bytes() for path in photos}) == len(photos)


def check_batches(batches, axis):
    """Two batches of photos that are cropped and coloured anew each time."""
    first, second = (np.moveaxis(np.asarray(each), axis, -1) for each in batches)
    assert first.shape == second.shape == (CASE.batch, input_.SIZE, input_.SIZE, 3)
    assert first.dtype == second.dtype == np.uint8
    both = np.concatenate([first, second])
    assert len(np.unique(both, axis=0)) == len(both)  # of 36 photos
    assert both.std() > 20


def test_our_batches(photos):
    batches = input_.load_ours(CASE._replace(workers=0), photos)
    check_batches(itertools.islice(batches, 2), axis=-1)
    batches.close()


@pytest.mark.peer
def test_pytorch_s_batches(photos):
    batches = input_.load_torch(CASE._replace(workers=0), photos)
    check_batches(itertools.islice(batches, 2), axis=1)


def test_a_photo_that_cannot_be_read_is_no_figure(tmp_path):
    path = tmp_path / "bad.jpg"
    path.write_bytes(b"no photo")
    with pytest.raises(AssertionError, match=r"bad\.jpg"):
        next(input_.load_ours(CASE._replace(workers=0), [str(path)]))


def test_batches_that_are_ready_are_not_timed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def batches():
        for number in itertools.count():
            now[0] += 100.0 if number % 16 < input_.READY_BATCHES else 3.0
            yield number

    iterator = batches()
    seconds = [input_.time_batches(iterator, 16 - input_.READY_BATCHES) for _ in range(2)]
    assert seconds == [3.0, 3.0]
