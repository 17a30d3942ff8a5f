"""Files of the Hugging Face hub, from a stand-in for it: verified, in one copy, and no secrets."""

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

from tests.pretrained.fetch.fetching import leave, names
from zoo_pretrained.fetch import DigestError, FetchError, OfflineError
from zoo_pretrained.hub import fetch_hub

LARGE = random.Random(2).randbytes(300_000)
SMALL = b'{"architecture": "resnet50"}'
REPO = "zoo/toy"
LOCK = ".weights.lock"
TOKEN = "hf_t0kent0ken"


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """The stand-in, and none of this machine's settings."""
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


def who(hub):
    """The first part of each path that was asked for, and what was told of who asks."""
    return [(r.path.split("/")[1], r.headers.get("authorization")) for r in hub.requests]


def bodies(hub):
    return [request.sent for request in hub.requests if request.sent]


@pytest.mark.parametrize(("filename", "body"), [("model.bin", LARGE), ("a/config.json", SMALL)])
def test_a_download_is_verified_and_the_only_copy(hub, target, tmp_path, capfd, filename, body):
    hub.add_hub(REPO, filename, body, large=body is LARGE)
    told = []
    sha256 = hashlib.sha256(body).hexdigest()
    assert fetch_hub(REPO, filename, target, progress=lambda *now: told.append(now)) == sha256
    assert target.read_bytes() == body
    assert names(target) == [LOCK, "weights"]
    assert not (tmp_path / "home" / "hub").exists()
    assert told[-1] == (len(body), len(body))
    assert bodies(hub) == [len(body)]
    # Its own bars and warnings are not shown.
    assert capfd.readouterr() == ("", "")
    assert fetch_hub(REPO, filename, target) == sha256
    assert bodies(hub) == [len(body)]


def test_what_is_damaged_or_of_another_revision_is_replaced(hub, target):
    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    target.parent.mkdir()
    target.write_bytes(SMALL)
    fetch_hub(REPO, "model.bin", target, revision="c" * 40)
    assert target.read_bytes() == LARGE


def test_the_token_stays_with_the_hub(hub, target):
    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    fetch_hub(REPO, "model.bin", target)
    assert sorted(who(hub)) == [("store", None), *[("zoo", f"Bearer {TOKEN}")] * 2]


@pytest.mark.parametrize("large", [True, False])
def test_the_token_of_a_login_unless_that_is_forbidden(hub, target, monkeypatch, large):
    monkeypatch.delenv("HF_TOKEN")
    path = hub.add_hub(REPO, "model.bin", LARGE, large=large)
    Path(constants.HF_TOKEN_PATH).parent.mkdir()
    Path(constants.HF_TOKEN_PATH).write_text("hf_l0gin\n")
    fetch_hub(REPO, "model.bin", target)
    assert ("zoo", "Bearer hf_l0gin") in who(hub)
    hub.requests.clear()
    target.unlink()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    fetch_hub(REPO, "model.bin", target)
    assert {told for _, told in who(hub)} == {None}
    assert hub.requests[-1].path == path


def test_what_is_kept_in_xet_comes_over_plain_http(hub, target):
    path = hub.add_hub(REPO, "model.bin", LARGE, large=True, xet=True)
    assert fetch_hub(REPO, "model.bin", target) == hashlib.sha256(LARGE).hexdigest()
    asked = [request.path for request in hub.requests]
    commit = "c" * 40
    resolve = f"/{REPO}/resolve"
    assert asked == [f"{resolve}/main/model.bin", f"{resolve}/{commit}/model.bin", path]


@pytest.mark.parametrize("large", [True, False])
def test_other_bytes_than_the_hub_names_are_kept_aside(hub, target, large):
    digest = "a" * (64 if large else 40)
    hub.add_hub(REPO, "model.bin", LARGE, large=large, digest=digest)
    with pytest.raises(DigestError, match=f"/{REPO}/resolve/c+/model.bin has .* expected {digest}"):
        fetch_hub(REPO, "model.bin", target)
    (bad,) = (name for name in names(target) if name != LOCK)
    assert bad.startswith("weights.bad-")
    assert target.with_name(bad).read_bytes() == LARGE


