"""Downloads from a stand-in for the Hugging Face hub are verified, and reveal no secrets."""

import hashlib
import logging
import random
import shutil
import socket
import threading
import warnings
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.pretrained.fetch.fetching import leave_partial, list_names
from zoo_pretrained.fetch import DigestError, FetchError, OfflineError
from zoo_pretrained.hub import fetch_from_hub

LARGE = random.Random(2).randbytes(300_000)
SMALL = b'{"architecture": "resnet50"}'
REPO = "zoo/toy"
LOCK = ".weights.lock"
TOKEN = "hf_t0kent0ken"


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """The stand-in for the hub, without this machine's settings."""
    from huggingface_hub import utils

    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    home = tmp_path / "home"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / "a.json"), raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    yield server
    utils.close_session()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "weights"


def authorizations(hub):
    """The first part of each request's path, and its Authorization."""
    return [(r.path.split("/")[1], r.headers.get("authorization")) for r in hub.requests]


def body_sizes(hub):
    """The bytes that each response with a body sent."""
    return [request.sent for request in hub.requests if request.sent]


@pytest.mark.parametrize(("filename", "body"), [("model.bin", LARGE), ("a/config.json", SMALL)])
def test_a_download_is_verified_and_the_only_copy(hub, target, tmp_path, capfd, filename, body):
    hub.add_hub(REPO, filename, body, large=body is LARGE)
    calls = []
    sha256 = hashlib.sha256(body).hexdigest()
    assert (
        fetch_from_hub(REPO, filename, target, progress=lambda *call: calls.append(call)) == sha256
    )
    assert target.read_bytes() == body
    assert list_names(target) == [LOCK, "weights"]
    assert not (tmp_path / "home" / "hub").exists()
    assert calls[-1] == (len(body), len(body))
    assert body_sizes(hub) == [len(body)]
    # huggingface_hub shows no progress bars and no warnings.
    assert capfd.readouterr() == ("", "")
    assert fetch_from_hub(REPO, filename, target) == sha256
    assert body_sizes(hub) == [len(body)]


def test_a_damaged_or_outdated_target_is_replaced(hub, target):
    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    target.parent.mkdir()
    target.write_bytes(SMALL)
    fetch_from_hub(REPO, "model.bin", target, revision="c" * 40)
    assert target.read_bytes() == LARGE


def test_the_token_is_sent_to_the_hub_only(hub, target):
    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    fetch_from_hub(REPO, "model.bin", target)
    assert sorted(authorizations(hub)) == [("store", None), *[("zoo", f"Bearer {TOKEN}")] * 2]


@pytest.mark.parametrize("large", [True, False])
def test_the_stored_token_is_used_unless_disabled(hub, target, monkeypatch, large):
    monkeypatch.delenv("HF_TOKEN")
    path = hub.add_hub(REPO, "model.bin", LARGE, large=large)
    Path(constants.HF_TOKEN_PATH).parent.mkdir()
    Path(constants.HF_TOKEN_PATH).write_text("hf_l0gin\n")
    fetch_from_hub(REPO, "model.bin", target)
    assert ("zoo", "Bearer hf_l0gin") in authorizations(hub)
    hub.requests.clear()
    target.unlink()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    fetch_from_hub(REPO, "model.bin", target)
    assert {token for _, token in authorizations(hub)} == {None}
    assert hub.requests[-1].path == path


def test_a_file_in_xet_is_downloaded_over_http(hub, target):
    path = hub.add_hub(REPO, "model.bin", LARGE, large=True, xet=True)
    assert fetch_from_hub(REPO, "model.bin", target) == hashlib.sha256(LARGE).hexdigest()
    paths = [request.path for request in hub.requests]
    commit = "c" * 40
    resolve = f"/{REPO}/resolve"
    assert paths == [f"{resolve}/main/model.bin", f"{resolve}/{commit}/model.bin", path]


@pytest.mark.parametrize("large", [True, False])
def test_a_file_with_another_digest_is_kept_as_bad(hub, target, large):
    digest = "a" * (64 if large else 40)
    hub.add_hub(REPO, "model.bin", LARGE, large=large, digest=digest)
    with pytest.raises(DigestError, match=f"/{REPO}/resolve/c+/model.bin has .* expected {digest}"):
        fetch_from_hub(REPO, "model.bin", target)
    (bad,) = (name for name in list_names(target) if name != LOCK)
    assert bad.startswith("weights.bad-")
    assert target.with_name(bad).read_bytes() == LARGE


