"""Servers, disks and folders that fail: a line that says why, within a limit."""

import errno
import os
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.pretrained.fetch.fetching import BODY, DIGEST, LOCK, leave, names
from zoo_pretrained.fetch import FetchError, fetch, fetch_unverified, partial

pytestmark = pytest.mark.usefixtures("plain")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"stall": (9, 1000)}, "no answer|stalled"),
        ({"stall": (9, 0)}, "no answer|stalled"),
        ({"dribble": 0.02}, "stalled: less than 16 KiB came in 0.2 s"),
        ({"dribble": 0.02, "framing": "chunked"}, "stalled"),
        ({"dribble": 0.02, "framing": "close"}, "stalled"),
        ({"slow_headers": 0.02}, "stalled"),
    ],
)
def test_a_server_that_keeps_one_waiting(server, target, monkeypatch, how, words):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    url = server.add("/a", BODY, **how)
    others = threading.active_count()
    began = time.monotonic()
    with pytest.raises(FetchError, match=words):
        fetch(url, target, digest=DIGEST)
    assert time.monotonic() - began < 5
    assert len(server.requests) == 5
    assert threading.active_count() - others < 15


def test_a_server_that_never_accepts(target, monkeypatch):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.1")
    with socket.create_server(("127.0.0.1", 0), backlog=9) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/a"
        with pytest.raises(FetchError, match=r"no answer in 0.1 s|stalled"):
            fetch(url, target, digest=DIGEST)


def test_a_slow_look_up_is_no_stalled_server(server, target, monkeypatch):
    """It has a limit of its own, and the watch begins after it."""
    look_up = socket.getaddrinfo

    def slow(*how, **more):
        time.sleep(0.5)
        return look_up(*how, **more)

    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    fetch(server.add("/a", BODY), target, digest=DIGEST)
    assert len(server.requests) == 1


def test_a_slow_server_is_no_stalled_one(server, target, monkeypatch):
    """It takes several times the timeout, at several times the least rate."""
    monkeypatch.setenv("ZOO_TIMEOUT", "0.25")
    url = server.add("/a", BODY, rate=250_000)
    fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 1


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_none(server, target, monkeypatch, text):
    monkeypatch.setenv("ZOO_TIMEOUT", text)
    with pytest.raises(FetchError, match=f"ZOO_TIMEOUT .* got '{text}'"):
        fetch(server.add("/a", BODY), target, digest=DIGEST)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1])
def test_another_size_than_published(server, target, framing, size):
    """Nothing of it is used, and more than was promised is not even read."""
    url = server.add("/a", BODY * (9 if size < len(BODY) else 1), framing=framing)
    with pytest.raises(FetchError, match=rf"{size}\b"):
        fetch(url, target, digest=DIGEST, size=size)
    assert not target.exists()
    if framing == "length":
        assert len(server.requests) == 1


def test_another_size_than_published_of_a_part(server, target):
    url = server.add("/a", BODY, total=999_999)
    leave(target, url, BODY[:1000])
    with pytest.raises(FetchError, match="has 999999 bytes, expected 200000"):
        fetch(url, target, digest=DIGEST, size=len(BODY))
    assert names(target) == [LOCK]


@pytest.mark.parametrize(
    ("framing", "words"),
    [
        ("length", "has 200000 bytes, expected at most 100000$"),
        ("chunked", r"sends more than 100.0 kB \(100000 bytes\)$"),
    ],
)
def test_a_file_without_end(server, target, monkeypatch, framing, words):
    url = server.add("/a", BODY, framing=framing)
    with pytest.raises(FetchError, match=words):
        fetch_unverified(url, target, 100_000)
    monkeypatch.setattr(partial, "LIMIT", 100_000)
    with pytest.raises(FetchError, match=words):
        fetch(url, target, digest=DIGEST)
    assert names(target) == [LOCK]
    fetch(url, target, digest=DIGEST, size=len(BODY))


def test_no_room_for_what_is_known(server, target, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=12_345))
    url = server.add("/a", BODY)
    words = "cache cannot be used: the disk is full; 200.0 kB needed, 12.3 kB free; ZOO_CACHE"
    with pytest.raises(FetchError, match=words):
        fetch(url, target, digest=DIGEST)
    leave(target, url, BODY[:190_000])
    fetch(url, target, digest=DIGEST)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a device of Linux")
def test_a_disk_that_gets_full(server, target):
    """A device that has no room for anything stands in for the file."""
    url = server.add("/a", BODY)
    leave(target, url, b"")
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
def test_places_that_cannot_be_written_to(server, target, monkeypatch, number, words, step):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, step, fail)
    (target.parent.parent / "cache").mkdir() if step == "replace" else None
    with pytest.raises(FetchError, match=f"{target.parent} .*{words}.*; ZOO_CACHE"):
        fetch(server.add("/a", BODY), target, digest=DIGEST)
    assert not target.exists()


def test_a_file_in_the_way(server, tmp_path):
    (tmp_path / "file").write_text("")
    url = server.add("/a", BODY)
    for target in (tmp_path / "file" / "model.bin", tmp_path / "file" / "folder" / "model.bin"):
        with pytest.raises(FetchError, match="is a file, not a folder; ZOO_CACHE"):
            fetch(url, target, digest=DIGEST)
    (tmp_path / "folder").mkdir()
    with pytest.raises(FetchError, match="cannot be used: Is a directory"):
        fetch(url, tmp_path / "folder", digest=DIGEST)
