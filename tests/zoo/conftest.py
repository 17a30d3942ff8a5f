"""Fixtures: a server with the weights of one model, and a checkpoint of them."""

import pytest

import zoo
from tests.pretrained.server import run_server
from tests.zoo.checkpoints import upstream
from tests.zoo.checkpoints.upstream import MODEL, WEIGHTS
from zoo_pretrained import catalogue, fetch


@pytest.fixture
def server():
    with run_server() as running:
        yield running


@pytest.fixture(scope="module")
def published():
    return upstream.body()


@pytest.fixture
def cache_folder(server, published, monkeypatch, tmp_path):
    """The cache's folder; the catalogue lists only the model whose weights the server has."""
    url = server.add("/models/squeeze.safetensors", published)
    entries = {MODEL: {WEIGHTS: upstream.entry(url, published)}}
    monkeypatch.setattr(catalogue, "entries", lambda: entries)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "BACKOFF", 0.01)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def checkpoint(published, tmp_path_factory):
    """A checkpoint with these weights."""
    folder = tmp_path_factory.mktemp("converted")
    (folder / "file").write_bytes(published)
    zoo.convert(folder / "file", MODEL, folder / "mine")
    return folder / "mine"