@pytest.mark.parametrize("digest", ["abc", "A" * 64, "g" * 40])
def test_raises_for_a_file_without_a_digest(hub, target, digest):
    hub.add_hub(REPO, "model.bin", LARGE, large=True, digest=digest)
    with pytest.raises(FetchError, match="gives no digest of it"):
        fetch_from_hub(REPO, "model.bin", target)
    assert body_sizes(hub) == []


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "EntryNotFound", "no such file"),
        (404, "RevisionNotFound", "no such revision"),
        (404, "RepoNotFound", "no such repository, or HF_TOKEN does not open it"),
        (401, "RepoNotFound", "no such repository, or HF_TOKEN does not open it"),
        (403, "GatedRepo", "gated; accept its terms on the hub, and set HF_TOKEN"),
        (401, "", "answered 401; HF_TOKEN may be missing or wrong"),
        (403, "", "answered 403; HF_TOKEN may be missing or wrong"),
        (400, "", "answered 400"),
        (500, "", r"answered 500 \(5 tries\)"),
        (429, "", r"answered 429 \(5 tries\)"),
    ],
)
def test_the_message_says_what_the_hub_refused(hub, target, status, code, words):
    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    file = hub.files[f"/{REPO}/resolve/main/model.bin"]
    file.statuses = [status] * 9
    file.headers = {"X-Error-Code": code, "X-Error-Message": f"see {TOKEN}"}
    with pytest.raises(FetchError, match=f"^{REPO}/model.bin at main: .*{words}$") as caught:
        fetch_from_hub(REPO, "model.bin", target)
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not target.parent.exists()


@pytest.mark.parametrize("where", ["head", "body"])
def test_temporary_errors_of_the_hub_are_retried(hub, target, where):
    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    path = f"/{REPO}/resolve/main/model.bin"
    if where == "body":
        path = f"/store/{hashlib.sha256(LARGE).hexdigest()}"
    hub.files[path].statuses = [503, 429]
    fetch_from_hub(REPO, "model.bin", target)
    assert target.read_bytes() == LARGE


@pytest.mark.parametrize("fault", ["truncate", "reset", "stall"])
@pytest.mark.parametrize("large", [True, False])
def test_an_interrupted_download_is_resumed(hub, target, monkeypatch, fault, large):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.3")
    path = hub.add_hub(REPO, "model.bin", LARGE, large=large, **{fault: (2, 100_000)})

    def change_signature(file):
        file.redirect += "1"

    if large:  # each redirect has another signature
        hub.files[f"/{REPO}/resolve/{'c' * 40}/model.bin"].before_response = change_signature
    fetch_from_hub(REPO, "model.bin", target)
    assert target.read_bytes() == LARGE
    starts = hub.starts(path)
    assert starts == [None, 100_000, 200_000] if fault != "reset" else len(starts) == 3


def test_raises_where_the_download_stalls(hub, target, monkeypatch):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.1")
    hub.add_hub(REPO, "model.bin", LARGE, large=True, dribble=0.02)
    with pytest.raises(FetchError, match=r"less than 16 KiB came in 0.1 s \(5 tries\)"):
        fetch_from_hub(REPO, "model.bin", target)


def test_raises_where_the_hub_gives_no_answer(hub, target, monkeypatch):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.1")
    hub.add_hub(REPO, "config.json", SMALL, large=False, slow_headers=0.03)
    with pytest.raises(FetchError, match=r"main: it stalled: less than 16 KiB came in 0.1 s"):
        fetch_from_hub(REPO, "config.json", target)
    hub.add_hub(REPO, "model.bin", LARGE, large=True, stall=(99, 0))
    with pytest.raises(FetchError, match=r"no answer in 0.1 s|stalled"):
        fetch_from_hub(REPO, "model.bin", target)


def test_raises_for_a_hub_that_redirects_for_ever(hub, target):
    path = f"/{REPO}/resolve/main/model.bin"
    hub.add(path, b"", redirect=f"{path}?again")
    with pytest.raises(FetchError, match="redirects more than 10 times"):
        fetch_from_hub(REPO, "model.bin", target)
    assert len(hub.requests) == 11


def test_a_repository_that_has_moved_is_followed(hub, target):
    hub.add_hub("zoo/new", "model.bin", LARGE, large=True)
    for revision in ("main", "c" * 40):
        hub.add(
            f"/{REPO}/resolve/{revision}/model.bin",
            b"",
            redirect=f"/zoo/new/resolve/{revision}/model.bin",
        )
    fetch_from_hub(REPO, "model.bin", target)
    assert target.read_bytes() == LARGE


def test_raises_where_nothing_listens(hub, target, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(FetchError, match=r"cannot connect to 127.0.0.1: .* \(5 tries\)"):
        fetch_from_hub(REPO, "model.bin", target)


def test_raises_for_a_server_that_is_not_a_hub(hub, target):
    hub.add(f"/{REPO}/resolve/main/model.bin", b"<html>welcome</html>")
    with pytest.raises(FetchError, match="gives no digest"):
        fetch_from_hub(REPO, "model.bin", target)
    for repo in ("a/b/c", "../up", ""):
        with pytest.raises(FetchError, match="not one that the hub allows"):
            fetch_from_hub(repo, "model.bin", target)


def test_no_secret_is_logged(hub, target, caplog):
    """Neither the token nor a signed URL, at any log level, on success or failure."""
    from huggingface_hub import utils

    names = ("huggingface_hub", "httpx2", "httpcore2", "huggingface_hub.utils._http", "urllib3")
    before = [(name, logging.getLogger(name).level) for name in names]
    root = logging.getLogger("huggingface_hub")
    propagates, root.propagate = root.propagate, True
    utils.logging.set_verbosity_debug()
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    caplog.set_level(logging.DEBUG)
    hub.add_hub(REPO, "model.bin", LARGE, large=True, truncate=(1, 1000))
    try:
        fetch_from_hub(REPO, "model.bin", target)
        target.unlink()
        hub.files[f"/store/{hashlib.sha256(LARGE).hexdigest()}"].statuses = [403]
        with pytest.raises(FetchError, match="answered 403") as caught:
            fetch_from_hub(REPO, "model.bin", target)
    finally:
        root.propagate = propagates
        for name, level in before:
            logging.getLogger(name).setLevel(level)
    output = caplog.text + str(caught.value)
    assert TOKEN not in output
    assert "signature" not in output


def test_raises_where_the_disk_is_too_full(hub, target, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=12_345))
    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FetchError, match=r"300.0 kB needed, 12.3 kB free; ZOO_CACHE"):
            fetch_from_hub(REPO, "model.bin", target)
    assert list_names(target) == [LOCK]


