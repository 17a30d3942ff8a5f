"""MNIST's form, of copies and of downloads from a server here."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from tests.pretrained.server import run_server
from zoo.data import DatasetError, idx, load
from zoo.data.idx import load_idx_set, read_idx
from zoo_pretrained import fetch

NAMES = [
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
]


def encode(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def arrays():
    random = np.random.default_rng(0)
    return {
        NAMES[0]: random.integers(0, 256, (12, 28, 28), np.uint8),
        NAMES[1]: np.arange(12, dtype=np.uint8) % 10,
        NAMES[2]: random.integers(0, 256, (3, 28, 28), np.uint8),
        NAMES[3]: np.array([9, 0, 9], np.uint8),
    }


@pytest.fixture
def server(arrays, monkeypatch, tmp_path):
    """A server with these files, of which fashion-mnist is made."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "BACKOFF", 0.01)
    with run_server() as running:
        bodies = {name: gzip.compress(encode(array), mtime=0) for name, array in arrays.items()}
        for name, body in bodies.items():
            running.add(f"/fashion/{name}.gz", body)
        digests = {n: (len(body), hashlib.sha256(body).hexdigest()) for n, body in bodies.items()}
        changed = idx.SETS["fashion-mnist"]._replace(
            address=f"{running.address}/fashion", files=digests, places=(str(tmp_path / "system"),)
        )
        monkeypatch.setitem(idx.SETS, "fashion-mnist", changed)
        yield running


def write(folder, arrays, compressed=True):
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(encode(array), mtime=0))
        else:
            (folder / name).write_bytes(encode(array))
    return folder


def check(parts, arrays):
    for dataset, images, labels in zip(parts, NAMES[::2], NAMES[1::2], strict=True):
        np.testing.assert_array_equal(dataset.images, arrays[images][..., None])
        np.testing.assert_array_equal(dataset.labels, arrays[labels])
        assert dataset.images.dtype == np.uint8
        assert dataset.classes[9] == "Ankle boot"
        dataset.images[0] = 0  # augmentations may write


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("below", ["", "FashionMNIST/raw"])
def test_reads_a_copy_in_a_folder(arrays, tmp_path, compressed, below):
    write(tmp_path / "data" / below, arrays, compressed)
    check(load_idx_set("fashion-mnist", tmp_path / "data"), arrays)


def test_reads_the_system_s_copy(server, arrays, tmp_path):
    write(tmp_path / "system", arrays)
    check(load_idx_set("fashion-mnist"), arrays)
    assert not server.requests


def test_downloads_once_and_verifies(server, arrays, monkeypatch):
    check(load("FashionMNIST"), arrays)
    requests = len(server.requests)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    check(load("fashion-mnist"), arrays)
    assert len(server.requests) == requests


def test_refuses_another_file(server):
    url = f"/fashion/{NAMES[2]}.gz"
    server.add(url, server.files[url].body[:-1] + b"x")
    with pytest.raises(fetch.DigestError, match="sha256"):
        load("fashion-mnist")


def test_offline_it_says_how_to_do_without(server, monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(fetch.OfflineError, match=r"read from a folder that has train-images.*\.gz"):
        load("fashion-mnist")
    assert not server.requests


def test_says_what_a_folder_lacks(arrays, tmp_path):
    write(tmp_path / "some", dict(list(arrays.items())[:3]))
    with pytest.raises(
        DatasetError, match=r"expected t10k-labels-idx1-ubyte or .*\.gz, there or in"
    ):
        load("fashion-mnist", tmp_path / "some")


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("file", b"", "is no idx file of bytes with 1 dimensions"),
        ("file", b"\0\0\x08\x01\0\0", "is no idx file"),
        ("file", b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "is no idx file of bytes"),
        ("file", encode(np.zeros((2, 2), np.uint8)), "is no idx file of bytes with 1 dimensions"),
        ("file", encode(np.zeros(5, np.uint8))[:-1], r"is damaged: \(5,\) are 5 bytes, .* are 4"),
        ("file", encode(np.zeros(5, np.uint8)) + b"x", "is damaged"),
        ("file", b"\0\0\x08\x01\xff\xff\xff\xff", "more than 1024 MiB"),
        ("file.gz", b"no gzip", "cannot be read: Not a gzipped file"),
        (
            "file.gz",
            gzip.compress(encode(np.arange(200, dtype=np.uint8)), mtime=0)[:90],
            "cannot be read: Compressed file ended",
        ),
    ],
)
def test_refuses_what_is_no_idx_file(tmp_path, name, data, match):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=match):
        read_idx(tmp_path / name, 1)


def test_published_digests_are_complete():
    for known in idx.SETS.values():
        assert known.address.startswith("https://")
        assert sorted(known.files) == sorted(NAMES)
        assert all(len(sha256) == 64 and size > 4000 for size, sha256 in known.files.values())
        assert len(known.classes) == 10
