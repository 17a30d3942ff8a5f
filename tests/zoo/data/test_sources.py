"""Data sets of other libraries."""

import io

import numpy as np
import pytest
from PIL import Image

from zoo.data import Dataset, DatasetError, as_dataset, load
from zoo.inference.images import ImageError, load_image

PHOTOS = np.random.default_rng(0).integers(0, 256, (6, 10, 12, 3), np.uint8)
LABELS = [2, 0, 1, 1, 0, 2]


class Indexable:
    """Gives (image, label), and records what is asked for."""

    def __init__(self, **attributes):
        self.given, self.asked = LABELS, []
        vars(self).update(attributes)

    def __len__(self):
        return len(self.given)

    def __getitem__(self, index):
        self.asked.append(index)
        return PHOTOS[index], self.given[index]


def check(dataset, classes=("class 0", "class 1", "class 2")):
    assert dataset.classes == classes
    assert dataset.labels.tolist() == LABELS
    for image, photo in zip(dataset.images, PHOTOS, strict=True):
        np.testing.assert_array_equal(image, photo)
    assert dataset[3].label == 1


@pytest.mark.parametrize(
    "source",
    [
        list(zip(PHOTOS, LABELS, strict=True)),
        [{"image": p, "label": np.int64(n)} for p, n in zip(PHOTOS, LABELS, strict=True)],
        [{"img": p, "label": n, "id": 7} for p, n in zip(PHOTOS, LABELS, strict=True)],
        (PHOTOS, np.array(LABELS)),
        (PHOTOS, LABELS),
        (list(PHOTOS), np.array(LABELS, np.uint8)),
        (PHOTOS.transpose(0, 3, 1, 2), np.array(LABELS)),
        [(p.transpose(2, 0, 1), n) for p, n in zip(PHOTOS, LABELS, strict=True)],
        Indexable(),
    ],
)  # fmt: skip
def test_reads_pairs_of_any_form(source):
    check(as_dataset(source))


def test_reads_an_iterable_once():
    check(as_dataset(pair for pair in zip(PHOTOS, LABELS, strict=True)))


def test_reads_arrays_where_a_source_can_give_them():
    """As of tf.data, whose tensors are on a device."""

    class Tensors:
        def __iter__(self):
            raise AssertionError("its tensors are not asked for")

        def as_numpy_iterator(self):
            return zip(PHOTOS, LABELS, strict=True)

    check(as_dataset(Tensors()))


def test_a_dataset_stays_as_it_is():
    dataset = Dataset(images=list(PHOTOS), labels=np.array(LABELS), classes=("a", "b", "c"))
    assert as_dataset(dataset) is dataset
    assert as_dataset(dataset, ["x", "y", "z"]).classes == ("x", "y", "z")


@pytest.mark.parametrize("name", ["targets", "labels"])
def test_listed_labels_leave_images_unread(name):
    source = Indexable(**{name: LABELS, "classes": ["a", "b", "c"]})
    dataset = as_dataset(source)
    assert source.asked == [0]
    assert dataset.classes == ("a", "b", "c")
    assert dataset.labels.tolist() == LABELS
    np.testing.assert_array_equal(dataset.images[4], PHOTOS[4])
    np.testing.assert_array_equal(dataset.images.select(np.array([5, 3]))[1], PHOTOS[3])
    assert source.asked == [0, 4, 3]
    assert {type(index) for index in source.asked} == {int}


def test_a_split_reads_no_image():
    source = Indexable(targets=LABELS)
    for part in load(source, validation=0.5):
        assert sorted(part.labels) == [0, 1, 2]
        assert len(part.images) == 3
    assert source.asked == [0]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"targets": [[1, 2], [3]] * 3},  # boxes, of which each image has some
        {"targets": LABELS[:-1]},
        {"targets": [8] * 6},  # what it gives is another label
        {"targets": LABELS, "target_transform": abs},
    ],
)
def test_labels_that_are_not_listed_are_read(attributes):
    source = Indexable(**attributes)
    check(as_dataset(source))
    assert set(range(6)) <= set(source.asked[:7])  # the first perhaps twice


def test_the_first_image_may_be_damaged_where_labels_are_listed():
    class Damaged(Indexable):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            if index < 2:
                raise OSError("truncated")
            return image, label

    dataset = as_dataset(Damaged(targets=LABELS))
    assert dataset.labels.tolist() == LABELS
    with pytest.raises(ImageError, match="item 1 cannot be read: truncated"):
        dataset.images[1]
    with pytest.raises(ImageError, match="item 0 cannot be read: truncated"):
        as_dataset(Damaged())  # of which no label is known


def test_labels_may_be_names():
    names = ["cat 10", "ant", "cat 9", "cat 9", "ant", "cat 10"]
    assert as_dataset((PHOTOS, names)).classes == ("ant", "cat 9", "cat 10")
    assert as_dataset((PHOTOS, np.array(names))).labels.tolist() == [2, 0, 1, 1, 0, 2]
    given = as_dataset((PHOTOS, names), ["cat 10", "cat 9", "ant", "dog"])
    assert given.labels.tolist() == [0, 2, 1, 1, 2, 0]
    assert len(given.classes) == 4
    with pytest.raises(DatasetError, match="labels are none of the classes: 'ant'"):
        as_dataset((PHOTOS, names), ["cat 9", "cat 10"])


