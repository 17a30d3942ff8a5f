"""Downloads are complete and verified, or absent."""

import hashlib
import io
import socket
import subprocess
import sys
import threading

import pytest

from tests.pretrained.fetch.fetching import (
    BODY,
    DIGEST,
    LOCK,
    OTHER,
    leave_partial,
    list_names,
    sha256,
)
from zoo_pretrained.fetch import (
    Digest,
    DigestError,
    FetchError,
    OfflineError,
    fetch,
    fetch_unverified,
    files,
    hold_lock,
    is_offline,
    progress_bar,
    verify,
)
from zoo_pretrained.fetch.errors import format_bytes

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_an_empty_file_is_downloaded(server, target, framing):
    fetch(server.add("/a", b"", framing=framing), target, digest=sha256(b""))
    assert target.read_bytes() == b""


@pytest.mark.parametrize("size", [None, len(BODY)])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_download_is_complete_and_leaves_only_its_lock(server, target, framing, size):
    url = server.add("/a", BODY, framing=framing)
    calls = []
    found = fetch(url, target, digest=DIGEST, size=size, progress=lambda *call: calls.append(call))
    assert found == DIGEST.value
    assert target.read_bytes() == BODY
    assert list_names(target) == [LOCK, "model.bin"]
    total = len(BODY) if framing == "length" or size else None
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert calls[-1] == (len(BODY), total)


def test_an_existing_target_is_verified_without_a_lock(server, target):
    url = server.add("/a", BODY)
    target.parent.mkdir()
    target.write_bytes(BODY)
    assert fetch(url, target, digest=DIGEST) == DIGEST.value
    assert server.requests == []
    assert list_names(target) == ["model.bin"]


def test_a_damaged_target_is_replaced(server, target):
    url = server.add("/a", BODY)
    target.parent.mkdir()
    target.write_bytes(OTHER)
    fetch(url, target, digest=DIGEST)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("body", [b"", b"{}", BODY])
def test_verify_with_each_algorithm(tmp_path, body):
    path = tmp_path / "file"
    path.write_bytes(body)
    want = hashlib.sha256(body).hexdigest()
    git = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    for digest in (
        Digest("sha256", want),
        Digest("sha256", want[:8].upper()),
        Digest("md5", hashlib.md5(body).hexdigest()),
        Digest("git-sha1", git.stdout.strip()),
    ):
        assert verify(path, digest) == want
        wrong = Digest(digest.algorithm, digest.value[:-1] + "0f"[digest.value[-1] == "0"])
        with pytest.raises(DigestError, match=f"^weights .*{wrong.value}$"):
            verify(path, wrong, "weights")
    with pytest.raises(FetchError, match="none does not exist"):
        verify(tmp_path / "none", Digest("sha256", want))


@pytest.mark.parametrize(
    ("algorithm", "value", "words"),
    [
        ("sha1", "0" * 40, r"one of \['sha256', 'md5', 'git-sha1'\], got 'sha1'"),
        ("sha256", "", "8 to 64 hexadecimal digits for sha256, got ''"),
        ("sha256", "0" * 7, "got '0000000'"),
        ("md5", "0" * 64, "8 to 32"),
        ("md5", "g" * 32, "got 'gggg"),
    ],
)
def test_raises_for_an_invalid_digest(algorithm, value, words):
    with pytest.raises(ValueError, match=words):
        Digest(algorithm, value)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_unverified_download_always_starts_again(server, target, monkeypatch, framing):
    url = server.add("/a", BODY, framing=framing, truncate=(2, 60_000))
    leave_partial(target, url, OTHER[:1000])
    fetch_unverified(url, target, len(BODY))
    assert target.read_bytes() == BODY
    assert server.starts("/a") == [None, None, None]
    server.files["/a"].body = OTHER
    fetch_unverified(url, target, len(BODY))
    assert target.read_bytes() == OTHER
    assert list_names(target) == [LOCK, "model.bin"]
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(OfflineError, match=r"^ZOO_OFFLINE is set"):
        fetch_unverified(url, target, len(BODY))


@pytest.mark.parametrize("framing", ["length", "close"])
@pytest.mark.parametrize("body", [OTHER, b"\n<!DOCTYPE html><html>moved</html>"])
def test_a_file_with_another_digest_is_kept_as_bad(server, target, body, framing):
    url = server.add("/a", body, framing=framing)
    found = sha256(body).value
    bad = f"model.bin.bad-{found[:8]}"
    with pytest.raises(DigestError) as caught:
        fetch(url, target, digest=DIGEST)
    for word in (url, found, DIGEST.value, str(target.with_name(bad))):
        assert word in str(caught.value)
    assert ("web page" in str(caught.value)) == (body != OTHER)
    assert "\n" not in str(caught.value)
    assert list_names(target) == [LOCK, bad]
    assert target.with_name(bad).read_bytes() == body
    # Without a size, an interruption could have gone unnoticed.
    assert len(server.requests) == (1 if framing == "length" else 2)


@pytest.mark.parametrize(("value", "is_set"), [(None, 0), ("", 0), ("0", 0), ("1", 1), ("yes", 1)])
def test_is_offline(monkeypatch, value, is_set):
    if value is not None:
        monkeypatch.setenv("ZOO_OFFLINE", value)
    assert is_offline() == is_set


def test_offline_opens_no_socket(target, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setattr(socket, "socket", fail)
    url = "https://user:hunter2@weights.invalid/a?key=t0ken"
    with pytest.raises(OfflineError) as caught:
        fetch(url, target, digest=DIGEST, size=123_456_789)
    message = f"ZOO_OFFLINE is set: https://weights.invalid/a (123.5 MB) is not fetched to {target}"
    assert str(caught.value) == message
    assert not target.parent.exists()
    target.parent.mkdir()
    target.write_bytes(BODY)
    assert fetch(url, target, digest=DIGEST) == DIGEST.value


def test_threads_that_want_the_same_file_download_it_once(server, target, capsys, monkeypatch):
    monkeypatch.setattr(files, "LOCK_MESSAGE_DELAY", 0.05)
    url = server.add("/a", BODY, rate=400_000)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(url, target, digest=DIGEST)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DIGEST.value] * 4
    assert len(server.requests) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"another process is using {target}; waiting for it"] * 3


def test_a_lock_is_released_on_errors(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), hold_lock(tmp_path / "folder" / "a"):
            raise KeyboardInterrupt


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_progress_bar_is_shown_on_terminals_only(monkeypatch):
    for stream, shown in ((Terminal(), True), (io.StringIO(), False), (None, False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_bar("resnet50 [v2]") as progress:
            progress(50, None)
            progress(50, 100)
        assert bool(stream and "resnet50 [v2]" in stream.getvalue()) == shown
        assert shown or not (stream and stream.getvalue())


def test_format_bytes():
    amounts = (0, 999, 1000, 999_949, 999_950, 5_300_000, 16 << 30, 10**13)
    expected = "0 bytes, 999 bytes, 1.0 kB, 999.9 kB, 1.0 MB, 5.3 MB, 17.2 GB, 10000.0 GB"
    assert ", ".join(map(format_bytes, amounts)) == expected


def test_import_loads_no_large_packages():
    code = (
        "import sys, zoo_pretrained.fetch, zoo_pretrained.hub; "
        "print([name for name in ('jax', 'urllib3', 'filelock', 'rich', "
        "'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
