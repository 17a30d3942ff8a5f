"""CIFAR's binary version, of copies and of a download from a server here."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from tests.pretrained.server import run_server
from zoo.data import DatasetError, cifar, load
from zoo.data.cifar import SETS, load_cifar
from zoo_pretrained import fetch

COUNT = 4  # images in a file


def make_files(name):
    """The files of a set, and the images and labels that its training part has."""
    known, random = SETS[name], np.random.default_rng(1)
    files, images, labels = {}, [], []
    number_of_classes = 10 if name == "cifar10" else 100
    for file in (*known.train, *known.test):
        pixels = random.integers(0, 256, (COUNT, 32, 32, 3), np.uint8)
        classes = random.integers(0, number_of_classes, COUNT).astype(np.uint8)
        records = []
        for image, label in zip(pixels, classes, strict=True):
            coarse = bytes([7]) if known.label_bytes == 2 else b""
            planes = b"".join(image[..., channel].tobytes() for channel in range(3))
            records.append(coarse + bytes([label]) + planes)
        files[file] = b"".join(records)
        if file in known.train:
            images.append(pixels)
            labels.append(classes)
    names = "\n".join(f"thing_{number}" for number in range(number_of_classes))
    files[known.names] = f"{names}\n\n".encode()
    return files, np.concatenate(images), np.concatenate(labels)


def make_archive(name, files):
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as archive:
        for file, data in {"readme.html": b"<html>", **files}.items():
            member = tarfile.TarInfo(f"{SETS[name].folder}/{file}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return body.getvalue()


def check(parts, name, images, labels):
    train, test = parts
    np.testing.assert_array_equal(train.images, images)
    np.testing.assert_array_equal(train.labels, labels)
    assert len(test) == COUNT
    assert train.classes == test.classes
    assert train.classes[9] == "thing_9"


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", ["archive", "folder", "inside"])
def test_reads_a_copy(tmp_path, name, kind):
    files, images, labels = make_files(name)
    if kind == "archive":
        (tmp_path / SETS[name].archive.name).write_bytes(make_archive(name, files))
    else:
        place = tmp_path / SETS[name].folder
        place.mkdir()
        for file, data in files.items():
            (place / file).write_bytes(data)
    folder = tmp_path / SETS[name].folder if kind == "inside" else tmp_path
    check(load_cifar(name, folder), name, images, labels)


def test_downloads_once_and_unpacks_nothing(tmp_path, monkeypatch):
    files, images, labels = make_files("cifar10")
    body = make_archive("cifar10", files)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    with run_server() as server:
        published = cifar.PublishedFile(
            server.add("/cifar-10-binary.tar.gz", body), len(body), hashlib.sha256(body).hexdigest()
        )
        changed = SETS["cifar10"]._replace(archive=published)
        monkeypatch.setitem(SETS, "cifar10", changed)
        check(load("CIFAR-10"), "cifar10", images, labels)
        check(load("cifar10"), "cifar10", images, labels)
        assert len(server.starts("/cifar-10-binary.tar.gz")) == 1
        (tmp_path / "cache/downloads/cifar10--cifar-10-binary.tar.gz").write_bytes(b"damaged")
        monkeypatch.setenv("ZOO_OFFLINE", "1")
        with pytest.raises(fetch.OfflineError, match="cifar10 is also read from a folder that has"):
            load("cifar10")
    assert not list(tmp_path.rglob("*.bin"))


def test_says_that_the_python_version_is_not_read(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(
        DatasetError, match=r"cifar-10-batches-py is the Python version, which is not"
    ):
        load("cifar10", tmp_path)
    with pytest.raises(DatasetError, match=r"Without a folder it is downloaded$"):
        load("cifar100", tmp_path)


def test_refuses_damaged_copies(tmp_path):
    files, _, _ = make_files("cifar10")
    archive = tmp_path / "cifar-10-binary.tar.gz"
    archive.write_bytes(make_archive("cifar10", files)[:-2000])
    with pytest.raises(DatasetError, match=r"cifar-10-binary\.tar\.gz is damaged: "):
        load("cifar10", tmp_path)
    archive.write_bytes(b"no archive")
    with pytest.raises(DatasetError, match=r"cifar-10-binary\.tar\.gz is damaged: "):
        load("cifar10", tmp_path)
    lacking = {name: data for name, data in files.items() if name != "data_batch_3.bin"}
    archive.write_bytes(make_archive("cifar10", lacking))
    with pytest.raises(DatasetError, match=r"lacks data_batch_3\.bin"):
        load("cifar10", tmp_path)
    archive.write_bytes(make_archive("cifar10", files | {"test_batch.bin": bytes(5000)}))
    with pytest.raises(
        DatasetError, match=r"test_batch\.bin in .* 5000 bytes, and each image 3073"
    ):
        load("cifar10", tmp_path)
    archive.unlink()
    place = tmp_path / "cifar-10-batches-bin"
    place.mkdir()
    (place / "test_batch.bin").write_bytes(files["test_batch.bin"])
    with pytest.raises(DatasetError, match=r"data_batch_1\.bin cannot be read: No such file"):
        load("cifar10", tmp_path)


def test_published_digests_are_complete():
    for known in SETS.values():
        assert known.archive.url.startswith("https://www.cs.toronto.edu/~kriz/")
        assert len(known.archive.sha256) == 64
        assert known.archive.size > 160_000_000
