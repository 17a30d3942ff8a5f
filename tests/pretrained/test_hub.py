"""Files of the Hugging Face hub, from a stand-in for it: verified, in one copy, and no secrets."""

import hashlib
import logging
import random
import shutil
import socket
import warnings

import pytest

import pretrained.fetch as package
from pretrained.fetch import DigestError, FetchError, OfflineError
from pretrained.hub import fetch_hub
from tests.pretrained.server import serving

constants = pytest.importorskip("huggingface_hub.constants")

LARGE = random.Random(2).randbytes(300_000)
SMALL = b'{"architecture": "resnet50"}'
REPO = "zoo/toy"
LOCK = ".weights.lock"
TOKEN = "hf_t0kent0ken"


@pytest.fixture(scope="module")
def shared():
    with serving() as running:
        yield running


@pytest.fixture
def hub(shared, monkeypatch, tmp_path):
    """The stand-in, and none of this machine's settings."""
    from huggingface_hub import utils

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "ZOO_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("ZOO_TIMEOUT", "5")
    monkeypatch.setenv("HF_ENDPOINT", shared.address)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    home = tmp_path / "home"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / "agents.json"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(package, "BACKOFF", 0.001)
    # Between its own tries; everything there waits by this function.
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    shared.files.clear()
    shared.requests.clear()
    yield shared
    utils.close_session()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "weights"


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


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
    sent = {
        request.path.split("/")[1]: request.headers.get("authorization") for request in hub.requests
    }
    assert sent["zoo"] == f"Bearer {TOKEN}"
    assert sent["store"] is None


@pytest.mark.parametrize("large", [True, False])
def test_other_bytes_than_the_hub_names_are_kept_aside(hub, target, large):
    digest = "a" * (64 if large else 40)
    hub.add_hub(REPO, "model.bin", LARGE, large=large, digest=digest)
    with pytest.raises(DigestError, match=f"^{REPO}/model.bin at main has .* expected {digest}"):
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
    assert names(target) == [LOCK]


@pytest.mark.parametrize("where", ["head", "body"])
def test_a_hub_in_trouble_is_asked_again(hub, target, where):
    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    path = f"/{REPO}/resolve/main/model.bin"
    if where == "body":
        path = f"/store/{hashlib.sha256(LARGE).hexdigest()}"
    hub.files[path].statuses = [503, 500]
    fetch_hub(REPO, "model.bin", target)
    assert target.read_bytes() == LARGE


@pytest.mark.parametrize("fault", ["truncate", "reset", "stall"])
def test_a_download_goes_on_where_it_broke_off(hub, target, fault):
    hub.add_hub(REPO, "model.bin", LARGE, large=True, **{fault: (2, 100_000)})
    fetch_hub(REPO, "model.bin", target)
    assert target.read_bytes() == LARGE


def test_a_hub_that_keeps_silent(hub, target, monkeypatch):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.1")
    hub.add_hub(REPO, "config.json", SMALL, large=False, slow_headers=0.3)
    with pytest.raises(FetchError, match=r"the hub gave no answer in 0.1 s"):
        fetch_hub(REPO, "config.json", target)
    hub.add_hub(REPO, "model.bin", LARGE, large=True, stall=(99, 0))
    monkeypatch.setenv("ZOO_TIMEOUT", "5")
    with pytest.raises(FetchError, match=r"the hub went silent|no connection to the hub"):
        fetch_hub(REPO, "model.bin", target)
    assert names(target) == [LOCK]


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


def test_an_interrupt_leaves_nothing(hub, target):
    def interrupt(done, total):
        raise KeyboardInterrupt

    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    with pytest.raises(KeyboardInterrupt):
        fetch_hub(REPO, "model.bin", target, progress=interrupt)
    assert names(target) == [LOCK]


def test_what_a_killed_download_left_is_swept(hub, target):
    left = target.parent / ".weights.hub" / ".cache" / "huggingface" / "download"
    left.mkdir(parents=True)
    (left / "abc.incomplete").write_bytes(LARGE)
    hub.add_hub(REPO, "model.bin", LARGE, large=True)
    fetch_hub(REPO, "model.bin", target)
    assert names(target) == [LOCK, "weights"]


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
    assert hub.requests == []