def test_images_that_are_no_arrays_stay_as_they_are(tmp_path):
    photo = Image.fromarray(PHOTOS[0])
    encoded = io.BytesIO()
    photo.save(encoded, "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(encoded.getvalue())
    images = [photo, encoded.getvalue(), path, str(path), np.str_(path)]
    dataset = as_dataset(list(zip(images, [0, 1, 0, 1, 0], strict=True)))
    assert all(got is want for got, want in zip(dataset.images, images, strict=True))
    for image in dataset.images:
        np.testing.assert_array_equal(load_image(image), PHOTOS[0])


def test_grey_images_and_bands_keep_their_channels():
    for shape in ((6, 10, 12), (6, 10, 12, 1), (6, 9, 12, 7), (6, 8, 8, 8)):
        dataset = as_dataset((np.zeros(shape, np.uint8), LABELS))
        assert np.shape(dataset.images[0]) == shape[1:]
    assert np.shape(as_dataset([(np.zeros((5, 10, 12)), 0)]).images[0]) == (10, 12, 5)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (7, "indexable or iterable, and gives .* got int"),
        ([], "the list gives no items"),
        (iter([]), "gives no items"),
        (["a.jpg"], r"item 0 is a str, expected a pair \(image, label\)"),
        ([(PHOTOS[0], 1, 2)], "item 0 is a tuple, expected a pair"),
        ([{"pixels": 0, "label": 1}], "item 0 has 'pixels', 'label', expected 'image' and 'label'"),
        ({"a": 1}, r"the dict has no item 0: KeyError\(0\); expected"),
        ([(PHOTOS[0], 1), (PHOTOS[1], np.array([0, 1]))], r"label of item 1 is an array \(2,\)"),
        ([(PHOTOS[0], 0.5)], "label of item 0 is 0.5, expected the number of a class, or its name"),
        ([(PHOTOS[0], 0), (PHOTOS[1], "a")], "label of item 1 is 'a', expected the number"),
        ([(PHOTOS, np.array(LABELS))], r"item 0 is of shape \(6, 10, 12, 3\), a batch; give"),
        (iter([[PHOTOS, np.array(LABELS)]]), "a batch; give the data set without batches"),
        ([(PHOTOS[0] - 1.5, 0)], "from -1.5 to 254, expected 0 to 1, or uint8 .*leave out Norm"),
        ((PHOTOS.astype(np.float32), LABELS), "the array of images is float32 from 0 to 255, ex"),
        ([(PHOTOS[0], -1)], "labels must be from 0 to"),
    ],
)  # fmt: skip
def test_says_what_is_no_data_set(source, match):
    with pytest.raises(DatasetError, match=match):
        as_dataset(source)


def test_a_photo_that_cannot_be_read_is_named_as_a_file_s_is():
    class Damaged(Indexable):
        def __getitem__(self, index):
            if index == 3:
                raise OSError("image file is truncated")
            return super().__getitem__(index)

    dataset = as_dataset(Damaged(targets=LABELS))
    with pytest.raises(ImageError, match="item 3 cannot be read: image file is truncated"):
        dataset.images[3]


def test_grain():
    import grain

    class Source(Indexable, grain.sources.RandomAccessDataSource):
        pass

    check(as_dataset(Source()))
    mapped = grain.MapDataset.source(Source()).map(lambda pair: (pair[0][::-1], pair[1]))
    np.testing.assert_array_equal(as_dataset(mapped).images[1], PHOTOS[1][::-1])
    check(as_dataset(grain.MapDataset.source(Source()).to_iter_dataset()))
    with pytest.raises(DatasetError, match=r"repeats without end; leave out \.repeat\(\)"):
        as_dataset(grain.MapDataset.source(Source()).repeat())
    batched = grain.MapDataset.source(Source()).batch(2)
    with pytest.raises(DatasetError, match="a batch"):
        as_dataset(batched)


@pytest.mark.peer
def test_pytorch():
    import torch

    class Tensors(torch.utils.data.Dataset, Indexable):
        """As torchvision's data sets with ToTensor: channels first, floating point from 0 to 1."""

        def __getitem__(self, index):
            image, label = Indexable.__getitem__(self, index)
            return torch.from_numpy(image).permute(2, 0, 1) / 255, torch.tensor(label)

    source = Tensors(targets=torch.tensor(LABELS), classes=["a", "b", "c"])
    dataset = as_dataset(source)
    assert source.asked == [0]
    assert (dataset.labels.tolist(), dataset.classes) == (LABELS, ("a", "b", "c"))
    np.testing.assert_allclose(dataset.images[2], PHOTOS[2] / np.float32(255), rtol=1e-6)
    np.testing.assert_array_equal(load_image(dataset.images[2]), PHOTOS[2])
    source.asked.clear()
    part = as_dataset(torch.utils.data.Subset(source, [4, 2]))
    assert source.asked == [4]
    assert (part.labels.tolist(), part.classes) == ([0, 1], ("a", "b", "c"))
    np.testing.assert_array_equal(load_image(part.images[1]), PHOTOS[2])
    with pytest.raises(DatasetError, match=r"a batch; .* the dataset of a DataLoader"):
        as_dataset(torch.utils.data.DataLoader(source, batch_size=2))
    pair = torch.from_numpy(PHOTOS).permute(0, 3, 1, 2), torch.tensor(LABELS)
    check(as_dataset(pair))
    tensors = torch.utils.data.TensorDataset(torch.from_numpy(PHOTOS), torch.tensor(LABELS))
    check(as_dataset(tensors))


def test_tf_data():
    """Of the extra `peers` Keras alone is there; this runs where somebody has TensorFlow."""
    tf = pytest.importorskip("tensorflow")
    source = tf.data.Dataset.from_tensor_slices((PHOTOS, LABELS))
    check(as_dataset(source))
    with pytest.raises(DatasetError, match="a batch"):
        as_dataset(source.batch(2))
