"""PyTorch's files, written by hand: both formats, views of storages, and what is refused."""

import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from tests.pretrained.read.hostile import (
    Op,
    assert_refused,
    call,
    encode,
    global_,
    read_safely,
    state_dict,
    storage,
    tensor,
    torch_legacy,
    torch_zip,
)
from zoo_pretrained import read


def write_file(tmp_path, value, storages, form="zip", **options):
    write = torch_zip if form == "zip" else torch_legacy
    return write(tmp_path / "x.pth", value, storages, **options)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_reads_a_state_dict_in_its_order(tmp_path, form):
    state, storages = state_dict()
    path = write_file(tmp_path, state, storages, form)
    found = read.arrays(path)
    assert list(found) == ["conv.weight", "norm.weight", "norm.num_batches_tracked"]
    np.testing.assert_array_equal(found["conv.weight"], storages["0"].reshape(2, 3, 2, 2))
    np.testing.assert_array_equal(found["norm.weight"], storages["1"])
    assert found["norm.num_batches_tracked"] == 7
    assert read.detect_format(path) == "torch"


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_arrays_are_read_only_views_of_the_file(tmp_path, form):
    state, storages = state_dict()
    for array in read.arrays(write_file(tmp_path, state, storages, form)).values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        while not isinstance(array, np.memmap):
            array = array.base


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_offsets_strides_and_shared_storages(tmp_path, form):
    data = np.arange(12, dtype=np.float64)
    held = storage("a", "Double", 12)
    entries = {
        "whole": tensor(held, (3, 4), (4, 1)),
        "turned": tensor(held, (4, 3), (1, 4)),
        "part": tensor(held, (2,), (3,), offset=5),
        "one": tensor(held, (), (), offset=11),
        "none": tensor(held, (0, 3), (3, 1), offset=12),
        "repeated": tensor(held, (2, 3), (0, 1)),
    }
    found = read.arrays(write_file(tmp_path, entries, {"a": data}, form))
    np.testing.assert_array_equal(found["whole"], data.reshape(3, 4))
    np.testing.assert_array_equal(found["turned"], data.reshape(3, 4).T)
    np.testing.assert_array_equal(found["part"], [5, 8])
    assert found["one"] == 11
    assert found["none"].shape == (0, 3)
    np.testing.assert_array_equal(found["repeated"], [[0, 1, 2]] * 2)
    assert np.shares_memory(found["whole"], found["turned"])


def test_the_legacy_format_has_views_of_storages(tmp_path):
    data = np.arange(10, dtype=np.int32)
    held = storage("a", "Int", 10, ("b", 4, 3))
    path = write_file(tmp_path, {"x": tensor(held, (2,), (1,), offset=1)}, {"a": data}, "legacy")
    np.testing.assert_array_equal(read.arrays(path)["x"], [5, 6])
    beyond = {"x": tensor(held, (3,), (1,), offset=1)}
    assert_refused(write_file(tmp_path, beyond, {"a": data}, "legacy"), "cut short")


def test_reads_every_kind_of_storage(tmp_path):
    kinds = {
        "Double": np.float64,
        "Float": np.float32,
        "Half": np.float16,
        "BFloat16": ml_dtypes.bfloat16,
        "Long": np.int64,
        "Int": np.int32,
        "Short": np.int16,
        "Char": np.int8,
        "Byte": np.uint8,
        "Bool": np.bool_,
    }
    arrays = {kind: np.array([0, 1, 1], dtype) for kind, dtype in kinds.items()}
    entries = {kind: tensor(storage(kind, kind, 3), (3,), (1,)) for kind in kinds}
    found = read.arrays(write_file(tmp_path, entries, arrays))
    swapped = {
        kind: array.view(f"u{array.itemsize}").byteswap() if array.itemsize > 1 else array
        for kind, array in arrays.items()
    }
    big = read.arrays(torch_zip(tmp_path / "big.pth", entries, swapped, byteorder="big"))
    for kind, array in arrays.items():
        assert found[kind].dtype == array.dtype
        np.testing.assert_array_equal(found[kind], array)
        np.testing.assert_array_equal(big[kind].astype(array.dtype), array)


