"""safetensors, valid and hostile."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.pretrained.read.hostile import assert_refused, damage, read_safely
from zoo_pretrained import read


def write_file(path, header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + body)
    return path


def entry(start, stop, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_round_trip_with_the_package(tmp_path):

    rng = np.random.default_rng(0)
    arrays = {
        "b.weight": rng.normal(size=(4, 3, 2, 2)).astype(np.float32),
        "a.scale": np.array(2.5, np.float16),
        "a.count": np.arange(3),
        "a.none": np.zeros((0, 3), np.float32),
        "flag": np.array([True, False]),
        "half": rng.normal(size=5).astype(ml_dtypes.bfloat16),
    }
    save_file(arrays, tmp_path / "x", metadata={"format": "pt"})
    found = read.arrays(tmp_path / "x")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert read.detect_format(tmp_path / "x") == "safetensors"
    assert list(read.arrays(tmp_path / "x", inside="b")) == ["weight"]


def test_arrays_are_views_of_the_file_in_the_order_of_the_header(tmp_path):
    header = {"z": entry(4, 8, [1]), "__metadata__": {"a": "b"}, "a": entry(0, 4, [1])}
    found = read.arrays(write_file(tmp_path / "x", header, np.float32([1, 2]).tobytes()))
    assert list(found) == ["z", "a"]
    assert found["z"] == 2
    array = found["z"]
    with pytest.raises(ValueError, match="read-only"):
        array[...] = 0
    while not isinstance(array, np.memmap):
        array = array.base


def test_refuses_hostile_headers(tmp_path):
    good = entry(0, 4, [1])
    headers = [
        {"a": good, "b": good},
        {"a": good, "b": entry(2, 6, [1])},
        {"a": good, "b": entry(6, 8, [1], "F16")},
        {"a": entry(4, 8, [1])},
        {"a": good},
        {"a": entry(0, 12, [3])},
        {"a": entry(8, 0, [2])},
        {"a": entry(-8, 0, [2])},
        {"a": entry(0, 8, [3])},
        {"a": entry(0, 8, [2], "F64")},
        {"a": entry(0, 8, [2], "F4")},
        {"a": entry(0, 8, [2], ["F32"])},
        {"a": entry(0, 8, [-2])},
        {"a": entry(0, 8, [-1, -2])},
        {"a": entry(0, 8, [2.0])},
        {"a": entry(0, 8, ["2"])},
        {"a": entry(0, 8, [True, 2])},
        {"a": entry(0, 8, 2)},
        {"a": entry(0, 8, None)},
        {"a": entry(0, 8, [1 << 62, 1 << 62])},
        {"a": entry(0, 1 << 62, [1 << 60])},
        {"a": entry(0, 8, [1] * 100 + [2])},
        {"a": entry(0, 8, [9] * 100_000)},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": "08"}},
        {"a": [0, 8]},
        {"a": None},
        {},
        {"__metadata__": {}},
        b'{"a": %b, "a": %b}' % ((json.dumps(entry(0, 8, [2])).encode(),) * 2),
        b'{"a": {"dtype": "F32", "dtype": "I32", "shape": [2], "data_offsets": [0, 8]}}',
        b"{",
        b"{" * 1_000_000,
        b'{"a":' * 200_000,
        b'{"a": [' + b"[" * 500_000,
        b'{"a": NaN}',
        b'{"a": 1' + b"0" * 1_000_000 + b"}",
        b'{"\xff": 1}',
        b"{}[]",
    ]
    for number, header in enumerate(headers):
        assert_refused(write_file(tmp_path / f"{number}", header, bytes(8)))
    for length in (0, 1, 1 << 20, 1 << 40, (1 << 64) - 1):
        assert_refused(write_file(tmp_path / f"length{length}", {"a": good}, bytes(4), length))


def test_damaged_files_are_refused_or_give_arrays(tmp_path):
    header = {f"layer{n}.weight": entry(64 * n, 64 * n + 64, [4, 4]) for n in range(8)}
    content = write_file(tmp_path / "x", header, bytes(512)).read_bytes()
    for number, copy in enumerate(damage(content, seed=1)):
        (tmp_path / f"{number}").write_bytes(copy)
        read_safely(tmp_path / f"{number}")


def write_shards(tmp_path, weight_map, shards):
    for name, arrays in shards.items():
        save_file(arrays, tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"metadata": {"total_size": 8}, "weight_map": weight_map}, indent=2)
    )
    return index


def test_reads_several_files_by_their_index(tmp_path):
    one, two = np.ones(2, np.float32), np.full(3, 2, np.float32)
    shards = {"m-1.safetensors": {"module.b": two}, "m-2.safetensors": {"module.a": one}}
    weight_map = {"module.a": "m-2.safetensors", "module.b": "m-1.safetensors"}
    index = write_shards(tmp_path, weight_map, shards)
    found = read.arrays(index)
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"], one)
    assert read.detect_format(index) == "safetensors"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weight_map": {"a": "../m.safetensors"}}, "no file beside it"),
        ({"weight_map": {"a": "/etc/passwd"}}, "no file beside it"),
        ({"weight_map": {"a": 3}}, "no file beside it"),
        ({"weight_map": {"a": "gone.safetensors"}}, "is not there"),
        ({"weight_map": {"b": "m.safetensors"}}, "lists 'b', which is not in its file"),
        ({"weight_map": {}}, "without the weight_map"),
        ({"other": 1}, "without the weight_map"),
    ],
)
def test_refuses_indices_that_lie(tmp_path, content, words):
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "m.safetensors")
    index = tmp_path / "x.index.json"
    index.write_text(json.dumps(content, indent=2))
    with pytest.raises(read.ReadError, match=words):
        read.arrays(index)
