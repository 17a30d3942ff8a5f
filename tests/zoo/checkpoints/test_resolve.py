"""Trained weights from their publisher, and the cache that keeps them."""

import errno
import hashlib
import threading

import numpy as np
import pytest

import zoo
from tests.zoo.checkpoints import upstream
from tests.zoo.checkpoints.upstream import MODEL, WEIGHTS, assert_same_variables
from zoo_pretrained import cache, catalogue, fetch, restore, save
from zoo_pretrained.checkpoint import DamagedError


class TestUpstream:
    def test_weights_are_fetched_converted_and_cached(
        self, server, cache_folder, checkpoint, monkeypatch
    ):
        assert zoo.list_models(trained=True) == [MODEL]
        trained = zoo.trained(MODEL)
        assert_same_variables(trained, checkpoint)
        assert trained.info.weights == WEIGHTS
        assert trained.info.source == f"{server.address}/models/squeeze.safetensors"
        assert (trained.info.licence, trained.info.top1) == ("BSD-3-Clause", 58.2)
        assert trained.preprocess(np.zeros((300, 400, 3), np.uint8)).shape == (1, 224, 224, 3)
        files = [
            path.name for path in (cache_folder / "downloads").iterdir() if path.suffix != ".lock"
        ]
        assert files == []
        metadata = restore(cache_folder / "checkpoints" / f"{MODEL}-{WEIGHTS}").metadata
        assert len(metadata["source"]["sha256"]) == 64
        assert metadata["kernel_convention"] == "cross-correlation"
        monkeypatch.setenv("ZOO_OFFLINE", "1")
        assert_same_variables(zoo.trained(zoo.SqueezeNet1_1, weights=WEIGHTS), checkpoint)
        assert len(server.requests) == 1

    def test_offline_the_message_says_what_would_be_fetched(
        self, server, cache_folder, monkeypatch
    ):
        monkeypatch.setenv("ZOO_OFFLINE", "1")
        url = f"{server.address}/models/squeeze.safetensors"
        words = rf"ZOO_OFFLINE is set: {url} is not fetched.* SqueezeNet1_1 TEST takes about 4.9 MB"
        with pytest.raises(fetch.OfflineError, match=words):
            zoo.trained(MODEL)
        assert not server.requests

    def test_raises_for_a_file_with_another_digest(self, server, cache_folder, published):
        other = bytearray(published)
        other[-1] ^= 1
        server.add("/models/squeeze.safetensors", bytes(other))
        found = hashlib.sha256(other).hexdigest()
        want = hashlib.sha256(published).hexdigest()[:8]
        with pytest.raises(fetch.DigestError, match=f"{found}, expected {want}"):
            zoo.trained(MODEL)
        bad = cache_folder / "downloads" / f"squeeze.safetensors.bad-{found[:8]}"
        assert bad.read_bytes() == other
        assert not list((cache_folder / "checkpoints").glob("[!.]*"))
        assert [item.kind for item in cache.items()] == ["download"]

    def test_a_file_that_cannot_be_converted_is_kept(self, server, cache_folder, monkeypatch):
        body = upstream.body(num_classes=3)[:-5000]
        url = server.add("/models/cut.safetensors", body)
        monkeypatch.setattr(
            catalogue, "entries", lambda: {MODEL: {WEIGHTS: upstream.entry(url, body)}}
        )
        with pytest.raises(ValueError, match=r"cut\.safetensors"):
            zoo.trained(MODEL)
        assert (cache_folder / "downloads" / "cut.safetensors").read_bytes() == body

    def test_a_damaged_checkpoint_is_renamed_and_replaced(self, server, cache_folder, checkpoint):
        zoo.trained(MODEL)
        path = cache_folder / "checkpoints" / f"{MODEL}-{WEIGHTS}"
        file = path / "variables" / "params.stem.kernel" / "0.0.0.0"
        content = bytearray(file.read_bytes())
        content[5] ^= 4
        file.write_bytes(content)
        with pytest.raises(DamagedError, match=r"0\.0\.0\.0' was changed.*kept at .*damaged-1"):
            zoo.trained(MODEL)
        assert not path.exists()
        assert (path.with_name(f"{path.name}.damaged-1") / file.relative_to(path)).read_bytes()
        assert {item.kind for item in cache.items()} == {"damaged"}
        assert_same_variables(zoo.trained(MODEL), checkpoint)
        assert len(server.requests) == 2

    def test_threads_that_want_the_same_weights_fetch_them_once(
        self, server, cache_folder, checkpoint
    ):
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
            assert_same_variables(trained, checkpoint)
        assert len(server.requests) == 1

    def test_raises_for_a_cache_that_is_not_a_folder(self, cache_folder):
        cache_folder.write_text("")
        with pytest.raises(fetch.FetchError, match=f"{cache_folder}.*ZOO_CACHE"):
            zoo.trained(MODEL)


