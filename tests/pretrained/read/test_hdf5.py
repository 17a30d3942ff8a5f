"""Hostile HDF5: links out of the file, sizes larger than the data, and circles."""

import os
import struct
import zlib

import h5py
import numpy as np
import pytest

from tests.pretrained.read.hostile import assert_refused, damage, read_safely
from tests.pretrained.read.test_keras import BIAS, KERNEL, SCALE, write_legacy, write_variables
from zoo_pretrained import read


def write_files(tmp_path):
    """One .h5 and one .weights.h5."""
    with h5py.File(tmp_path / "a", "w") as file:
        weights = {"conv/kernel:0": KERNEL, "conv/bias:0": BIAS}
        write_legacy(file, {"conv": weights, "n": {"n/gamma:0": SCALE}}, model_config="{}")
    with h5py.File(tmp_path / "b", "w", libver="latest") as file:
        write_variables(file, "layers/conv2d", "stem", KERNEL, BIAS)
        write_variables(file, "layers/batch_normalization", "bn", SCALE, BIAS, BIAS, SCALE)
        file.create_dataset("packed/kernel", data=KERNEL, chunks=(3, 3, 2, 8), compression="gzip")
    return [tmp_path / "a", tmp_path / "b"]


@pytest.mark.parametrize("seed", range(2))
def test_damaged_files_are_refused_or_give_arrays(tmp_path, seed):
    for sound in write_files(tmp_path):
        for number, copy in enumerate(damage(sound.read_bytes(), seed, flips=60)):
            path = tmp_path / f"{sound.name}{number}"
            path.write_bytes(copy)
            read_safely(path)


def test_opens_nothing_outside_the_file(tmp_path):
    """Opening the target, a pipe, would wait for ever."""
    outside = tmp_path / "outside"
    os.mkfifo(outside)
    virtual = h5py.VirtualLayout((4,), "f4")
    virtual[:] = h5py.VirtualSource(str(outside), "x", (4,))
    stored = [(str(outside), 0, 16)]

    def attacks():
        for link in (h5py.ExternalLink(str(outside), "/x"), h5py.SoftLink("/x/y")):
            for place in ("kernel", "layers", "vars", "model_weights", "_types", "layers/x/vars"):
                yield lambda file, place=place, link=link: file.__setitem__(place, link)
            yield lambda file, link=link: (
                write_legacy(file, {"a": {}}),
                file["a"].attrs.create("weight_names", ["w"], dtype="S9"),
                file.__setitem__("a/w", link),
            )
        yield lambda file: file.create_virtual_dataset("a/kernel", virtual)
        yield lambda file: file.create_dataset("a/kernel", (4,), "f4", external=stored)

    for number, attack in enumerate(attacks()):
        path = tmp_path / f"{number}"
        with h5py.File(path, "w") as file:
            attack(file)
            file["z/kernel"] = BIAS
        assert_refused(path)


def test_datasets_that_declare_more_than_they_have(tmp_path):
    def unwritten(shape, **options):
        return lambda file: file.create_dataset("a/kernel", shape, "f4", **options)

    def packed(raw, shape=(1000,), chunks=(1000,), **options):
        def write(file):
            options.setdefault("compression", "gzip")
            made = file.create_dataset("a/kernel", shape, "f4", chunks=chunks, **options)
            made.id.write_direct_chunk((0,) * len(shape), raw)

        return write

    bomb = zlib.compress(bytes(20_000_000), 9)
    attacks = [
        unwritten((4,)),
        unwritten((1 << 40,)),
        unwritten((1 << 20, 1 << 20, 1 << 10), fillvalue=1),
        unwritten((1 << 40,), chunks=(1 << 20,)),
        unwritten((1 << 40,), chunks=(1 << 20,), compression="gzip"),
        unwritten((1 << 28,), chunks=(1 << 28,)),
        unwritten((100,), chunks=(10,)),
        packed(bomb),  # more than a chunk holds
        packed(zlib.compress(bytes(3999))),
        packed(b"no zlib"),
        packed(zlib.compress(bytes(4000)), shape=(2000,)),
        packed(zlib.compress(bytes(4000)), shape=(1 << 40,)),
        packed(zlib.compress(bytes(4000)), chunks=(1 << 28,), shape=(1 << 28,)),
        packed(b"\0" * 4000, compression="lzf"),
        packed(b"\0" * 4000, compression=None, scaleoffset=2),
        packed(b"\0" * 400, compression=None),
    ]
    for number, attack in enumerate(attacks):
        path = tmp_path / f"{number}"
        with h5py.File(path, "w") as file:
            attack(file)
        found = read_safely(path)
        if isinstance(found, dict):  # inflating stops at the end of the chunk
            assert found["a/kernel"].nbytes == 4000


