"""Batches: which images they have, in any number of workers and parts."""

import dataclasses
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from zoo.data.dataset import Dataset
from zoo.data.pipeline import Batch, count_workers, load_batches
from zoo.data.sources import as_dataset
from zoo.inference.images import ImageError, load_image

pytest.importorskip("grain", reason="the extra `train` installs it")

SHAPE = (4, 4, 1)


@dataclasses.dataclass(frozen=True)
class Noisy:
    """The image's number beside a drawn one, so that both are seen in a batch."""

    broken: tuple[int, ...] = ()

    def __call__(self, image, random):
        number = int(image[0, 0, 0])
        if number in self.broken:
            raise ImageError("it is broken")
        drawn = np.full(SHAPE, random.integers(256), np.uint8)
        drawn[0] = number
        return drawn


def load_photo(image, random):
    return np.asarray(load_image(image))


def numbered(count, **options):
    images = (
        np.zeros((count, *SHAPE), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    )
    return Dataset(images=images, labels=np.arange(count) % 3, classes=("a", "b", "c"), **options)


def take(count, dataset, batch_size, transform=None, **options):
    """The first batches of training, or all of an evaluation."""
    batches = load_batches(dataset, transform or Noisy(), batch_size, SHAPE, **options)
    try:
        return [batch for batch, _ in zip(batches, range(count), strict=False)]
    finally:
        batches.close()


def assert_same(got, want):
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        for field in Batch._fields:
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field), field)


def black_out(batch):
    """The batch without what is in place of images that there are not."""
    return batch._replace(images=batch.images * batch.read.reshape(-1, 1, 1, 1))


def test_an_epoch_has_each_image_once_and_the_next_one_in_another_order():
    batches = take(8, numbered(16), 4, seed=1)
    epochs = [np.concatenate([b.indices for b in batches[k : k + 4]]) for k in (0, 4)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(16))
    assert not np.array_equal(*epochs)
    assert not np.array_equal(epochs[0], np.arange(16))
    for batch in batches:
        np.testing.assert_array_equal(batch.images[:, 0, 0, 0], batch.indices)
        np.testing.assert_array_equal(batch.labels, batch.indices % 3)
        np.testing.assert_array_equal(batch.weights, np.ones(4))
        assert batch.read.all()


def test_what_does_not_fill_a_batch_is_left_to_another_epoch():
    batches = take(8, numbered(10), 4, seed=1)
    for k in range(0, 8, 2):
        epoch = np.concatenate([batch.indices for batch in batches[k : k + 2]])
        assert len(set(epoch)) == 8
    assert {int(index) for batch in batches for index in batch.indices} == set(range(10))


def test_the_seed_decides_the_order_and_what_is_drawn():
    one, again, other = (take(3, numbered(12), 4, seed=seed) for seed in (1, 1, 2))
    assert_same(one, again)
    assert not np.array_equal(one[0].indices, other[0].indices)
    drawn = [batch.images[:, 1, 0, 0] for batch in take(6, numbered(12), 12, seed=1)]
    assert len({array.tobytes() for array in drawn}) == 6


def test_later_batches_can_be_the_first():
    want = take(9, numbered(13), 4, seed=3)
    for first in (1, 3, 7):
        assert_same(take(9 - first, numbered(13), 4, seed=3, first=first), want[first:])


@pytest.mark.parametrize("seed", [None, 5])
def test_parts_of_a_batch_make_the_whole(seed):
    want = take(4, numbered(15), 6, seed=seed)
    parts = [take(4, numbered(15), 6, seed=seed, part=(k, 3)) for k in range(3)]
    for number, batch in enumerate(want):
        for k in range(3):
            want_part = Batch(*(field[2 * k : 2 * k + 2] for field in batch))
            # In place of padding each part has images of its own.
            assert_same([black_out(parts[k][number])], [black_out(want_part)])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(workers):
    dataset, transform = numbered(13), Noisy(broken=(4,))
    want = take(7, dataset, 4, transform, seed=3)
    assert_same(take(7, dataset, 4, transform, seed=3, workers=workers), want)
    assert_same(take(4, dataset, 4, transform, seed=3, first=3, workers=workers), want[3:])
    assert_same(take(9, dataset, 4, transform, workers=workers), take(9, dataset, 4, transform))