def test_reads_an_untyped_storage_by_the_tensors_dtype(tmp_path):
    held = Op(encode(("storage", global_("torch.storage.UntypedStorage"), "0", "cpu", 8)) + b"Q")
    arguments = (held, 1, (3,), (1,), False, None, global_("torch.uint16"))
    entries = {"x": call("torch._utils._rebuild_tensor_v3", *arguments)}
    found = read.arrays(write_file(tmp_path, entries, {"0": np.arange(4, dtype=np.uint16)}))
    np.testing.assert_array_equal(found["x"], [1, 2, 3])


@pytest.mark.parametrize(
    "wrapper", ["state_dict", "model_state_dict", "model", "model_ema", "state_dict_ema", "ema"]
)
def test_unwraps_checkpoints(tmp_path, wrapper):
    """Beside other values that a training run saves."""
    state, storages = state_dict()
    settings = Op(global_("argparse.Namespace") + b")\x81" + encode({"lr": 0.1}) + b"b")
    optimizer = {"state": {0: {"step": 3}}, "param_groups": [{"params": [0]}]}
    value = {"epoch": 3, "args": settings, "optimizer": optimizer, "arch": "toy", wrapper: state}
    path = write_file(tmp_path, value, storages)
    assert list(read.arrays(path)) == [
        "conv.weight",
        "norm.weight",
        "norm.num_batches_tracked",
    ]
    assert len(read.arrays(path, inside=wrapper)) == 3


@pytest.fixture
def three(tmp_path):
    """Writes a checkpoint; its three tensors are 0, 1 and 2."""
    arrays = {str(n): np.full(1, n, np.float32) for n in range(3)}
    zero, one, two = (tensor(storage(key, "Float", 1), (1,), (1,)) for key in arrays)

    def write(make, **options):
        return write_file(tmp_path, make(zero, one, two), arrays, **options)

    return write


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("extra", ["best_acc1", "rng_state"])
def test_a_known_wrapper_wins_over_tensors_beside_it(three, extra, form):
    """PyTorch's ImageNet script saves the best accuracy as a tensor."""
    path = three(
        lambda a, b, c: {"epoch": 3, extra: a, "other": c, "state_dict": {"w": b}}, form=form
    )
    for inside in (None, "state_dict"):
        assert {n: float(v[0]) for n, v in read.arrays(path, inside).items()} == {"w": 1}


@pytest.mark.parametrize(
    ("raw", "averages"),
    [("model", "model_ema"), ("state_dict", "state_dict_ema"), ("params", "params_ema")],
)
def test_averages_beside_the_weights_are_told_and_taken_on_request(three, raw, averages):
    averaged = {"n_averaged": 5}
    path = three(
        lambda a, b, c: {raw: {"w": a}, averages: {**averaged, "n_averaged": c, "module.w": b}}
    )
    with pytest.warns(UserWarning, match=rf"took the weights in '{raw}'; inside='{averages}'"):
        assert read.arrays(path)["w"][0] == 0
    found = read.arrays(path, inside=averages)
    assert {n: float(v[0]) for n, v in found.items()} == {"w": 1}
    only = three(lambda a, b, c: {averages: {"w": b}})
    assert read.arrays(only)["w"][0] == 1


def test_dicts_at_any_depth(three):
    nested = three(lambda a, b, c: {"model": {"state_dict": {"w": b}}, "rng_state": a})
    assert read.arrays(nested)["w"][0] == 1
    assert read.arrays(nested, inside="model.state_dict")["w"][0] == 1
    unknown = three(lambda a, b, c: {"student": {"w": c}, "epoch": 1})
    assert read.arrays(unknown)["w"][0] == 2
    several = three(lambda a, b, c: {"student": {"w": b}, "teacher": {"w": c}})
    with pytest.raises(read.ReadError, match="several dicts of tensors, 'student', 'teacher'"):
        read.arrays(several)
    assert read.arrays(several, inside="teacher")["w"][0] == 2
    part = three(lambda a, b, c: {"net": {"body.w": b, "head.w": c}, "acc": 90.0})
    assert list(read.arrays(part)) == ["body.w", "head.w"]
    assert list(read.arrays(part, inside="body")) == ["w"]


