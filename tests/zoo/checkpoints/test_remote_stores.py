"""Trained weights from stores, folders, archives and addresses."""

import hashlib
import json
import threading

import numpy as np
import pytest

import zoo
from tests.zoo.checkpoints import upstream
from tests.zoo.checkpoints.upstream import MODEL, WEIGHTS, same
from zoo_pretrained import archive, cache, fetch, remote_store, resolve
from zoo_pretrained import checkpoint as store
from zoo_pretrained.checkpoint import CheckpointError


def published_to(base, checkpoint, tmp_path, weights="ours"):
    """Publishes the checkpoint under a name of a group's own."""
    variables, metadata = store.restore(checkpoint)
    store.save(tmp_path / weights, variables, {**metadata, "weights": weights}, overwrite=True)
    return remote_store.publish([tmp_path / weights], base, overwrite=True)


class TestStores:
    def test_a_folder(self, place, checkpoint, tmp_path, monkeypatch):
        (item,) = published_to(str(tmp_path / "store"), checkpoint, tmp_path)
        assert item.archive == f"{MODEL}-ours-{item.sha256[:8]}.tar"
        monkeypatch.setenv("ZOO_STORES", f"{tmp_path / 'none'}, {tmp_path / 'store'}")
        monkeypatch.setenv("ZOO_OFFLINE", "1")  # a folder needs no network
        with pytest.warns(UserWarning, match="none is passed over: .*has no index.json"):
            same(zoo.trained(MODEL, weights="ours"), checkpoint)
        monkeypatch.delenv("ZOO_STORES")
        same(zoo.trained(MODEL, weights="ours"), checkpoint)  # cached

    def test_a_web_server_before_upstream(self, server, place, checkpoint, tmp_path, monkeypatch):
        (item,) = published_to(str(tmp_path / "store"), checkpoint, tmp_path, WEIGHTS)
        for file in (tmp_path / "store").glob("[!.]*"):
            server.add(f"/store/{file.name}", file.read_bytes())
        monkeypatch.setenv("ZOO_STORES", f"{server.address}/store/")
        origin = resolve.list_origins()[MODEL][WEIGHTS]
        assert (origin.kind, origin.place) == ("store", f"{server.address}/store/{item.archive}")
        same(zoo.trained(MODEL), checkpoint)
        assert {request.path for request in server.requests} == {
            "/store/index.json",
            f"/store/{item.archive}",
        }
        assert resolve.list_origins()[MODEL][WEIGHTS].kind == "cache"

    def test_any_file_system_that_fsspec_knows(self, place, checkpoint, tmp_path, monkeypatch):
        published_to("memory://bucket/store", checkpoint, tmp_path)
        published_to("memory://bucket/store", checkpoint, tmp_path, "more")
        monkeypatch.setenv("ZOO_STORES", "memory://bucket/store")
        assert set(resolve.list_origins()[MODEL]) == {WEIGHTS, "ours", "more"}
        same(zoo.trained(MODEL, weights="more"), checkpoint)

    def test_one_that_is_down_is_passed_over_in_words(self, server, place, checkpoint, monkeypatch):
        monkeypatch.setenv("ZOO_STORES", f"http://me:secret@{server.host}/gone?key=secret")
        with pytest.warns(UserWarning, match=r"/gone is passed over: .* answered 404") as warned:
            same(zoo.trained(MODEL), checkpoint)
        assert "secret" not in str(warned[0].message)

    @pytest.mark.parametrize("web", [True, False])
    def test_an_archive_that_is_not_what_the_index_says(
        self, web, server, place, checkpoint, tmp_path, monkeypatch
    ):
        published_to(str(tmp_path / "store"), checkpoint, tmp_path)
        packed = next((tmp_path / "store").glob("*.tar"))
        content = bytearray(packed.read_bytes())
        content[-2000] ^= 1
        packed.write_bytes(content)
        for file in (tmp_path / "store").glob("[!.]*"):
            server.add(f"/store/{file.name}", file.read_bytes())
        base = f"{server.address}/store" if web else str(tmp_path / "store")
        monkeypatch.setenv("ZOO_STORES", base)
        with pytest.raises(fetch.DigestError, match=f"{MODEL}-ours-.*.tar has the sha256"):
            zoo.trained(MODEL, weights="ours")
        assert not list((place / "checkpoints").glob("[!.]*"))

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
    def test_an_index_that_lies(self, change, place, checkpoint, tmp_path):
        published_to(str(tmp_path / "store"), checkpoint, tmp_path)
        file = tmp_path / "store" / "index.json"
        index = json.loads(file.read_text())
        index["checkpoints"][MODEL]["ours"] |= change
        file.write_text(json.dumps(index))
        with pytest.raises(
            remote_store.StoreError, match=f"index.json of {tmp_path / 'store'} cannot"
        ):
            remote_store.read_index(str(tmp_path / "store"))

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2}', '{"format": 1}', "\xff"])
    def test_what_is_no_index(self, text, tmp_path):
        (tmp_path / "index.json").write_text(text, encoding="latin-1")
        with pytest.raises(remote_store.StoreError, match=r"index\.json of .* cannot be used"):
            remote_store.read_index(str(tmp_path))

    def test_names_that_lead_elsewhere_are_refused(self, checkpoint, tmp_path):
        variables, metadata = store.restore(checkpoint)
        store.save(tmp_path / "bad", variables, {**metadata, "weights": "../up"})
        with pytest.raises(remote_store.StoreError, match=r"'\.\./up' is no name"):
            remote_store.publish([tmp_path / "bad"], str(tmp_path / "store"))

    def test_publishing_twice_needs_a_word(self, checkpoint, tmp_path):
        base = str(tmp_path / "store")
        remote_store.publish([checkpoint], base)
        with pytest.raises(remote_store.StoreError, match=f"has {MODEL} mine already"):
            remote_store.publish([checkpoint], base)
        variables, metadata = store.restore(checkpoint)
        store.save(tmp_path / "mine", variables, {**metadata, "licence": "another"})
        (item,) = remote_store.publish([tmp_path / "mine"], base, overwrite=True)
        assert {path.name for path in (tmp_path / "store").glob("[!.]*")} == {
            item.archive,
            "index.json",
        }

    def test_readers_of_the_old_index_find_what_it_lists(self, checkpoint, tmp_path, monkeypatch):
        """A publisher that is killed before it writes the index has changed nothing."""
        base = str(tmp_path / "store")
        (before,) = remote_store.publish([checkpoint], base)
        variables, metadata = store.restore(checkpoint)
        store.save(tmp_path / "mine", variables, {**metadata, "licence": "another"})
        real = remote_store._put

        def put(base, name, file):
            if name == remote_store.INDEX:
                raise KeyboardInterrupt
            real(base, name, file)

        monkeypatch.setattr(remote_store, "_put", put)
        with pytest.raises(KeyboardInterrupt):
            remote_store.publish([tmp_path / "mine"], base, overwrite=True)
        assert remote_store.read_index(base)[MODEL]["mine"] == before
        remote_store.download_archive(before, tmp_path / "got")
        assert store.restore(tmp_path / "got").metadata.get("licence") != "another"

    def test_two_at_once_lose_nothing(self, checkpoint, tmp_path):
        base, names = str(tmp_path / "store"), [f"w{number}" for number in range(4)]
        threads = [
            threading.Thread(target=published_to, args=(base, checkpoint, tmp_path, name))
            for name in names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(remote_store.read_index(base)[MODEL]) == set(names)

    def test_a_web_server_cannot_be_published_to(self, checkpoint):
        with pytest.raises(
            remote_store.StoreError, match=r"https://host/base cannot be written to"
        ):
            remote_store.publish([checkpoint], "https://me:secret@host/base?key=secret")

    @pytest.mark.parametrize("base", ["", "file", "file/below"])
    def test_where_nothing_can_be_published(self, base, checkpoint, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(remote_store.StoreError, match=r"got ''|file.* cannot be written to"):
            remote_store.publish([checkpoint], str(tmp_path / base) if base else "")

    def test_what_a_store_lists_under_another_models_name(
        self, place, checkpoint, tmp_path, monkeypatch
    ):
        published_to(str(tmp_path / "store"), checkpoint, tmp_path)
        file = tmp_path / "store" / "index.json"
        file.write_text(file.read_text().replace(f'"{MODEL}":', '"ResNet18":'))
        monkeypatch.setenv("ZOO_STORES", str(tmp_path / "store"))
        with pytest.raises(
            remote_store.StoreError, match=f"holds a {MODEL}, not a ResNet18; .* kept"
        ):
            zoo.trained("ResNet18", weights="ours")

    @pytest.mark.parametrize("answer", ["offline", "down"])
    def test_what_only_an_unreachable_store_may_have(self, answer, server, place, monkeypatch):
        """Its error is the one that counts, not that there are no such weights."""
        monkeypatch.setenv("ZOO_STORES", f"{server.address}/store")
        if answer == "offline":
            monkeypatch.setenv("ZOO_OFFLINE", "1")
        kind = fetch.OfflineError if answer == "offline" else fetch.FetchError
        with pytest.raises(kind, match=r"store/index\.json"):
            zoo.trained(MODEL, weights="ours")

    def test_cached_weights_of_a_store_are_listed_without_it(
        self, place, checkpoint, tmp_path, monkeypatch
    ):
        published_to(str(tmp_path / "store"), checkpoint, tmp_path)
        monkeypatch.setenv("ZOO_STORES", str(tmp_path / "store"))
        zoo.trained(MODEL, weights="ours")
        monkeypatch.delenv("ZOO_STORES")
        assert resolve.list_origins()[MODEL]["ours"].kind == "cache"

    @pytest.mark.parametrize("fault", ["planted", "longer", "changed"])
    def test_a_file_system_that_lies(self, fault, place, checkpoint, tmp_path, monkeypatch):
        """What is there already is verified too; no more is read than the index says."""
        import fsspec

        base = f"memory://bucket/{fault}"
        (item,) = published_to(base, checkpoint, tmp_path)
        monkeypatch.setenv("ZOO_STORES", base)
        content = fsspec.filesystem("memory").cat_file(f"/bucket/{fault}/{item.archive}")
        target = cache.download(f"{item.sha256[:16]}-{item.archive}")
        if fault == "planted":
            target.parent.mkdir(parents=True)
            target.write_bytes(b"another archive")
            same(zoo.trained(MODEL, weights="ours"), checkpoint)
            return
        wrong = content + bytes(3 << 20) if fault == "longer" else bytes(len(content))
        fsspec.filesystem("memory").pipe_file(f"/bucket/{fault}/{item.archive}", wrong)
        words = "has more than" if fault == "longer" else "kept as .*bad-"
        with pytest.raises(fetch.FetchError, match=words):
            zoo.trained(MODEL, weights="ours")
        written = [path for path in target.parent.iterdir() if path.name.startswith(target.name)]
        assert all(path.stat().st_size <= len(content) + (1 << 20) for path in written)


class TestPlaces:
    def test_a_folder(self, checkpoint):
        same(zoo.trained(MODEL, weights=checkpoint), checkpoint)
        same(zoo.trained(MODEL, weights=str(checkpoint)), checkpoint)

    def test_an_archive(self, checkpoint, tmp_path):
        archive.pack(checkpoint, tmp_path / "mine.tar")
        same(zoo.trained(MODEL, weights=tmp_path / "mine.tar"), checkpoint)

    def test_an_address_with_its_sum(self, server, place, checkpoint, tmp_path):
        archive.pack(checkpoint, tmp_path / "mine.tar")
        content = (tmp_path / "mine.tar").read_bytes()
        url = server.add("/mine.tar", content)
        sha256 = hashlib.sha256(content).hexdigest()
        for _ in range(2):
            same(zoo.trained(MODEL, weights=f"{url}#sha256={sha256}"), checkpoint)
        assert len(server.requests) == 1
        with pytest.raises(fetch.DigestError):
            zoo.trained(MODEL, weights=f"{url}#sha256={'0' * 64}")
        with pytest.raises(remote_store.StoreError, match="#sha256= with 64 digits"):
            zoo.trained(MODEL, weights=f"{url}#sha256=0123")

    def test_an_address_in_a_store(self, server, place, checkpoint, tmp_path, monkeypatch):
        (item,) = remote_store.publish([checkpoint], str(tmp_path / "store"))
        for file in (tmp_path / "store").glob("[!.]*"):
            server.add(f"/store/{file.name}", file.read_bytes())
        url = f"{server.address}/store/{item.archive}"
        same(zoo.trained(MODEL, weights=url), checkpoint)
        with monkeypatch.context() as patch:
            patch.setenv("ZOO_OFFLINE", "1")
            same(zoo.trained(MODEL, weights=url), checkpoint)
        with pytest.raises(
            remote_store.StoreError, match=r"no archive 'x\.tar'.*nothing verifies it"
        ):
            zoo.trained(MODEL, weights=f"{server.address}/store/x.tar")

    def test_another_models(self, checkpoint):
        with pytest.raises(CheckpointError, match=f"{checkpoint} holds a {MODEL}, not a ResNet18"):
            zoo.trained("ResNet18", weights=checkpoint)

    def test_what_does_not_fit(self, checkpoint, tmp_path):
        variables, metadata = store.restore(checkpoint)
        del variables["params"]["stem"]
        store.save(tmp_path / "mine", variables, metadata)
        words = r"mine does not fit SqueezeNet1_1: params/stem/bias has shape None"
        with pytest.raises(CheckpointError, match=words):
            zoo.trained(MODEL, weights=tmp_path / "mine")
        store.save(tmp_path / "odd", variables, {"arguments": {"depth": 3}})
        with pytest.raises(CheckpointError, match="arguments that SqueezeNet1_1 does not take"):
            zoo.trained(MODEL, weights=tmp_path / "odd")
        store.save(tmp_path / "bare", {"a": np.ones(3)}, {})
        with pytest.raises(CheckpointError, match="it has no params"):
            zoo.trained(MODEL, weights=tmp_path / "bare")

    @pytest.mark.parametrize(
        "metadata",
        [
            {"labels": "../../secret"},
            {"labels": 5},
            {"preprocessing": {"size": 224}},
            {"preprocessing": [1]},
            {"source": ["a"]},
            {"accuracy": "high"},
        ],
    )
    def test_metadata_of_anybodys(self, metadata, checkpoint, tmp_path):
        store.save(tmp_path / "odd", store.restore(checkpoint).variables, metadata)
        with pytest.raises(CheckpointError, match="metadata of these weights cannot be used"):
            zoo.trained(MODEL, weights=tmp_path / "odd")

    def test_a_name_goes_before_a_folder(self, checkpoint, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        variables, metadata = store.restore(checkpoint)
        for folder in ("mine", "IMAGENET1K_V1"):
            store.save(tmp_path / folder, variables, {**metadata, "licence": "mine"})
        assert zoo.trained(MODEL, weights="mine").info.licence == "mine"
        monkeypatch.setenv("ZOO_OFFLINE", "1")
        with pytest.raises(fetch.OfflineError):
            zoo.trained(MODEL, weights="IMAGENET1K_V1")
        assert zoo.trained(MODEL, weights="./IMAGENET1K_V1").info.licence == "mine"

    def test_nothing_there(self, tmp_path):
        with pytest.raises(CheckpointError, match=f"no checkpoint at {tmp_path}/none"):
            zoo.trained(MODEL, weights=tmp_path / "none")

    def test_ones_own_with_no_metadata(self, tmp_path):
        """The classes are counted, and the rest is what is usual."""
        (tmp_path / "file").write_bytes(upstream.body(num_classes=7))
        zoo.convert(tmp_path / "file", MODEL, tmp_path / "whole")
        store.save(tmp_path / "mine", store.restore(tmp_path / "whole").variables, {})
        trained = zoo.trained(MODEL, weights=tmp_path / "mine")
        assert trained.model.num_classes == 7
        assert trained.info.labels[6] == ("", "class 6")
        assert trained.info.preprocessing.size == 224
        store.save(tmp_path / "named", trained.variables, {"labels": list("abcdefg")})
        assert zoo.trained(MODEL, weights=tmp_path / "named").info.labels[6].name == "g"

    def test_images_of_other_channels(self, checkpoint, tmp_path):
        _, variables = zoo.adapt(zoo.trained(MODEL, weights=checkpoint), channels=1)
        store.save(tmp_path / "grey", variables, {})
        grey = zoo.trained(MODEL, weights=tmp_path / "grey")
        assert grey(np.zeros((1, 64, 64, 1), np.float32)).shape == (1, 1000)
