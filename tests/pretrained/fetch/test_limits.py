"""Servers, disks and folders that fail raise an error of one line, within a time limit."""

import errno
import os
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.pretrained.fetch.fetching import BODY, DIGEST, LOCK, leave_partial, list_names
from zoo_pretrained.fetch import FetchError, fetch, fetch_unverified, partial

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"stall": (9, 1000)}, "no answer|stalled"),
        ({"stall": (9, 0)}, "no answer|stalled"),
        ({"dribble": 0.02}, "stalled: less than 16 KiB came in 0.2 s"),
        ({"dribble": 0.02, "framing": "chunked"}, "stalled"),
        ({"dribble": 0.02, "framing": "close"}, "stalled"),
        ({"slow_headers": 0.02}, "stalled"),
    ],
)
def test_raises_for_a_server_that_stalls(server, target, monkeypatch, fault, words):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    url = server.add("/a", BODY, **fault)
    threads = threading.active_count()
    start = time.monotonic()
    with pytest.raises(FetchError, match=words):
        fetch(url, target, digest=DIGEST)
    assert time.monotonic() - start < 5
    assert len(server.requests) == 5
    assert threading.active_count() - threads < 15


def test_raises_for_a_server_that_never_accepts(target, monkeypatch):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.1")
    with socket.create_server(("127.0.0.1", 0), backlog=9) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/a"
        with pytest.raises(FetchError, match=r"no answer in 0.1 s|stalled"):
            fetch(url, target, digest=DIGEST)


def test_a_slow_name_lookup_is_not_a_stall(server, target, monkeypatch):
    """It has its own limit, and the connection is watched only after it."""
    lookup = socket.getaddrinfo

    def slow(*args, **kwargs):
        time.sleep(0.5)
        return lookup(*args, **kwargs)

    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    fetch(server.add("/a", BODY), target, digest=DIGEST)
    assert len(server.requests) == 1


def test_a_slow_server_is_not_a_stall(server, target, monkeypatch):
    """The download takes several times the timeout, at several times the lowest rate allowed."""
    monkeypatch.setenv("ZOO_TIMEOUT", "0.25")
    url = server.add("/a", BODY, rate=250_000)
    fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 1


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_raises_for_an_invalid_timeout(server, target, monkeypatch, text):
    monkeypatch.setenv("ZOO_TIMEOUT", text)
    with pytest.raises(FetchError, match=f"ZOO_TIMEOUT .* got '{text}'"):
        fetch(server.add("/a", BODY), target, digest=DIGEST)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1])
def test_raises_for_another_size_than_published(server, target, framing, size):
    """Nothing of the file is used, and no more than the published size is read."""
    url = server.add("/a", BODY * (9 if size < len(BODY) else 1), framing=framing)
    with pytest.raises(FetchError, match=rf"{size}\b"):
        fetch(url, target, digest=DIGEST, size=size)
    assert not target.exists()
    if framing == "length":
        assert len(server.requests) == 1


def test_raises_for_another_size_on_resuming(server, target):
    url = server.add("/a", BODY, total=999_999)
    leave_partial(target, url, BODY[:1000])
    with pytest.raises(FetchError, match="has 999999 bytes, expected 200000"):
        fetch(url, target, digest=DIGEST, size=len(BODY))
    assert list_names(target) == [LOCK]


@pytest.mark.parametrize(
    ("framing", "words"),
    [
        ("length", "has 200000 bytes, expected at most 100000$"),
        ("chunked", r"sends more than 100.0 kB \(100000 bytes\)$"),
    ],
)
def test_raises_for_a_file_that_is_too_large(server, target, monkeypatch, framing, words):
    url = server.add("/a", BODY, framing=framing)
    with pytest.raises(FetchError, match=words):
        fetch_unverified(url, target, 100_000)
    monkeypatch.setattr(partial, "MAX_BYTES", 100_000)
    with pytest.raises(FetchError, match=words):
        fetch(url, target, digest=DIGEST)
    assert list_names(target) == [LOCK]
    fetch(url, target, digest=DIGEST, size=len(BODY))


def test_raises_where_the_disk_is_too_full(server, target, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=12_345))
    url = server.add("/a", BODY)
    words = "cache cannot be used: the disk is full; 200.0 kB needed, 12.3 kB free; ZOO_CACHE"
    with pytest.raises(FetchError, match=words):
        fetch(url, target, digest=DIGEST)
    leave_partial(target, url, BODY[:190_000])
    fetch(url, target, digest=DIGEST)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a device of Linux")
def test_raises_where_the_disk_becomes_full(server, target):
    """The partial file is a device to which nothing can be written."""
    url = server.add("/a", BODY)
    leave_partial(target, url, b"")
    target.with_name("model.bin.part").unlink()
    target.with_name("model.bin.part").symlink_to("/dev/full")
    with pytest.raises(FetchError, match=r"the disk is full; 200.0 kB needed, .* free; ZOO"):
        fetch(url, target, digest=DIGEST)
    assert not target.exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
@pytest.mark.parametrize("step", ["mkdir", "replace"])
def test_raises_for_folders_that_cannot_be_written_to(
    server, target, monkeypatch, number, words, step
):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, step, fail)
    (target.parent.parent / "cache").mkdir() if step == "replace" else None
    with pytest.raises(FetchError, match=f"{target.parent} .*{words}.*; ZOO_CACHE"):
        fetch(server.add("/a", BODY), target, digest=DIGEST)
    assert not target.exists()


def test_raises_for_a_file_in_place_of_a_folder(server, tmp_path):
    (tmp_path / "file").write_text("")
    url = server.add("/a", BODY)
    for target in (tmp_path / "file" / "model.bin", tmp_path / "file" / "folder" / "model.bin"):
        with pytest.raises(FetchError, match="is a file, not a folder; ZOO_CACHE"):
            fetch(url, target, digest=DIGEST)
    (tmp_path / "folder").mkdir()
    with pytest.raises(FetchError, match="cannot be used: Is a directory"):
        fetch(url, tmp_path / "folder", digest=DIGEST)
