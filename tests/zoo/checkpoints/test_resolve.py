"""Trained weights from upstream, and the cache that keeps them."""

import errno
import hashlib
import threading

import numpy as np
import pytest

import zoo
from tests.zoo.checkpoints import upstream
from tests.zoo.checkpoints.upstream import MODEL, WEIGHTS, same
from zoo_pretrained import cache, catalogue, fetch
from zoo_pretrained import checkpoint as store
from zoo_pretrained.checkpoint import DamagedError


class TestUpstream:
    def test_fetched_converted_and_cached(self, server, place, checkpoint, monkeypatch):
        assert zoo.list_models(trained=True) == [MODEL]
        trained = zoo.trained(MODEL)
        same(trained, checkpoint)
        assert trained.info.weights == WEIGHTS
        assert trained.info.source == f"{server.address}/models/squeeze.safetensors"
        assert (trained.info.licence, trained.info.top1) == ("BSD-3-Clause", 58.2)
        assert trained.preprocess(np.zeros((300, 400, 3), np.uint8)).shape == (1, 224, 224, 3)
        files = [path.name for path in (place / "downloads").iterdir() if path.suffix != ".lock"]
        assert files == []
        kept = store.restore(place / "checkpoints" / f"{MODEL}-{WEIGHTS}").metadata
        assert len(kept["source"]["sha256"]) == 64
        assert kept["kernel_convention"] == "cross-correlation"
        monkeypatch.setenv("ZOO_OFFLINE", "1")
        same(zoo.trained(zoo.SqueezeNet1_1, weights=WEIGHTS), checkpoint)
        assert len(server.requests) == 1

    def test_offline_says_what_would_be_fetched(self, server, place, monkeypatch):
        monkeypatch.setenv("ZOO_OFFLINE", "1")
        url = f"{server.address}/models/squeeze.safetensors"
        words = rf"ZOO_OFFLINE is set: {url} is not fetched.* SqueezeNet1_1 TEST takes about 4.9 MB"
        with pytest.raises(fetch.OfflineError, match=words):
            zoo.trained(MODEL)
        assert not server.requests

    def test_what_is_not_what_was_published(self, server, place, published):
        other = bytearray(published)
        other[-1] ^= 1
        server.add("/models/squeeze.safetensors", bytes(other))
        found = hashlib.sha256(other).hexdigest()
        want = hashlib.sha256(published).hexdigest()[:8]
        with pytest.raises(fetch.DigestError, match=f"{found}, expected {want}"):
            zoo.trained(MODEL)
        kept = place / "downloads" / f"squeeze.safetensors.bad-{found[:8]}"
        assert kept.read_bytes() == other
        assert not list((place / "checkpoints").glob("[!.]*"))
        assert [item.kind for item in cache.items()] == ["download"]

    def test_what_cannot_be_converted_is_not_lost(self, server, place, monkeypatch):
        body = upstream.body(num_classes=3)[:-5000]
        url = server.add("/models/cut.safetensors", body)
        monkeypatch.setattr(
            catalogue, "entries", lambda: {MODEL: {WEIGHTS: upstream.entry(url, body)}}
        )
        with pytest.raises(ValueError, match=r"cut\.safetensors"):
            zoo.trained(MODEL)
        assert (place / "downloads" / "cut.safetensors").read_bytes() == body

    def test_damage_in_the_cache_is_kept_aside_and_mended(self, server, place, checkpoint):
        zoo.trained(MODEL)
        path = place / "checkpoints" / f"{MODEL}-{WEIGHTS}"
        file = path / "variables" / "params.stem.kernel" / "0.0.0.0"
        content = bytearray(file.read_bytes())
        content[5] ^= 4
        file.write_bytes(content)
        with pytest.raises(DamagedError, match=r"0\.0\.0\.0' was changed.*kept at .*damaged-1"):
            zoo.trained(MODEL)
        assert not path.exists()
        assert (path.with_name(f"{path.name}.damaged-1") / file.relative_to(path)).read_bytes()
        assert {item.kind for item in cache.items()} == {"damaged"}
        same(zoo.trained(MODEL), checkpoint)
        assert len(server.requests) == 2

    def test_several_at_once_fetch_once(self, server, place, checkpoint):
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(zoo.trained(MODEL))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        for trained in found:
            same(trained, checkpoint)
        assert len(server.requests) == 1

    def test_a_cache_that_is_no_folder(self, place):
        place.write_text("")
        with pytest.raises(fetch.FetchError, match=f"{place}.*ZOO_CACHE"):
            zoo.trained(MODEL)


class TestCache:
    def test_what_is_there_and_pruning(self, place, monkeypatch):
        zoo.trained(MODEL)
        (place / "downloads" / "cut.pth.part").write_bytes(b"half")
        leftover = place / "checkpoints" / f".{MODEL}-{WEIGHTS}.abcd_123"
        leftover.mkdir()
        kinds = {item.name: item.kind for item in cache.items()}
        assert kinds == {
            f"{MODEL}-{WEIGHTS}": "checkpoint",
            leftover.name: "damaged",
            "cut.pth.part": "download",
        }
        (item,) = cache.items([f"{MODEL.lower()}*"])
        assert item.size == sum(f.stat().st_size for f in item.path.rglob("*") if f.is_file())
        with fetch.locked(item.path):  # somebody is making it just now
            assert {item.name for item in cache.prune()} == {"cut.pth.part"}
        assert {item.name for item in cache.prune()} == {leftover.name}
        assert [item.name for item in cache.items()] == [f"{MODEL}-{WEIGHTS}"]
        assert [item.name for item in cache.prune(["resnet*"])] == []
        with fetch.locked(item.path):
            assert cache.prune(["squeeze*"]) == []  # somebody is at it
        assert [item.name for item in cache.prune(["squeeze*"])] == [f"{MODEL}-{WEIGHTS}"]
        assert cache.items() == []

    def test_what_a_killed_process_left_goes_with_the_next(self, place):
        leftover = place / "checkpoints" / f".{MODEL}-{WEIGHTS}.abcd_123" / "made"
        others = place / "checkpoints" / f".{MODEL}-{WEIGHTS}.v2.abcd_123" / "made"
        for folder in (leftover, others):
            folder.mkdir(parents=True)
        zoo.trained(MODEL)
        assert not leftover.parent.exists()
        assert others.exists()

    def test_a_folder_that_is_no_checkpoint_is_set_aside(self, place, checkpoint):
        odd = place / "checkpoints" / f"{MODEL}-{WEIGHTS}"
        odd.mkdir(parents=True)
        (odd / "file").write_text("mine")
        same(zoo.trained(MODEL), checkpoint)
        assert (odd.with_name(f"{odd.name}.damaged-1") / "file").read_text() == "mine"

    def test_damage_that_cannot_be_set_aside(self, place, checkpoint, monkeypatch):
        """As in a cache that can only be read: the damage is told all the same."""
        zoo.trained(MODEL)
        path = place / "checkpoints" / f"{MODEL}-{WEIGHTS}"
        (path / "metadata" / "metadata").write_text("{}")

        def refuse(path):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(cache, "set_aside", refuse)
        with pytest.raises(DamagedError, match="'metadata/metadata' was changed"):
            zoo.trained(MODEL)
