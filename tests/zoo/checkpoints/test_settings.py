"""Environment variables that make no sense are an error of one line, which names them."""

import pytest

import zoo
from tests.zoo.checkpoints.upstream import MODEL
from zoo_pretrained import fetch, resolve
from zoo_pretrained.checkpoint import CheckpointError


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("http://[bad", "got 'http://\\[bad'"),
        ("http://example.org/store", "use https"),
        ("https:///store", "must name a host"),
        ("~nosuchuser/store", "got '~nosuchuser/store'"),
        ("file://[x", "got 'file://\\[x'"),
    ],
)
def test_stores_that_make_no_sense_are_an_error_of_one_line(
    value, words, cache_folder, monkeypatch
):
    monkeypatch.setenv("ZOO_STORES", value)
    for call in (resolve.list_locations, lambda: zoo.trained(MODEL)):
        with pytest.raises(fetch.SettingError, match=f"^ZOO_STORES must .*{words}"):
            call()


def test_a_cache_of_nobody_is_an_error_of_one_line(cache_folder, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", "~nosuchuser/cache")
    with pytest.raises(fetch.SettingError, match=r"^ZOO_CACHE must be a folder, got '~nosuch"):
        zoo.trained(MODEL)
    with pytest.raises(CheckpointError, match="no checkpoint at ~nosuchuser/mine"):
        zoo.trained(MODEL, weights="~nosuchuser/mine")
