"""Hostile zips, and damage to PyTorch's files."""

import struct
import warnings
import zipfile

import numpy as np

from tests.pretrained.read.hostile import (
    assert_refused,
    damage,
    pickle_value,
    read_safely,
    state_dict,
    storage,
    tensor,
    torch_legacy,
    torch_zip,
)
from zoo_pretrained import read

VALUE = {"x": tensor(storage("0", "Float", 1), (1,), (1,))}


def write_zip(path, entries, compression=zipfile.ZIP_STORED):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as file:
        warnings.simplefilter("ignore")  # about repeated names
        for name, content in entries:
            file.writestr(name, content)
    return path


def patch(path, offset, form, value, signature=b"PK\x01\x02"):
    """Overwrites a field of the last of the zip's headers that begin with a signature."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.rindex(signature) + offset, value)
    path.write_bytes(content)
    return path


def test_zip_names_lead_to_nothing_outside(tmp_path):
    sound, data = pickle_value(VALUE), np.ones(1, np.float32).tobytes()
    outside = tmp_path / "outside"
    for name in ("../outside", "/outside", str(outside), "it/../../outside", "it\\..\\outside"):
        path = write_zip(
            tmp_path / "x.pth", [("it/data.pkl", sound), ("it/data/0", data), (name, b"out")]
        )
        assert read.arrays(path)["x"] == 1
        assert not outside.exists()
        for key in (name, f"../{name}"):
            value = pickle_value({"x": tensor(storage(key, "Float", 1), (1,), (1,))})
            path = write_zip(tmp_path / "y.pth", [("it/data.pkl", value), ("it/data/0", data)])
            assert_refused(path, "is a zip without")


def test_refuses_zips_with_missing_doubled_or_wrong_members(tmp_path):
    sound, data = ("it/data.pkl", pickle_value(VALUE)), ("it/data/0", bytes(4))
    members = [
        [],
        [data],
        [sound],
        [sound, sound, data],
        [sound, data, data],
        [sound, ("other/data.pkl", sound[1]), data],
        [sound, ("it/data/0", bytes(3))],
        [sound, ("it/data/0", b"")],
        [sound, data, ("it/byteorder", b"middle")],
        [sound, data, ("it/byteorder", b"little" * 1000)],
        [("model.weights.h5", b"no HDF5"), ("config.json", b"{}")],
        [("model.weights.h5", b""), ("config.json", b"{}")],
        [("config.json", b"{}")],
        [("config.json", b"[" * 500_000), ("model.weights.h5", b"")],
    ]
    for number, entries in enumerate(members):
        assert_refused(write_zip(tmp_path / f"{number}", entries))


def test_refuses_zip_bombs_and_unknown_compression(tmp_path):
    zeros, deflated = bytes(30_000_000), zipfile.ZIP_DEFLATED
    value = {"x": tensor(storage("0", "Byte", len(zeros)), (1,), (1,))}
    entries = [("it/data.pkl", pickle_value(value)), ("it/data/0", zeros)]
    assert_refused(write_zip(tmp_path / "a", entries, deflated), "times its own size")
    entries = [("it/data.pkl", bytes((64 << 20) + 1)), ("it/data/0", b"")]
    assert_refused(write_zip(tmp_path / "b", entries, deflated), "are the limit")
    entries = [("config.json", zeros), ("model.weights.h5", zeros)]
    assert_refused(write_zip(tmp_path / "c", entries, deflated), "are the limit")
    entries = [("config.json", b"{}"), ("model.weights.h5", zeros)]
    assert_refused(write_zip(tmp_path / "d", entries, deflated), "times its own size")
    small = [("it/data.pkl", pickle_value(VALUE)), ("it/data/0", bytes(1_000_000))]
    for size in (4, 1000, 999_999, 1_000_001, 1 << 31):  # other sizes than the inflated one
        path = write_zip(tmp_path / f"size{size}", small, deflated)
        assert_refused(patch(path, 24, "<I", size))
    for method in (1, 12, 14, 99):  # bzip2, lzma and others
        path = write_zip(tmp_path / f"method{method}", small)
        assert_refused(patch(path, 10, "<H", method), "compressed by method")
    assert_refused(patch(write_zip(tmp_path / "secret", small), 8, "<H", 1), "encrypted")
    path = write_zip(tmp_path / "sum", small, deflated)
    assert_refused(patch(path, 16, "<I", 7), "is damaged")


def test_sums_of_stored_members_are_compared(tmp_path):
    """A flipped bit of a weight is noticed, unless PyTorch was told to write no sums."""
    entries = [("it/data/0", bytes(4)), ("it/data.pkl", pickle_value(VALUE))]
    path = write_zip(tmp_path / "it.pth", entries)
    assert read.arrays(path)["x"] == 0
    content = path.read_bytes()
    changed = content.replace(bytes(4) + b"PK", b"\0\0\0\x40PK")
    path.write_bytes(changed)
    assert_refused(path, "is damaged: 'it/data/0' is not what the zip says of it")
    at = changed.index(b"PK\x01\x02")  # the first member's entry
    path.write_bytes(changed[: at + 16] + bytes(4) + changed[at + 20 :])
    assert read.arrays(path)["x"] == 2


def test_refuses_members_that_overlap_or_lie_outside(tmp_path):
    entries = [("it/data.pkl", pickle_value(VALUE)), ("it/data/0", bytes(4))]
    for number, (offset, form, value) in enumerate(
        [
            (42, "<I", 0),  # the second member is the first
            (42, "<I", 20),
            (42, "<I", 1 << 31),
            (20, "<I", 1 << 20),
            (20, "<I", 2),
            (24, "<I", 1 << 30),
        ]
    ):
        assert_refused(patch(write_zip(tmp_path / f"{number}", entries), offset, form, value))
    for number, (offset, value) in enumerate([(26, 60_000), (28, 60_000), (0, 0)]):
        path = write_zip(tmp_path / f"local{number}", entries)
        assert_refused(patch(path, offset, "<H", value, b"PK\x03\x04"))
    for offset in (28, 30):
        read_safely(patch(write_zip(tmp_path / f"name{offset}", entries), offset, "<H", 60_000))
    for number, (offset, form, value) in enumerate(
        [(10, "<H", 9), (12, "<I", 1 << 30), (16, "<I", 1 << 31), (16, "<I", 0)]
    ):
        path = write_zip(tmp_path / f"end{number}", entries)
        read_safely(patch(path, offset, form, value, b"PK\x05\x06"))


def test_damaged_files_are_refused_or_give_arrays(tmp_path):
    state, storages = state_dict()
    files = (
        torch_zip(tmp_path / "x.pth", state, storages),
        torch_zip(tmp_path / "z.pth", state, storages, compression=zipfile.ZIP_DEFLATED),
        torch_legacy(tmp_path / "y.pth", state, storages),
    )
    for seed, file in enumerate(files):
        for number, copy in enumerate(damage(file.read_bytes(), seed)):
            (tmp_path / f"{seed}.{number}").write_bytes(copy)
            read_safely(tmp_path / f"{seed}.{number}")
