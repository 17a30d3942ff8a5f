"""JLD2 files of a Flux state, written with h5py by JLD2's documented format, not by Julia.

They have groups, committed types under `_types`, a header of 512 bytes that begins with JLD2's
name, immutable records inline, and arrays and large or mutable values by reference.
"""

import h5py
import numpy as np
import pytest

from tests.pretrained.read.hostile import assert_refused, damage, read_safely
from zoo_pretrained import read

REFERENCE = h5py.ref_dtype
rng = np.random.default_rng(0)
CONV = rng.normal(size=(8, 3, 5, 5)).astype(np.float32)  # Julia's (5, 5, 3, 8)
NORM = {name: rng.normal(size=8).astype(np.float32) for name in ("β", "γ", "μ", "σ²")}


def fill(record, values):
    """Fills a record with references and numbers, field by field."""
    for name, value in values.items():
        if isinstance(value, dict):
            fill(record[name], value)
        else:
            record[name] = value


def write_hidden(file, value, **options):
    """A dataset that only references point to.

    JLD2's have no names; h5py deletes datasets without one, so here they are among the types.
    """
    kept = file.require_group("_types")
    return kept.create_dataset(f"hidden{len(kept)}", data=value, **options)


def write_header(path):
    """Writes JLD2's header into the user block of an HDF5 file."""
    header = b"HDF5-based Julia Data Format, version 0.1.1\0"
    with path.open("r+b") as stream:
        stream.write(header)
    return path


def write_state(path, name="model_state", small=True):
    """`jldsave(path; name = Flux.state(Chain(Conv, BatchNorm, Chain(Dense))))`."""
    with h5py.File(path, "w", userblock_size=512, libver="latest") as file:
        kept = file.create_group("_types")

        def array(value):
            return write_hidden(file, value).ref

        conv = np.dtype([("weight", REFERENCE), ("bias", REFERENCE)])
        norm = np.dtype(
            [(n, REFERENCE) for n in NORM]
            + [("name", h5py.string_dtype()), ("ϵ", "f4"), ("affine", "u1"), ("active", REFERENCE)]
        )
        dense = np.dtype([("layers", np.dtype([("1", conv)]))])
        layers = np.dtype([("1", conv), ("2", norm), ("4", REFERENCE)])
        for number, dtype in enumerate((conv, norm, dense, layers), 1):
            kept[f"{number:08}"] = dtype
        inner = np.zeros((), dense)
        weights = {"weight": array(np.ones((4, 8))), "bias": array(np.arange(4.0))}
        fill(inner, {"layers": {"1": weights}})
        nested = write_hidden(file, inner, dtype=kept["00000003"])
        whole = np.zeros((), np.dtype([("layers", layers)]))
        values = {
            "1": {"weight": array(CONV), "bias": array(CONV[:, 0, 0, 0])},
            "2": {
                **{n: array(v) for n, v in NORM.items()},
                "ϵ": 1e-5,
                "name": "a text",
                "active": h5py.Reference(),
            },
            "4": nested.ref,
        }
        fill(whole, {"layers": values})
        file[name] = whole
        if not small:
            file["epoch"] = 3
            file["note"] = "a text"
            file["other/weight"] = np.ones((2, 3))
    return write_header(path)


NAMES = [
    "layers.1.weight",
    "layers.1.bias",
    *(f"layers.2.{name}" for name in NORM),
    "layers.4.layers.1.weight",
    "layers.4.layers.1.bias",
]


def test_reads_a_state_by_dotted_paths(tmp_path):
    path = write_state(tmp_path / "x.jld2")
    found = read.arrays(path)
    assert list(found) == NAMES
    np.testing.assert_array_equal(found["layers.1.weight"], CONV)
    for name, array in NORM.items():
        np.testing.assert_array_equal(found[f"layers.2.{name}"], array)
    np.testing.assert_array_equal(found["layers.4.layers.1.bias"], np.arange(4))
    assert read.detect_format(path) == "flux"
    array = found["layers.1.weight"]
    while not isinstance(array, np.memmap):
        array = array.base