def test_refuses_one_dataset_under_many_names(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        file["a0/kernel"] = np.zeros(1_000_000, np.float32)
        for number in range(1, 5000):
            file[f"a{number}/kernel"] = file["a0/kernel"]
    assert_refused(tmp_path / "x", "declares more than")


def test_refuses_circles_and_deep_nesting(tmp_path):
    for name, places in {"self": ["a"], "layers": ["layers", "layers/b"], "up": ["a/b/c"]}.items():
        with h5py.File(tmp_path / name, "w") as file:
            for place in places:
                group = file.require_group(place.rpartition("/")[0] or "/")
                group[place.rpartition("/")[2]] = file["/"]
            file["z/kernel"] = BIAS
        assert_refused(tmp_path / name)
    with h5py.File(tmp_path / "deep", "w") as file:
        file["/".join("a" * 500) + "/kernel"] = BIAS
    assert_refused(tmp_path / "deep", "deeper than")
    with h5py.File(tmp_path / "wide", "w") as file:
        held = file.create_group("0")
        for number in range(1, 30):
            group = file.create_group(str(number))
            group["a"], group["b"] = held, held
            held = group
    assert_refused(tmp_path / "wide", "more than 20000 objects")


def test_attributes_with_wrong_content_or_types(tmp_path):
    """Names of missing layers, repeated names, and types other than text."""
    lists = {
        "missing": np.array([b"nothing"]),
        "empty name": np.array([b""]),
        "path": np.array([b"../a"]),
        "root": np.array([b"/"]),
        "self": np.array([b"."]),
        "numbers": np.arange(3),
        "a float": 2.5,
        "table": np.array([[b"a", b"a"]]),
        "twice": np.array([b"a", b"a"]),
        "not text": np.array([b"\xff\xfe"]),
        "dataset": np.array([b"a/kernel"]),
        "references": np.array([h5py.Reference()] * 2, h5py.ref_dtype),
        "records": np.zeros(2, [("a", "i4")]),
        "null": h5py.Empty("S3"),
        "many": np.array([b"a"] * 60_000),
    }
    for number, value in enumerate(lists.values()):
        for attribute in ("layer_names", "weight_names"):
            path = tmp_path / f"{attribute}{number}"
            with h5py.File(path, "w", libver="latest") as file:
                write_legacy(file, {"a": {"kernel": BIAS}})
                held = file if attribute == "layer_names" else file["a"]
                held.attrs[attribute] = value
            read_safely(path)
    for text in ("{", "[" * 200_000, '{"config": 3}', "[]", '{"config": {"layers": {"a": 1}}}'):
        with h5py.File(tmp_path / "config", "w") as file:
            write_legacy(file, {"a": {"kernel": BIAS}}, model_config=text)
        assert_refused(tmp_path / "config")
        (tmp_path / "config").unlink()


def test_corrupt_heaps_of_strings(tmp_path):
    """The HDF5 library reads some of these for ever, or clears gigabytes for a wrong length."""
    sound = tmp_path / "sound"
    with h5py.File(sound, "w") as file:
        write_legacy(file, {"a_layer": {"a_layer/kernel": BIAS}}, keras_version="2.15.0")
    assert list(read.arrays(sound)) == ["a_layer/kernel"]
    content = sound.read_bytes()
    heap = content.index(b"GCOL")
    pieces = struct.pack("<QI", heap, 1)
    element = content.index(pieces) - 4
    changes = [
        (heap, b"COLG"),
        (heap + 4, b"\x02"),
        (heap + 8, bytes(8)),
        (heap + 8, b"\xff" * 8),
        (heap + 16, bytes(16)),
        (heap + 16, bytes(2)),
        (heap + 24, b"\xff" * 8),
        (heap + 24, b"\xf0" + b"\xff" * 7),
        (heap + 24, bytes(8)),
        (element, b"\xff" * 4),
        (element, b"\x00\x00\x00\xff"),
        (element + 4, b"\xff" * 8),
        (element + 4, bytes(8)),
        (element + 4, struct.pack("<Q", heap + 16)),
        (element + 12, b"\xff" * 4),
        (element + 12, bytes(4)),
    ]
    for number, (place, value) in enumerate(changes):
        path = tmp_path / f"{number}"
        path.write_bytes(content[:place] + value + content[place + len(value) :])
        read_safely(path)