def test_dicts_in_themselves_and_in_many_places(tmp_path):
    """Paths to them are without end, or more than can be listed."""
    data = {"0": np.ones(1, np.float32)}
    held = tensor(storage("0", "Float", 1), (1,), (1,))
    # What the pickle puts into its memo at 100 and later; texts use 0.
    itself = Op(b"}qd(" + encode("model") + encode({"w": held}) + encode("again") + b"hdu")
    found = read_safely(torch_zip(tmp_path / "itself.pth", itself, data))
    assert list(found) == ["w"]
    level = Op(encode({"w": held}) + b"qd")
    for memo in range(101, 140):  # each level is twice in the next
        level = Op(b"}(" + encode("a") + level + encode("b") + b"h" + bytes([memo - 1]) + b"u")
        level = Op(level + b"q" + bytes([memo]))
    found = read_safely(torch_zip(tmp_path / "many.pth", level, data))
    assert list(found) == ["w"]
    key = encode("k" * 10_000) + b"qe0"  # 101, and dropped
    deep = Op(key + b"}(he" * 20_000 + encode({"w": held}) + b"u" * 20_000)
    assert "no arrays" in str(read_safely(torch_zip(tmp_path / "deep.pth", deep, data)))


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_prefixes_of_wrapped_models_drop(three, prefix):
    path = three(lambda a, b, c: {f"{prefix}a.w": a, f"{prefix}b.w": b})
    assert list(read.arrays(path)) == ["a.w", "b.w"]


def test_what_stands_beside_weights_is_ignored(three):
    beside = {
        "accuracy": call("numpy._core.multiarray.scalar", call("numpy.dtype", "f8"), b"12345678"),
        "began": call("datetime.datetime", b"1234567890"),
        "config": call("omegaconf.dictconfig.DictConfig"),
        "best": {(1, 2): 3, "epoch": 4},
        "losses": [0.5] * 300_000,
    }
    path = three(lambda a, b, c: {"state_dict": {"w": b}, **beside})
    assert list(read.arrays(path)) == ["w"]


def test_reads_parameters_and_drops_the_prefix_of_data_parallel(tmp_path):
    data = np.arange(2, dtype=np.float32)
    held = tensor(storage("0", "Float", 2), (2,), (1,))
    hooks = call("collections.OrderedDict")
    entries = {
        "module.a.w": call("torch._utils._rebuild_parameter", held, True, hooks),
        "module.b.w": held,
    }
    assert list(read.arrays(write_file(tmp_path, entries, {"0": data}))) == ["a.w", "b.w"]
    mixed = {"module.a.w": held, "b.w": held, "epoch": 3, "name": "it"}
    assert list(read.arrays(write_file(tmp_path, mixed, {"0": data}))) == ["module.a.w", "b.w"]


def test_inside_selects_a_part(tmp_path):
    held = tensor(storage("0", "Float", 1), (1,), (1,))
    entries = dict.fromkeys(("head.weight", "net.body.conv.weight", "net.body.norm.bias"), held)
    path = write_file(tmp_path, entries, {"0": np.zeros(1, np.float32)})
    assert list(read.arrays(path, inside="body")) == ["conv.weight", "norm.bias"]
    assert list(read.arrays(path, inside="net")) == ["body.conv.weight", "body.norm.bias"]
    assert list(read.arrays(path, inside="net.body.conv")) == ["weight"]
    with pytest.raises(read.ReadError, match="nothing inside 'bod'; at its top are head, net"):
        read.arrays(path, inside="bod")
    twice = dict.fromkeys(("a.body.weight", "b.body.weight"), held)
    path = write_file(tmp_path, twice, {"0": np.zeros(1, np.float32)})
    with pytest.raises(read.ReadError, match=r"several parts 'body': a\.body, b\.body"):
        read.arrays(path, inside="body")