def test_an_interrupted_process_leaves_its_bytes_to_be_resumed(hub, target):
    def interrupt(done, total):
        raise KeyboardInterrupt

    path = hub.add_hub(REPO, "model.bin", LARGE, large=True)
    with pytest.raises(KeyboardInterrupt):
        fetch_from_hub(REPO, "model.bin", target, progress=interrupt)
    received = target.with_name("weights.part").stat().st_size
    fetch_from_hub(REPO, "model.bin", target)
    assert hub.starts(path) == [None, received]
    assert list_names(target) == [LOCK, "weights"]


def test_the_size_that_the_hub_gives_is_used(hub, target):
    """A complete partial file is not downloaded again, and another size is refused."""
    path = hub.add_hub(REPO, "model.bin", LARGE, large=True)
    leave_partial(target, f"{hub.address}/{REPO}/resolve/{'c' * 40}/model.bin", LARGE)
    fetch_from_hub(REPO, "model.bin", target)
    assert hub.starts(path) == []
    hub.files[path].body = LARGE[:1000]
    target.unlink()
    with pytest.raises(FetchError, match=r"has 1000 bytes, expected 300000$"):
        fetch_from_hub(REPO, "model.bin", target)


def test_a_download_of_another_commit_starts_again(hub, target):
    hub.add_hub(REPO, "config.json", SMALL * 9, large=False, truncate=(99, 50))
    with pytest.raises(FetchError, match="broke off"):
        fetch_from_hub(REPO, "config.json", target)
    path = hub.add_hub(REPO, "config.json", LARGE, large=False, commit="d" * 40)
    fetch_from_hub(REPO, "config.json", target)
    assert hub.starts(path) == [None]
    assert target.read_bytes() == LARGE


def test_threads_that_want_the_same_file_download_it_once(hub, target):
    hub.add_hub(REPO, "model.bin", LARGE, large=True, rate=600_000)
    threads = [
        threading.Thread(target=fetch_from_hub, args=(REPO, "model.bin", target)) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert body_sizes(hub) == [len(LARGE)]
    assert target.read_bytes() == LARGE


@pytest.mark.parametrize("variable", ["ZOO_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize("cached", [None, "whole", "damaged"])
def test_offline_copies_from_the_cache_of_huggingface_hub(
    hub, target, monkeypatch, variable, cached
):
    if cached:
        from huggingface_hub import hf_hub_download

        hub.add_hub(REPO, "model.bin", LARGE, large=True)
        cached_file = hf_hub_download(REPO, "model.bin", endpoint=hub.address)
        if cached == "damaged":
            shutil.copyfile(__file__, cached_file)
    hub.requests.clear()
    if variable == "ZOO_OFFLINE":
        monkeypatch.setenv(variable, "1")
    else:
        monkeypatch.setattr(constants, variable, True)

    def fail(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", fail)
    if cached == "whole":
        assert fetch_from_hub(REPO, "model.bin", target) == hashlib.sha256(LARGE).hexdigest()
        assert target.read_bytes() == LARGE
        assert list_names(target) == [LOCK, "weights"]
    else:
        with pytest.raises(OfflineError, match=f"^{variable} is set: {REPO}/model.bin at main"):
            fetch_from_hub(REPO, "model.bin", target)
        # Nothing is created: the folder need not be writable.
        assert not target.parent.exists()
    assert hub.requests == []


def test_an_interrupted_copy_is_not_resumed_as_a_download(hub, target, monkeypatch):
    from huggingface_hub import hf_hub_download

    def interrupt(source, copy):
        Path(copy).write_bytes(SMALL)
        raise KeyboardInterrupt

    path = hub.add_hub(REPO, "model.bin", LARGE, large=True)
    hf_hub_download(REPO, "model.bin", endpoint=hub.address)
    leave_partial(target, f"{hub.address}/{REPO}/resolve/{'c' * 40}/model.bin", LARGE[:1000])
    monkeypatch.setattr(shutil, "copyfile", interrupt)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(KeyboardInterrupt):
        fetch_from_hub(REPO, "model.bin", target)
    monkeypatch.delenv("ZOO_OFFLINE")
    hub.requests.clear()
    fetch_from_hub(REPO, "model.bin", target)
    assert hub.starts(path) == [None]
