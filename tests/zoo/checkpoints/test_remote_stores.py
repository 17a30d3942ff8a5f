"""Trained weights that are loaded from stores, folders, archives and addresses."""

import hashlib
import json
import shutil
import threading

import numpy as np
import pytest

import zoo
import zoo.checkpoints.weights as weights_module
from tests.pretrained.unchecked import save_unchecked
from tests.zoo.checkpoints import upstream
from tests.zoo.checkpoints.upstream import MODEL, WEIGHTS, assert_same_variables
from zoo_pretrained import archive, cache, fetch, remote_store, resolve, restore, save
from zoo_pretrained.checkpoint import CheckpointError
from zoo_pretrained.remote_store import StoreError


def publish_as(store, checkpoint, tmp_path, weights="ours"):
    """Publishes the checkpoint under another weights' name."""
    variables, metadata = restore(checkpoint)
    save(tmp_path / weights, variables, {**metadata, "weights": weights}, overwrite=True)
    return remote_store.publish([tmp_path / weights], store, overwrite=True)


class TestStores:
    def test_weights_from_a_folder(self, cache_folder, checkpoint, tmp_path, monkeypatch):
        (stored,) = publish_as(str(tmp_path / "store"), checkpoint, tmp_path)
        assert stored.archive == f"{MODEL}-ours-{stored.sha256[:8]}.tar"
        monkeypatch.setenv("ZOO_STORES", f"{tmp_path / 'none'}, {tmp_path / 'store'}")
        monkeypatch.setenv("ZOO_OFFLINE", "1")  # a folder needs no network
        with pytest.warns(UserWarning, match="none is skipped: .*has no index.json"):
            assert_same_variables(zoo.trained(MODEL, weights="ours"), checkpoint)
        monkeypatch.delenv("ZOO_STORES")
        assert_same_variables(zoo.trained(MODEL, weights="ours"), checkpoint)  # cached

    def test_a_store_is_preferred_to_the_publisher(
        self, server, cache_folder, checkpoint, tmp_path, monkeypatch
    ):
        (stored,) = publish_as(str(tmp_path / "store"), checkpoint, tmp_path, WEIGHTS)
        for file in (tmp_path / "store").glob("[!.]*"):
            server.add(f"/store/{file.name}", file.read_bytes())
        monkeypatch.setenv("ZOO_STORES", f"{server.address}/store/")
        location = resolve.list_locations()[MODEL][WEIGHTS]
        assert (location.kind, location.location) == (
            "store",
            f"{server.address}/store/{stored.archive}",
        )
        assert_same_variables(zoo.trained(MODEL), checkpoint)
        assert {request.path for request in server.requests} == {
            "/store/index.json",
            f"/store/{stored.archive}",
        }
        assert resolve.list_locations()[MODEL][WEIGHTS].kind == "cache"

    def test_weights_through_fsspec(self, cache_folder, checkpoint, tmp_path, monkeypatch):
        publish_as("memory://bucket/store", checkpoint, tmp_path)
        publish_as("memory://bucket/store", checkpoint, tmp_path, "more")
        monkeypatch.setenv("ZOO_STORES", "memory://bucket/store")
        assert set(resolve.list_locations()[MODEL]) == {WEIGHTS, "ours", "more"}
        assert_same_variables(zoo.trained(MODEL, weights="more"), checkpoint)

    def test_a_store_that_is_down_is_skipped_with_a_warning(
        self, server, cache_folder, checkpoint, monkeypatch
    ):
        monkeypatch.setenv("ZOO_STORES", f"http://me:secret@{server.host}/gone?key=secret")
        with pytest.warns(UserWarning, match=r"/gone is skipped: .* answered 404") as warned:
            assert_same_variables(zoo.trained(MODEL), checkpoint)
        assert "secret" not in str(warned[0].message)

    @pytest.mark.parametrize("web", [True, False])
    def test_raises_for_an_archive_with_another_digest(
        self, web, server, cache_folder, checkpoint, tmp_path, monkeypatch
    ):
        publish_as(str(tmp_path / "store"), checkpoint, tmp_path)
        packed = next((tmp_path / "store").glob("*.tar"))
        content = bytearray(packed.read_bytes())
        content[-2000] ^= 1
        packed.write_bytes(content)
        for file in (tmp_path / "store").glob("[!.]*"):
            server.add(f"/store/{file.name}", file.read_bytes())
        store = f"{server.address}/store" if web else str(tmp_path / "store")
        monkeypatch.setenv("ZOO_STORES", store)
        with pytest.raises(fetch.DigestError, match=f"{MODEL}-ours-.*.tar has the sha256"):
            zoo.trained(MODEL, weights="ours")
        assert not list((cache_folder / "checkpoints").glob("[!.]*"))

    @pytest.mark.parametrize("damage", ["no checksums", "a wrong one", "no metadata"])
    def test_an_unsound_archive_never_enters_the_cache(
        self, damage, server, cache_folder, checkpoint, tmp_path, monkeypatch
    ):
        """Without an end it was found unfinished, set aside and fetched again."""
        publish_as(str(tmp_path / "store"), checkpoint, tmp_path)
        shutil.copytree(checkpoint, tmp_path / "bad")
        name = "metadata/metadata" if damage == "no metadata" else "SHA256SUMS"
        (tmp_path / "bad" / name).unlink()
        if damage == "a wrong one":
            (tmp_path / "bad" / name).write_text("0" * 64 + "  \x1b[31m\n")
        file = tmp_path / "store" / "index.json"
        index = json.loads(file.read_text())
        packed = tmp_path / "bad.tar"
        unpacked = archive.pack(tmp_path / "bad", packed)
        content = packed.read_bytes()
        index["checkpoints"][MODEL]["ours"] = {
            "archive": "bad.tar",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "unpacked": unpacked,
        }
        server.add("/store/index.json", json.dumps(index).encode())
        server.add("/store/bad.tar", content)
        monkeypatch.setenv("ZOO_STORES", f"{server.address}/store")
        with pytest.raises(archive.ArchiveError, match="holds no sound checkpoint: ") as caught:
            zoo.trained(MODEL, weights="ours")
        assert str(caught.value).isprintable()
        assert [request.path for request in server.requests].count("/store/bad.tar") == 1
        assert not list((cache_folder / "checkpoints").glob("[!.]*"))

    @pytest.mark.parametrize("where", ["store", "publisher"])
    def test_prune_beside_fetch_loses_no_download(
        self, where, server, cache_folder, checkpoint, tmp_path, monkeypatch
    ):
        """At the moment when it is complete, and not yet unpacked or converted."""
        pruned = []

        def prune_first(function):
            def wrapped(*args, **kwargs):
                pruned.append([item.name for item in cache.prune()])
                return function(*args, **kwargs)

            return wrapped

        if where == "store":
            publish_as(str(tmp_path / "store"), checkpoint, tmp_path)
            for file in (tmp_path / "store").glob("[!.]*"):
                server.add(f"/store/{file.name}", file.read_bytes())
            monkeypatch.setenv("ZOO_STORES", f"{server.address}/store")
            monkeypatch.setattr(remote_store, "_unpack", prune_first(remote_store._unpack))
        else:
            convert = weights_module.convert_published
            monkeypatch.setattr(weights_module, "convert_published", prune_first(convert))
        trained = zoo.trained(MODEL, weights="ours" if where == "store" else None)
        assert_same_variables(trained, checkpoint)
        assert pruned == [[]]

    @pytest.mark.parametrize(
        "change",
        [
            {"archive": "../../outside.tar"},
            {"archive": "/etc/passwd"},
            {"sha256": "no sum"},
            {"size": -1},
            {"size": "large"},
            {"unpacked": 1 << 50},
            {"archive": None},
        ],
    )
    def test_raises_for_an_index_with_impossible_values(
        self, change, cache_folder, checkpoint, tmp_path
    ):
        publish_as(str(tmp_path / "store"), checkpoint, tmp_path)
        file = tmp_path / "store" / "index.json"
        index = json.loads(file.read_text())
        index["checkpoints"][MODEL]["ours"] |= change
        file.write_text(json.dumps(index))
        with pytest.raises(StoreError, match=f"index.json of {tmp_path / 'store'} cannot"):
            remote_store.read_index(str(tmp_path / "store"))

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2}', '{"format": 1}', "\xff"])
    def test_raises_for_a_malformed_index(self, text, tmp_path):
        (tmp_path / "index.json").write_text(text, encoding="latin-1")
        with pytest.raises(StoreError, match=r"index\.json of .* cannot be used"):
            remote_store.read_index(str(tmp_path))

    def test_publish_refuses_names_that_are_paths(self, checkpoint, tmp_path):
        variables, metadata = restore(checkpoint)
        save(tmp_path / "bad", variables, {**metadata, "weights": "../up"})
        with pytest.raises(StoreError, match=r"'\.\./up' is not a name"):
            remote_store.publish([tmp_path / "bad"], str(tmp_path / "store"))

    def test_publish_replaces_a_checkpoint_only_with_overwrite(self, checkpoint, tmp_path):
        store = str(tmp_path / "store")
        remote_store.publish([checkpoint], store)
        with pytest.raises(StoreError, match=f"has {MODEL} mine already"):
            remote_store.publish([checkpoint], store)
        variables, metadata = restore(checkpoint)
        save(tmp_path / "mine", variables, {**metadata, "licence": "another"})
        (stored,) = remote_store.publish([tmp_path / "mine"], store, overwrite=True)
        assert {path.name for path in (tmp_path / "store").glob("[!.]*")} == {
            stored.archive,
            stored.archive.replace(".tar", ".md"),
            "index.json",
        }

    def test_readers_of_the_old_index_find_what_it_lists(self, checkpoint, tmp_path, monkeypatch):
        """A process that is killed before it writes the index has changed nothing."""
        store = str(tmp_path / "store")
        (previous,) = remote_store.publish([checkpoint], store)
        variables, metadata = restore(checkpoint)
        save(tmp_path / "mine", variables, {**metadata, "licence": "another"})
        upload = remote_store.upload

        def fail_on_index(store, name, file):
            if name == remote_store.INDEX:
                raise KeyboardInterrupt
            upload(store, name, file)

        monkeypatch.setattr(remote_store, "upload", fail_on_index)
        with pytest.raises(KeyboardInterrupt):
            remote_store.publish([tmp_path / "mine"], store, overwrite=True)
        assert remote_store.read_index(store)[MODEL]["mine"] == previous
        remote_store.download_archive(previous, tmp_path / "got", lambda *_: None)
        assert restore(tmp_path / "got").metadata.get("licence") != "another"

    def test_several_threads_publish_at_once(self, checkpoint, tmp_path):
        store, names = str(tmp_path / "store"), [f"w{number}" for number in range(4)]
        threads = [
            threading.Thread(target=publish_as, args=(store, checkpoint, tmp_path, name))
            for name in names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(remote_store.read_index(store)[MODEL]) == set(names)

    def test_publish_refuses_web_servers(self, checkpoint):
        with pytest.raises(StoreError, match=r"https://host/store cannot be written to"):
            remote_store.publish([checkpoint], "https://me:secret@host/store?key=secret")

    @pytest.mark.parametrize("store", ["", "file", "file/below"])
    def test_raises_for_stores_that_cannot_be_created(self, store, checkpoint, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match=r"got ''|file.* cannot be written to"):
            remote_store.publish([checkpoint], str(tmp_path / store) if store else "")

    def test_raises_for_a_checkpoint_listed_under_another_model(
        self, cache_folder, checkpoint, tmp_path, monkeypatch
    ):
        publish_as(str(tmp_path / "store"), checkpoint, tmp_path)
        file = tmp_path / "store" / "index.json"
        file.write_text(file.read_text().replace(f'"{MODEL}":', '"ResNet18":'))
        monkeypatch.setenv("ZOO_STORES", str(tmp_path / "store"))
        with pytest.raises(StoreError, match=f"holds a {MODEL}, not a ResNet18"):
            zoo.trained("ResNet18", weights="ours")
        assert not list((cache_folder / "checkpoints").glob("[!.]*"))

    def test_a_checkpoint_that_does_not_fit_never_enters_the_cache(
        self, cache_folder, checkpoint, tmp_path, monkeypatch
    ):
        """So that it does not stay to break what comes later."""
        variables, metadata = restore(checkpoint)
        metadata["preprocessing"]["interpolation"] = "cubic"
        save_unchecked(tmp_path / "bad", variables, {**metadata, "weights": "ours"})
        with pytest.raises(StoreError, match="bad cannot be used: preprocessing: interpolation"):
            remote_store.publish([tmp_path / "bad"], str(tmp_path / "store"))
        with monkeypatch.context() as patch:  # somebody else has published it
            patch.setattr(remote_store, "check_checkpoint", lambda *_: None)
            (stored,) = remote_store.publish([tmp_path / "bad"], str(tmp_path / "store"))
        monkeypatch.setenv("ZOO_STORES", str(tmp_path / "store"))
        for weights in ("ours", f"{tmp_path}/store/{stored.archive}"):
            with pytest.raises(CheckpointError, match="preprocessing: interpolation must be one"):
                zoo.trained(MODEL, weights=weights)
        assert not list((cache_folder / "checkpoints").glob("[!.]*"))

    @pytest.mark.parametrize("answer", ["offline", "down"])
    def test_raises_where_the_only_store_is_unreachable(
        self, answer, server, cache_folder, monkeypatch
    ):
        """With the store's error, not that there are no such weights."""
        monkeypatch.setenv("ZOO_STORES", f"{server.address}/store")
        if answer == "offline":
            monkeypatch.setenv("ZOO_OFFLINE", "1")
        kind = fetch.OfflineError if answer == "offline" else fetch.FetchError
        with pytest.raises(kind, match=r"store/index\.json"):
            zoo.trained(MODEL, weights="ours")

    def test_cached_weights_are_listed_without_their_store(
        self, cache_folder, checkpoint, tmp_path, monkeypatch
    ):
        publish_as(str(tmp_path / "store"), checkpoint, tmp_path)
        monkeypatch.setenv("ZOO_STORES", str(tmp_path / "store"))
        zoo.trained(MODEL, weights="ours")
        monkeypatch.delenv("ZOO_STORES")
        assert resolve.list_locations()[MODEL]["ours"].kind == "cache"

    @pytest.mark.parametrize("fault", ["planted", "longer", "changed"])
    def test_archives_through_fsspec_are_verified(
        self, fault, cache_folder, checkpoint, tmp_path, monkeypatch
    ):
        """A cached download is verified too, and no more is read than the index says."""
        import fsspec

        store = f"memory://bucket/{fault}"
        (stored,) = publish_as(store, checkpoint, tmp_path)
        monkeypatch.setenv("ZOO_STORES", store)
        content = fsspec.filesystem("memory").cat_file(f"/bucket/{fault}/{stored.archive}")
        target = cache.download_path(f"{stored.sha256[:16]}-{stored.archive}")
        if fault == "planted":
            target.parent.mkdir(parents=True)
            target.write_bytes(b"another archive")
            assert_same_variables(zoo.trained(MODEL, weights="ours"), checkpoint)
            return
        wrong = content + bytes(3 << 20) if fault == "longer" else bytes(len(content))
        fsspec.filesystem("memory").pipe_file(f"/bucket/{fault}/{stored.archive}", wrong)
        words = "has more than" if fault == "longer" else "kept as .*bad-"
        with pytest.raises(fetch.FetchError, match=words):
            zoo.trained(MODEL, weights="ours")
        written = [path for path in target.parent.iterdir() if path.name.startswith(target.name)]
        assert all(path.stat().st_size <= len(content) + (1 << 20) for path in written)


class TestLocations:
    def test_weights_in_a_folder(self, checkpoint):
        assert_same_variables(zoo.trained(MODEL, weights=checkpoint), checkpoint)
        assert_same_variables(zoo.trained(MODEL, weights=str(checkpoint)), checkpoint)

    def test_weights_in_an_archive(self, checkpoint, tmp_path):
        archive.pack(checkpoint, tmp_path / "mine.tar")
        assert_same_variables(zoo.trained(MODEL, weights=tmp_path / "mine.tar"), checkpoint)

    def test_an_address_with_a_digest(self, server, cache_folder, checkpoint, tmp_path):
        archive.pack(checkpoint, tmp_path / "mine.tar")
        content = (tmp_path / "mine.tar").read_bytes()
        url = server.add("/mine.tar", content)
        sha256 = hashlib.sha256(content).hexdigest()
        for _ in range(2):
            assert_same_variables(zoo.trained(MODEL, weights=f"{url}#sha256={sha256}"), checkpoint)
        assert len(server.requests) == 1
        with pytest.raises(fetch.DigestError):
            zoo.trained(MODEL, weights=f"{url}#sha256={'0' * 64}")
        with pytest.raises(StoreError, match="#sha256= with 64 digits"):
            zoo.trained(MODEL, weights=f"{url}#sha256=0123")

    def test_an_address_in_a_store(self, server, cache_folder, checkpoint, tmp_path, monkeypatch):
        (stored,) = remote_store.publish([checkpoint], str(tmp_path / "store"))
        for file in (tmp_path / "store").glob("[!.]*"):
            server.add(f"/store/{file.name}", file.read_bytes())
        url = f"{server.address}/store/{stored.archive}"
        assert_same_variables(zoo.trained(MODEL, weights=url), checkpoint)
        with monkeypatch.context() as patch:
            patch.setenv("ZOO_OFFLINE", "1")
            assert_same_variables(zoo.trained(MODEL, weights=url), checkpoint)
        with pytest.raises(StoreError, match=r"no archive 'x\.tar'.*nothing verifies it"):
            zoo.trained(MODEL, weights=f"{server.address}/store/x.tar")

    def test_raises_for_another_models_checkpoint(self, checkpoint):
        with pytest.raises(CheckpointError, match=f"{checkpoint} holds a {MODEL}, not a ResNet18"):
            zoo.trained("ResNet18", weights=checkpoint)

    def test_raises_for_a_checkpoint_that_does_not_fit(self, checkpoint, tmp_path):
        variables = restore(checkpoint).variables
        del variables["params"]["stem"]
        save(tmp_path / "mine", variables, {})
        words = r"mine does not fit SqueezeNet1_1: params/stem/bias has shape None"
        with pytest.raises(CheckpointError, match=words):
            zoo.trained(MODEL, weights=tmp_path / "mine")
        save(tmp_path / "odd", variables, {"arguments": {"depth": 3}})
        with pytest.raises(CheckpointError, match="its arguments cannot be used: Sq"):
            zoo.trained(MODEL, weights=tmp_path / "odd")
        save(tmp_path / "bare", {"a": np.ones(3)}, {})
        with pytest.raises(CheckpointError, match="it has no params"):
            zoo.trained(MODEL, weights=tmp_path / "bare")

    def test_a_name_is_preferred_to_a_folder(self, checkpoint, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        variables, metadata = restore(checkpoint)
        for folder in ("mine", "IMAGENET1K_V1"):
            save(tmp_path / folder, variables, {**metadata, "licence": "mine"})
        assert zoo.trained(MODEL, weights="mine").info.licence == "mine"
        monkeypatch.setenv("ZOO_OFFLINE", "1")
        with pytest.raises(fetch.OfflineError):
            zoo.trained(MODEL, weights="IMAGENET1K_V1")
        assert zoo.trained(MODEL, weights="./IMAGENET1K_V1").info.licence == "mine"

    def test_raises_where_there_is_no_checkpoint(self, tmp_path):
        with pytest.raises(CheckpointError, match=f"no checkpoint at {tmp_path}/none"):
            zoo.trained(MODEL, weights=tmp_path / "none")

    def test_a_checkpoint_without_metadata(self, tmp_path):
        """The number of classes is that of the arrays; the rest has defaults."""
        (tmp_path / "file").write_bytes(upstream.body(num_classes=7))
        zoo.convert(tmp_path / "file", MODEL, tmp_path / "whole")
        save(tmp_path / "mine", restore(tmp_path / "whole").variables, {})
        trained = zoo.trained(MODEL, weights=tmp_path / "mine")
        assert trained.model.num_classes == 7
        assert trained.info.labels[6] == ("", "class 6")
        assert trained.info.preprocessing.size == 224
        save(tmp_path / "named", trained.variables, {"labels": list("abcdefg")})
        assert zoo.trained(MODEL, weights=tmp_path / "named").info.labels[6].name == "g"

    def test_a_checkpoint_for_images_of_one_channel(self, checkpoint, tmp_path):
        _, variables = zoo.adapt(zoo.trained(MODEL, weights=checkpoint), channels=1)
        save(tmp_path / "grey", variables, {})
        grey = zoo.trained(MODEL, weights=tmp_path / "grey")
        assert grey(np.zeros((1, 64, 64, 1), np.float32)).shape == (1, 1000)