def test_reads_a_deflated_zip(tmp_path):
    state, storages = state_dict()
    path = write_file(tmp_path, state, storages, compression=zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(read.arrays(path)["norm.weight"], storages["1"])


def test_refuses_what_is_no_file_of_weights(tmp_path):
    for name, content in {
        "empty": b"",
        "text": b"weights = 3\n",
        "png": b"\x89PNG\r\n\x1a\n" * 9,
    }.items():
        (tmp_path / name).write_bytes(content)
        assert_refused(tmp_path / name, "is empty" if name == "empty" else "formats that are read")
    assert_refused(tmp_path, "is a folder")
    assert_refused(tmp_path / "nothing", "is not there")
    np.savez(tmp_path / "x.npz", a=np.ones(2))
    assert_refused(tmp_path / "x.npz", "0 entries data.pkl")
    for name in ("empty", "text", "nothing"):
        with pytest.raises(read.ReadError, match=name):
            read.detect_format(tmp_path / name)


def test_refuses_files_without_tensors(tmp_path):
    for value in ({}, {"epoch": 3}, [1, 2], 7, {"state_dict": {"a": "b"}}, None):
        assert_refused(write_file(tmp_path, value, {}), "holds no arrays")


def test_refuses_tensors_outside_their_storage(tmp_path):
    """Nothing beyond a storage is ever read."""
    data, held = np.arange(8, dtype=np.float32), storage("0", "Float", 8)
    big = 1 << 62
    geometries = [
        ((9,), (1,), 0),
        ((8,), (1,), 1),
        ((2, 4), (5, 1), 0),
        ((8,), (-1,), 7),
        ((4,), (1,), -4),
        ((-1,), (1,), 0),
        ((8,), (1,), big),
        ((big,), (0,), 0),
        ((big, big), (0, 0), 0),
        ((big,), (1,), 0),
        ((2,), (big,), 0),
        ((2, 2), (1,), 0),
        ((2,), (1.5,), 0),
        ((True,), (1,), 0),
        (("2",), (1,), 0),
        (3, (1,), 0),
        ((1,) * 70, (1,) * 70, 0),
        ((10**9,), (0,), 0),
    ]
    for form in ("zip", "legacy"):
        for shape, strides, offset in geometries:
            entries = {"x": tensor(held, shape, strides, offset)}
            assert_refused(write_file(tmp_path, entries, {"0": data}, form))
    for entries, key in ((9, "0"), (-1, "0"), (1 << 62, "0"), (8, "1"), (8, "../0"), (8, 0)):
        value = {"x": tensor(storage(key, "Float", entries), (9,), (1,))}
        assert_refused(write_file(tmp_path, value, {"0": data}))
    many = {f"x{n}": tensor(held, (100_000, 8), (0, 1)) for n in range(100)}
    assert_refused(write_file(tmp_path, many, {"0": data}), "times its own size")


def test_refuses_wrong_storages_of_the_legacy_format(tmp_path):
    state, storages = state_dict()
    content = write_file(tmp_path, state, storages, "legacy").read_bytes()
    at = len(content) - sum(8 + array.nbytes for array in storages.values())
    path = tmp_path / "lying.pth"
    for count in (-1, 1 << 40, 1 << 62, (1 << 63) - 1, 25):
        path.write_bytes(
            content[:at] + count.to_bytes(8, "little", signed=True) + content[at + 8 :]
        )
        assert_refused(path)
    for wrong in (content.replace(b"\xe9\x03", b"\xea\x03", 1), content[:40]):
        path.write_bytes(wrong)
        assert_refused(path)
    swapped = {
        "a": tensor(storage("0", "Float", 1), (1,), (1,)),
        "b": tensor(storage("0", "Double", 1), (1,), (1,)),
    }
    assert_refused(
        write_file(tmp_path, swapped, {"0": np.zeros(2, np.float32)}, "legacy"), "two sizes"
    )


def test_reading_imports_no_framework(tmp_path):
    """And not h5py either, unless a file needs it."""
    state, storages = state_dict()
    path = write_file(tmp_path, state, storages)
    code = (
        "import sys; from zoo_pretrained import read; read.arrays(sys.argv[1]); "
        "assert not {'torch', 'h5py', 'keras', 'safetensors'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)