def test_an_evaluation_goes_once_through_the_images_in_order():
    batches = take(99, numbered(10), 4)
    np.testing.assert_array_equal(
        np.concatenate([b.indices for b in batches]), [*range(10), -1, -1]
    )
    last = batches[-1]
    np.testing.assert_array_equal(last.weights, [1, 1, 0, 0])
    np.testing.assert_array_equal(last.read, [True, True, False, False])
    assert last.errors == ()
    assert last.images.shape == (4, *SHAPE)


def test_weights_are_those_of_the_data_set():
    weights = np.linspace(0.5, 2, 8)
    for batch in take(2, numbered(8, weights=weights), 4, seed=0):
        np.testing.assert_allclose(batch.weights, weights[batch.indices])


def test_an_image_that_cannot_be_read_has_no_weight_and_is_named():
    batch = take(1, numbered(8), 8, Noisy(broken=(2, 5)))[0]
    np.testing.assert_array_equal(batch.read, [n not in (2, 5) for n in range(8)])
    np.testing.assert_array_equal(batch.weights, batch.read)
    assert batch.errors == ("image 2: it is broken", "image 5: it is broken")
    # In its place there is another image of the batch.
    assert set(batch.images[[2, 5], 0, 0, 0]) <= set(range(8)) - {2, 5}


def test_a_batch_without_readable_images_is_black():
    batch = take(1, numbered(2), 2, Noisy(broken=(0, 1)))[0]
    assert not batch.images.any()
    assert not batch.weights.any()
    assert len(batch.errors) == 2


def test_a_file_that_is_named_in_its_error_is_named_once(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no photo")
    dataset = Dataset(images=[str(path)], labels=np.zeros(1, int), classes=("a", "b"))
    (batch,) = take(1, dataset, 1, load_photo)
    assert batch.errors[0].count(str(path)) == 1


def test_an_item_that_cannot_be_read_is_named_without_being_read_again():
    class Photos:
        targets = (0, 1)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            if index:
                raise OSError("damaged")
            return np.zeros(SHAPE, np.uint8) + index, 0

    dataset = as_dataset(Photos())
    assert [dataset.name_of(index) for index in range(2)] == ["image 0", "image 1"]
    (batch,) = take(1, dataset, 2)
    assert batch.errors == ("image 1: item 1 cannot be read: damaged",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": (0, 3)}, "batch_size must be a multiple of the 3 parts, got 4"),
        ({"seed": 0}, "batch_size must be at most 2, all images, got 4"),
    ],
)
def test_batches_that_there_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        take(1, numbered(2), 4, **options)


def test_other_errors_are_raised():
    def fail(image, random):
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        take(1, numbered(2), 2, fail)


def test_arrays_need_no_workers(tmp_path):
    assert count_workers(numbered(3)) == 0
    paths = Dataset(images=["a.jpg", "b.jpg"], labels=np.arange(2), classes=("a", "b"))
    assert count_workers(paths) >= 1


@pytest.mark.slow
def test_a_script_that_does_not_guard_its_calls_is_told_so(tmp_path, root):
    """Its workers would start workers in turn; however large the data set, none is waited for."""
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import numpy as np
            from zoo.data.dataset import Dataset
            from zoo.data.pipeline import load_batches

            def load(image, random):
                return np.zeros((4, 4, 1), np.uint8)

            images = np.zeros((99, 64, 64, 1), np.uint8)
            dataset = Dataset(images=images, labels=np.zeros(99, int), classes=("a", "b"))
            next(load_batches(dataset, load, 4, (4, 4, 1), workers=2))
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode != 0
    assert "put the calls of the script under" in done.stderr
