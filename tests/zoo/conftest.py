"""A model whose weights a server has, and a checkpoint of them."""

import pytest

import zoo
from tests.pretrained.server import serving
from tests.zoo.checkpoints import upstream
from tests.zoo.checkpoints.upstream import MODEL, WEIGHTS
from zoo_pretrained import catalogue, fetch


@pytest.fixture
def server():
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def published():
    return upstream.body()


@pytest.fixture
def place(server, published, monkeypatch, tmp_path):
    """The cache's folder; the catalogue has one model, whose weights the server has."""
    url = server.add("/models/squeeze.safetensors", published)
    entries = {MODEL: {WEIGHTS: upstream.entry(url, published)}}
    monkeypatch.setattr(catalogue, "entries", lambda: entries)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "BACKOFF", 0.01)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def checkpoint(published, tmp_path_factory):
    """The same weights, converted once."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "file").write_bytes(published)
    zoo.convert(folder / "file", MODEL, folder / "mine")
    return folder / "mine"