@pytest.mark.parametrize("digest", ["abc", "A" * 64, "g" * 40])
def test_what_the_hub_has_no_digest_of(hub, target, digest):
    hub.add_hub(REPO, "model.bin", LARGE, large=True, digest=digest)
    with pytest.raises(FetchError, match="names no digest of it"):
        fetch_hub(REPO, "model.bin", target)
    assert bodies(hub) == []


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
def test_what_the_hub_refuses(hub, target, status, code, words):
    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    file = hub.files[f"/{REPO}/resolve/main/model.bin"]
    file.statuses = [status] * 9
    file.headers = {"X-Error-Code": code, "X-Error-Message": f"see {TOKEN}"}
    with pytest.raises(FetchError, match=f"^{REPO}/model.bin at main: .*{words}$") as caught:
        fetch_hub(REPO, "model.bin", target)
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not target.parent.exists()


@pytest.mark.parametrize("where", ["head", "body"])
def test_a_hub_in_trouble_is_asked_again(hub, target, where):
    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    path = f"/{REPO}/resolve/main/model.bin"
    if where == "body":
        path = f"/store/{hashlib.sha256(LARGE).hexdigest()}"
    hub.files[path].statuses = [503, 429]
    fetch_hub(REPO, "model.bin", target)
    assert target.read_bytes() == LARGE


@pytest.mark.parametrize("fault", ["truncate", "reset", "stall"])
@pytest.mark.parametrize("large", [True, False])
def test_a_download_goes_on_where_it_broke_off(hub, target, monkeypatch, fault, large):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.3")
    path = hub.add_hub(REPO, "model.bin", LARGE, large=large, **{fault: (2, 100_000)})

    def turn(file):
        file.redirect += "1"

    if large:  # each address is signed anew
        hub.files[f"/{REPO}/resolve/{'c' * 40}/model.bin"].turn = turn
    fetch_hub(REPO, "model.bin", target)
    assert target.read_bytes() == LARGE
    starts = hub.starts(path)
    assert starts == [None, 100_000, 200_000] if fault != "reset" else len(starts) == 3


def test_a_store_that_dribbles(hub, target, monkeypatch):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.1")
    hub.add_hub(REPO, "model.bin", LARGE, large=True, dribble=0.02)
    with pytest.raises(FetchError, match=r"less than 16 KiB came in 0.1 s \(5 tries\)"):
        fetch_hub(REPO, "model.bin", target)


def test_a_hub_that_keeps_silent(hub, target, monkeypatch):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.1")
    hub.add_hub(REPO, "config.json", SMALL, large=False, slow_headers=0.3)
    with pytest.raises(FetchError, match=r"the hub gave no answer in 0.1 s"):
        fetch_hub(REPO, "config.json", target)
    hub.add_hub(REPO, "model.bin", LARGE, large=True, stall=(99, 0))
    with pytest.raises(FetchError, match=r"no answer in 0.1 s|stalled"):
        fetch_hub(REPO, "model.bin", target)


def test_nobody_there(hub, target, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(FetchError, match=r"no connection to the hub \(5 tries\)"):
        fetch_hub(REPO, "model.bin", target)


def test_what_is_no_hub(hub, target):
    hub.add(f"/{REPO}/resolve/main/model.bin", b"<html>welcome</html>")
    with pytest.raises(FetchError, match="names no digest"):
        fetch_hub(REPO, "model.bin", target)
    for repo in ("a/b/c", "../up", ""):
        with pytest.raises(FetchError, match="none that the hub allows"):
            fetch_hub(repo, "model.bin", target)


def test_no_secret_is_told(hub, target, caplog):
    """Neither the token nor a signed address, at any level, in what succeeds or fails."""
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
        fetch_hub(REPO, "model.bin", target)
        target.unlink()
        hub.files[f"/store/{hashlib.sha256(LARGE).hexdigest()}"].statuses = [403]
        with pytest.raises(FetchError, match="answered 403") as caught:
            fetch_hub(REPO, "model.bin", target)
    finally:
        root.propagate = propagates
        for name, level in before:
            logging.getLogger(name).setLevel(level)
    everything = caplog.text + str(caught.value)
    assert TOKEN not in everything
    assert "signature" not in everything


def test_no_room(hub, target, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=12_345))
    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FetchError, match=r"300.0 kB needed, 12.3 kB free; ZOO_CACHE"):
            fetch_hub(REPO, "model.bin", target)
    assert names(target) == [LOCK]


