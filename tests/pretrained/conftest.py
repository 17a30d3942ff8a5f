"""Fixtures for tests with a server."""

import pytest

from tests.pretrained.server import run_server
from zoo_pretrained import fetch


@pytest.fixture(scope="session")
def shared_server():
    with run_server() as server:
        yield server


@pytest.fixture
def server(shared_server, clean_environment):
    """A server without files yet."""
    shared_server.files.clear()
    shared_server.requests.clear()
    return shared_server


@pytest.fixture
def target(tmp_path):
    """The path of a file to download, in a folder that does not exist yet."""
    return tmp_path / "cache" / "model.bin"


@pytest.fixture
def clean_environment(monkeypatch):
    """Ignores this machine's settings, and does not wait between tries."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "ZOO_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("ZOO_TIMEOUT", "5")
    monkeypatch.setattr(fetch, "BACKOFF", 0.001)