class TestCache:
    def test_items_and_prune(self, cache_folder, monkeypatch):
        zoo.trained(MODEL)
        (cache_folder / "downloads" / "cut.pth.part").write_bytes(b"half")
        (cache_folder / "downloads" / ".cut.pth.lock").touch()  # as `fetch` leaves it
        leftover = cache_folder / "checkpoints" / f".{MODEL}-{WEIGHTS}.abcd_123"
        leftover.mkdir()
        kinds = {item.name: item.kind for item in cache.items()}
        assert kinds == {
            f"{MODEL}-{WEIGHTS}": "checkpoint",
            leftover.name: "damaged",
            "cut.pth.part": "download",
        }
        (item,) = cache.items([f"{MODEL.lower()}*"])
        assert item.size == sum(f.stat().st_size for f in item.path.rglob("*") if f.is_file())
        with fetch.hold_lock(item.path):  # another process is making it
            assert {item.name for item in cache.prune()} == {"cut.pth.part"}
        assert {item.name for item in cache.prune()} == {leftover.name}
        assert [item.name for item in cache.items()] == [f"{MODEL}-{WEIGHTS}"]
        assert [item.name for item in cache.prune(["resnet*"])] == []
        with fetch.hold_lock(item.path):
            assert cache.prune(["squeeze*"]) == []  # another process is using it
        assert [item.name for item in cache.prune(["squeeze*"])] == [f"{MODEL}-{WEIGHTS}"]
        assert cache.items() == []

    def test_prune_removes_only_what_is_ours(self, tmp_path, monkeypatch):
        """ZOO_CACHE may be a folder where people keep files of their own under these names."""
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
        kept = []
        for folder in ("downloads", "checkpoints", "compiled"):
            (tmp_path / folder).mkdir()
            for name in ("thesis.pdf", "model.pth.part", ".hidden.abcd_123", "epoch-7"):
                (tmp_path / folder / name).mkdir()
                kept.append(tmp_path / folder / name)
                (kept[-1] / "file").touch()
        save(tmp_path / "checkpoints" / "mine", {"w": np.ones(3)}, {})
        ours = tmp_path / "downloads" / "net.pth.bad-0123abcd"
        ours.touch()
        (tmp_path / "downloads" / ".net.pth.lock").touch()
        assert [item.path for item in cache.items()] == [ours]
        assert [item.path for item in cache.prune(["*"])] == [ours]
        assert not ours.exists()
        assert all((folder / "file").exists() for folder in kept)
        assert (tmp_path / "checkpoints" / "mine").exists()

    def test_compiled_programs_are_pruned(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
        (tmp_path / "compiled").mkdir()
        for name in ("jit_f-0123-cache", "jit_f-0123-atime", ".lockfile"):
            (tmp_path / "compiled" / name).touch()
        assert [item.kind for item in cache.prune()] == ["compiled"]
        assert not (tmp_path / "compiled").exists()

    def test_leftovers_of_killed_processes_are_removed(self, cache_folder):
        leftover = cache_folder / "checkpoints" / f".{MODEL}-{WEIGHTS}.abcd_123" / "new"
        others = cache_folder / "checkpoints" / f".{MODEL}-{WEIGHTS}.v2.abcd_123" / "new"
        for folder in (leftover, others):
            folder.mkdir(parents=True)
        zoo.trained(MODEL)
        assert not leftover.parent.exists()
        assert others.exists()

    def test_a_folder_that_is_not_a_checkpoint_is_renamed(self, cache_folder, checkpoint):
        odd = cache_folder / "checkpoints" / f"{MODEL}-{WEIGHTS}"
        odd.mkdir(parents=True)
        (odd / "file").write_text("mine")
        assert_same_variables(zoo.trained(MODEL), checkpoint)
        assert (odd.with_name(f"{odd.name}.damaged-1") / "file").read_text() == "mine"

    def test_damage_in_a_read_only_cache(self, cache_folder, checkpoint, monkeypatch):
        """The damaged checkpoint cannot be renamed, but the message names the damage."""
        zoo.trained(MODEL)
        path = cache_folder / "checkpoints" / f"{MODEL}-{WEIGHTS}"
        (path / "metadata" / "metadata").write_text("{}")

        def refuse(path):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(cache, "quarantine", refuse)
        with pytest.raises(DamagedError, match="'metadata/metadata' was changed"):
            zoo.trained(MODEL)
