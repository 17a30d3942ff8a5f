"""What tests with a server share."""

import pytest

from tests.pretrained.server import serving
from zoo_pretrained import fetch


@pytest.fixture(scope="session")
def shared_server():
    with serving() as running:
        yield running


@pytest.fixture
def server(shared_server, plain):
    """A server without files yet."""
    shared_server.files.clear()
    shared_server.requests.clear()
    return shared_server


@pytest.fixture
def target(tmp_path):
    """A file to be, in a folder to be."""
    return tmp_path / "cache" / "model.bin"


@pytest.fixture
def plain(monkeypatch):
    """No settings of this machine, and no waiting."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "ZOO_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("ZOO_TIMEOUT", "5")
    monkeypatch.setattr(fetch, "BACKOFF", 0.001)