def test_selects_parts_and_reads_other_saved_values(tmp_path):
    path = write_state(tmp_path / "x.jld2")
    assert list(read.arrays(path, inside="model_state")) == NAMES
    assert list(read.arrays(path, inside="layers.1")) == ["weight", "bias"]
    path = write_state(tmp_path / "y.jld2", small=False)
    assert list(read.arrays(path)) == [*(f"model_state.{name}" for name in NAMES), "other.weight"]
    assert list(read.arrays(path, inside="model_state")) == NAMES


def test_reads_lists_of_references_groups_and_compact_arrays(tmp_path):
    path = tmp_path / "x.jld2"
    with h5py.File(path, "w", userblock_size=512, libver="latest") as file:
        file["_types/00000001"] = np.dtype("f4")
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        group = file.create_group("m")
        made = h5py.h5d.create(group.id, b"bias", h5py.h5t.NATIVE_FLOAT, space, compact)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.float32([1, 2, 3]))
        weight = write_hidden(file, CONV)
        listed = np.array([weight.ref, h5py.Reference(), file["m/bias"].ref], REFERENCE)
        file.create_dataset("m/list", data=listed, dtype=REFERENCE)
        record = np.zeros((), np.dtype([("w", REFERENCE)]))
        record["w"] = weight.ref
        kind = h5py.h5t.py_create(record.dtype, logical=True)
        made = h5py.h5d.create(group.id, b"record", kind, h5py.h5s.create(h5py.h5s.SCALAR), compact)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, record)
    found = read.arrays(write_header(path))
    assert list(found) == ["bias", "list.1", "list.3", "record.w"]
    np.testing.assert_array_equal(found["list.3"], [1, 2, 3])
    np.testing.assert_array_equal(found["record.w"], CONV)


def write_circle(path, width):
    """A record whose fields all point to itself."""
    with h5py.File(path, "w", userblock_size=512) as file:
        dtype = np.dtype([(f"f{n}", REFERENCE) for n in range(width)])
        made = file.create_dataset("state", (), dtype)
        record = np.zeros((), dtype)
        for name in dtype.names:
            record[name] = made.ref
        made[()] = record
    return write_header(path)


def test_refuses_circles_and_deep_nesting(tmp_path):
    assert_refused(write_circle(tmp_path / "one", 1), "deeper than")
    assert_refused(write_circle(tmp_path / "two", 2), "deeper than")
    with h5py.File(tmp_path / "groups", "w", userblock_size=512) as file:
        file["a/b/c"] = np.ones(2)
        file["a/b/again"] = file["a"]
    assert_refused(write_header(tmp_path / "groups"), "deeper than")
    with h5py.File(tmp_path / "wide", "w", userblock_size=512) as file:
        # Each record points twice to the next: 2⁴⁰ paths through 40 records.
        held = file.create_dataset("0", data=np.ones(0))
        dtype = np.dtype([("a", REFERENCE), ("b", REFERENCE)])
        for number in range(1, 40):
            record = np.zeros((), dtype)
            record["a"] = record["b"] = held.ref
            held = file.create_dataset(str(number), data=record)
    assert_refused(write_header(tmp_path / "wide"))


def test_refuses_references_to_wrong_addresses(tmp_path):
    content = write_state(tmp_path / "x.jld2").read_bytes()
    with h5py.File(tmp_path / "x.jld2") as file:
        at = file["model_state"].id.get_offset()
    for number, address in enumerate((1, 48, 512, len(content), 1 << 40, (1 << 64) - 1, 1 << 63)):
        copy = bytearray(content)
        copy[at : at + 8] = address.to_bytes(8, "little")
        (tmp_path / f"{number}").write_bytes(copy)
        assert_refused(tmp_path / f"{number}")


@pytest.mark.parametrize("seed", [0, 1])
def test_damaged_files_are_refused_or_give_arrays(tmp_path, seed):
    content = write_state(tmp_path / "x.jld2").read_bytes()
    for number, copy in enumerate(damage(content, seed, flips=60)):
        (tmp_path / f"{number}").write_bytes(copy)
        read_safely(tmp_path / f"{number}")
