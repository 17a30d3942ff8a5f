"""Images in training: what is drawn, and what an image may become."""

import concurrent.futures

import numpy as np
import pytest

from zoo.data import augment
from zoo.data.augment import ASPECT, ERASED, Augmentation, CenterCrop
from zoo.inference.preprocessing import Preprocessing

pytest.importorskip("albumentations", reason="the extra `train` installs it")

SIZE = 24
PLAIN = Preprocessing(SIZE, 28, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
CHANNELS = (1, 3, 5)
EVERYTHING = {
    "crop_scale": 0.3,
    "flip": 0.5,
    "rotate": 20.0,
    "color_jitter": 0.4,
    "randaugment": 2,
    "erasing": 0.5,
}


def pixels(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def changed(image, seed=0, channels=3, **options):
    return Augmentation(preprocessing=PLAIN.for_channels(channels), **options)(
        image, generator(seed)
    )


@pytest.mark.parametrize("channels", CHANNELS)
def test_a_center_crop_is_what_the_model_s_preprocessing_makes(channels):
    preprocessing = PLAIN.for_channels(channels)
    image = pixels(40, 61, channels)
    crop = CenterCrop(preprocessing)(image)
    assert crop.dtype == np.uint8
    assert crop.shape == (SIZE, SIZE, channels)
    np.testing.assert_array_equal(preprocessing.normalize(crop[None]), preprocessing(image))


def test_a_center_crop_of_a_photo(examples, lite):
    preprocessing = lite.info.preprocessing
    crop = CenterCrop(preprocessing)(examples / "cat.jpg")
    np.testing.assert_array_equal(
        preprocessing.normalize(crop[None]), lite.preprocess(examples / "cat.jpg")
    )


@pytest.mark.parametrize("channels", CHANNELS)
def test_where_nothing_is_asked_for_the_crop_is_the_model_s(channels, monkeypatch):
    monkeypatch.delattr(augment, "require")  # albumentations is not needed
    augmentation = Augmentation(preprocessing=PLAIN.for_channels(channels))
    image = pixels(30, 50, channels)
    want = CenterCrop(augmentation.preprocessing)(image)
    np.testing.assert_array_equal(augmentation(image, generator(0)), want)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", [(8, 8), (40, 9), (64, 80)])
def test_whatever_an_image_becomes_it_has_the_size_of_the_model(size, channels):
    image = pixels(*size, channels)
    for seed in range(10):
        got = changed(image, seed, channels, **EVERYTHING)
        assert got.shape == (SIZE, SIZE, channels)
        assert got.dtype == np.uint8


@pytest.mark.parametrize("channels", CHANNELS)
def test_the_generator_alone_decides(channels):
    image = pixels(50, 40, channels)
    want = [changed(image, seed, channels, **EVERYTHING) for seed in range(6)]
    assert any(not np.array_equal(want[0], other) for other in want[1:])
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        seeds = [*reversed(range(6)), *range(6)]
        got = threads.map(lambda seed: changed(image, seed, channels, **EVERYTHING), seeds)
    for seed, array in zip(seeds, got, strict=True):
        np.testing.assert_array_equal(array, want[seed])


def test_a_photo_in_any_mode_is_augmented(examples):
    got = [changed(examples / "cat.jpg", channels=count, **EVERYTHING) for count in (1, 3)]
    assert [array.shape[-1] for array in got] == [1, 3]


def test_flips_are_as_frequent_as_asked_for():
    image = pixels(SIZE, SIZE, 3)
    flat = Preprocessing(SIZE, SIZE, "bilinear", (0.5,) * 3, (0.5,) * 3)
    flips = 0
    for seed in range(400):
        got = Augmentation(preprocessing=flat, flip=0.3)(image, generator(seed))
        flips += np.array_equal(got, image[:, ::-1])
        assert np.array_equal(got, image) or np.array_equal(got, image[:, ::-1])
    assert flips == pytest.approx(120, abs=5 * (400 * 0.3 * 0.7) ** 0.5)


def test_erasing_does_not_depend_on_flipping():
    """Half of the images are mirrored, and half of these are erased."""
    image = pixels(SIZE, SIZE, 3)
    flat = Preprocessing(SIZE, SIZE, "bilinear", (0.5,) * 3, (0.5,) * 3)
    both = Augmentation(preprocessing=flat, flip=0.5, erasing=0.5)
    counts = {(flipped, erased): 0 for flipped in (False, True) for erased in (False, True)}
    for seed in range(400):
        got = both(image, generator(seed))
        same = [(got == source).all(axis=-1).mean() for source in (image, image[:, ::-1])]
        counts[same[1] > same[0], max(same) < 1] += 1
    assert all(count == pytest.approx(100, abs=5 * 75**0.5) for count in counts.values()), counts


def test_crops_have_the_shares_and_the_aspects_that_they_may_have():
    """The image's pixels are their coordinates, which tell what part was cropped."""
    rows, columns = np.mgrid[0:256, 0:256].astype(np.uint8)
    image = np.stack([rows, columns, 0 * rows], axis=-1)
    areas = []
    for seed in range(100):
        got = changed(image, seed, crop_scale=0.25).astype(float)
        height, width = (np.ptp(got[..., axis]) * SIZE / (SIZE - 1) for axis in (0, 1))
        areas.append(height * width / 256**2)
        # The edges are known to a few pixels.
        assert 0.9 * ASPECT[0] < width / height < 1.1 * ASPECT[1]
    assert 0.2 < min(areas) < 0.4
    assert 0.8 < max(areas) < 1.05
    assert np.mean(areas) == pytest.approx(0.6, abs=0.1)


def test_rotations_stay_below_the_largest_angle():
    """Of a bright right half, the edge's direction tells the angle."""
    image = np.zeros((SIZE, SIZE, 1), np.uint8)
    image[:, SIZE // 2 :] = 255
    flat = Preprocessing(SIZE, SIZE, "bilinear", (0.5,), (0.5,), "grey")
    angles = []
    for seed in range(60):
        got = Augmentation(preprocessing=flat, rotate=20.0)(image, generator(seed)) / 255
        top, bottom = (got[row, SIZE // 4 : -SIZE // 4, 0].sum() for row in (8, -9))
        angles.append(np.degrees(np.arctan((top - bottom) / (SIZE - 17))))
    assert max(angles) < 22
    assert min(angles) > -22
    assert max(angles) - min(angles) > 20


@pytest.mark.parametrize("channels", CHANNELS)
def test_a_rectangle_is_erased(channels):
    image = np.full((SIZE, SIZE, channels), 77, np.uint8)
    flat = Preprocessing(SIZE, SIZE, "bilinear", (0.5,) * 3, (0.5,) * 3).for_channels(channels)
    shares = []
    for seed in range(50):
        got = Augmentation(preprocessing=flat, erasing=1.0)(image, generator(seed))
        erased = (got != image).any(axis=-1)
        box = np.ix_(erased.any(axis=1), erased.any(axis=0))
        # Each pixel is drawn, and some are as they were.
        assert erased[box].mean() > 0.9
        assert len(np.unique(got[erased])) > 3
        shares.append(erased[box].size / SIZE**2)
    low, high = ERASED
    assert 0.5 * low < min(shares) < max(shares) < 1.2 * high


@pytest.mark.parametrize("channels", CHANNELS)
def test_jitter_changes_brightness_by_no_more_than_its_share(channels):
    image = np.full((SIZE, SIZE, channels), 100, np.uint8)
    means = [changed(image, seed, channels, color_jitter=0.2).mean() for seed in range(60)]
    assert 78 <= min(means) < 90
    assert 110 < max(means) <= 122


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("magnitude", [0, 5, 10])
def test_operations_of_randaugment_run_at_each_magnitude(magnitude, channels):
    import albumentations

    image = pixels(SIZE, SIZE, channels)
    operations = augment._randaugment_operations(albumentations, magnitude / 10, channels)
    assert len(operations) == {1: 12, 3: 14, 5: 7}[channels]
    for operation in operations:
        got = operation(image=image)["image"].reshape(SIZE, SIZE, -1)
        assert got.shape == image.shape
        assert got.dtype == np.uint8
        if magnitude == 0 and type(operation).__name__ not in ("AutoContrast", "Equalize"):
            error = np.abs(got.astype(int) - image)
            assert error.max() <= 1, operation


@pytest.mark.parametrize("channels", CHANNELS)
def test_randaugment_draws_as_many_operations_as_asked_for(channels):
    image = pixels(SIZE, SIZE, channels)
    options = {"randaugment": 8, "randaugment_magnitude": 3.0}
    images = [changed(image, seed, channels, **options) for seed in range(20)]
    assert len({array.tobytes() for array in images}) > 15