def test_an_interrupt_keeps_what_has_come(hub, target):
    def interrupt(done, total):
        raise KeyboardInterrupt

    path = hub.add_hub(REPO, "model.bin", LARGE, large=True)
    with pytest.raises(KeyboardInterrupt):
        fetch_hub(REPO, "model.bin", target, progress=interrupt)
    kept = target.with_name("weights.part").stat().st_size
    fetch_hub(REPO, "model.bin", target)
    assert hub.starts(path) == [None, kept]
    assert names(target) == [LOCK, "weights"]


def test_the_hub_says_how_long_it_is(hub, target):
    """So that what is whole is not asked for, and what is not is no whole file."""
    path = hub.add_hub(REPO, "model.bin", LARGE, large=True)
    leave(target, f"{hub.address}/{REPO}/resolve/{'c' * 40}/model.bin", LARGE)
    fetch_hub(REPO, "model.bin", target)
    assert hub.starts(path) == []
    hub.files[path].body = LARGE[:1000]
    target.unlink()
    with pytest.raises(FetchError, match=r"has 1000 bytes, expected 300000$"):
        fetch_hub(REPO, "model.bin", target)


def test_another_commit_is_begun_anew(hub, target):
    hub.add_hub(REPO, "config.json", SMALL * 9, large=False, truncate=(99, 50))
    with pytest.raises(FetchError, match="broke off"):
        fetch_hub(REPO, "config.json", target)
    path = hub.add_hub(REPO, "config.json", LARGE, large=False, commit="d" * 40)
    fetch_hub(REPO, "config.json", target)
    assert hub.starts(path) == [None]
    assert target.read_bytes() == LARGE


def test_several_at_once_download_once(hub, target):
    hub.add_hub(REPO, "model.bin", LARGE, large=True, rate=600_000)
    threads = [threading.Thread(target=fetch_hub, args=(REPO, "model.bin", target)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies(hub) == [len(LARGE)]
    assert target.read_bytes() == LARGE


@pytest.mark.parametrize("variable", ["ZOO_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize("cached", [None, "whole", "damaged"])
def test_offline_a_copy_of_its_own_cache_will_do(hub, target, monkeypatch, variable, cached):
    if cached:
        from huggingface_hub import hf_hub_download

        hub.add_hub(REPO, "model.bin", LARGE, large=True)
        own = hf_hub_download(REPO, "model.bin", endpoint=hub.address)
        if cached == "damaged":
            shutil.copyfile(__file__, own)
    hub.requests.clear()
    if variable == "ZOO_OFFLINE":
        monkeypatch.setenv(variable, "1")
    else:
        monkeypatch.setattr(constants, variable, True)

    def fail(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", fail)
    if cached == "whole":
        assert fetch_hub(REPO, "model.bin", target) == hashlib.sha256(LARGE).hexdigest()
        assert target.read_bytes() == LARGE
        assert names(target) == [LOCK, "weights"]
    else:
        with pytest.raises(OfflineError, match=f"^{variable} is set: {REPO}/model.bin at main"):
            fetch_hub(REPO, "model.bin", target)
        # It is no matter whether that place could be written to.
        assert not target.parent.exists()
    assert hub.requests == []


def test_a_copy_that_breaks_off_is_no_part_of_a_download(hub, target, monkeypatch):
    from huggingface_hub import hf_hub_download

    def interrupt(source, copy):
        Path(copy).write_bytes(SMALL)
        raise KeyboardInterrupt

    path = hub.add_hub(REPO, "model.bin", LARGE, large=True)
    hf_hub_download(REPO, "model.bin", endpoint=hub.address)
    leave(target, f"{hub.address}/{REPO}/resolve/{'c' * 40}/model.bin", LARGE[:1000])
    monkeypatch.setattr(shutil, "copyfile", interrupt)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(KeyboardInterrupt):
        fetch_hub(REPO, "model.bin", target)
    monkeypatch.delenv("ZOO_OFFLINE")
    hub.requests.clear()
    fetch_hub(REPO, "model.bin", target)
    assert hub.starts(path) == [None]
