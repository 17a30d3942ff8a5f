"""Files of weights written by hand, sound and hostile, and what reading must make of them.

Pickles are put together from opcodes, so that no test needs the framework whose file it reads.
"""

import pickle
import resource
import struct
import time
import zipfile

import numpy as np

from zoo_pretrained import read

MAGIC, VERSION = 119547037146038801333356, 1001
SECONDS, BYTES = 5, 100 << 20  # what no file may cost


class Op(bytes):
    """Opcodes, to stand in a pickle as they are."""


def encoded(value):
    """The opcodes that put a value on the stack."""
    if isinstance(value, Op):
        return bytes(value)
    if isinstance(value, tuple):
        return b"(" + b"".join(map(encoded, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(encoded, value)) + b"e"
    if isinstance(value, dict):
        items = (encoded(key) + encoded(item) for key, item in value.items())
        return b"}(" + b"".join(items) + b"u"
    # What is plain has a pickle of its own, between its protocol and its end.
    return pickle.dumps(value, protocol=2)[2:-1]


def pickled(value):
    return b"\x80\x02" + encoded(value) + b"."


def named(name, opcode=b"c"):
    """A global."""
    module, _, last = name.rpartition(".")
    return Op(opcode + f"{module}\n{last}\n".encode())


def called(name, *arguments):
    """A global called with arguments."""
    return Op(named(name) + encoded(arguments) + b"R")


def storage(key, kind, entries, *view):
    """A persistent id; `view` is what the older format adds."""
    return Op(
        encoded(("storage", named(f"torch.{kind}Storage"), key, "cpu", entries, *view)) + b"Q"
    )


def tensor(held, shape, strides, offset=0):
    """A tensor in a storage."""
    hooks = called("collections.OrderedDict")
    return called("torch._utils._rebuild_tensor_v2", held, offset, shape, strides, False, hooks)


def ordered(entries):
    """The state dict that a module's `state_dict` gives, with its attribute `_metadata`."""
    filled = called("collections.OrderedDict") + encoded(entries)[1:]
    return Op(filled + encoded({"_metadata": {"": {"version": 1}}}) + b"b")


def torch_zip(path, value, storages, *, byteorder=None, compression=zipfile.ZIP_STORED, stem="it"):
    """A .pth as PyTorch writes it since 1.6; `value` may be a pickle already."""
    content = value if isinstance(value, bytes) and not isinstance(value, Op) else pickled(value)
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(f"{stem}/data.pkl", content)
        if byteorder:
            file.writestr(f"{stem}/byteorder", byteorder)
        for key, array in storages.items():
            file.writestr(f"{stem}/data/{key}", np.asarray(array).tobytes())
        file.writestr(f"{stem}/version", b"3\n")
    return path


def torch_stream(path, value, storages):
    """A .pth of the older format."""
    system = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"long": 4}}
    parts = [pickled(part) for part in (MAGIC, VERSION, system, value, list(storages))]
    for array in storages.values():
        parts.append(struct.pack("<q", len(array)) + array.tobytes())
    path.write_bytes(b"".join(parts))
    return path


def a_state():
    """A small state dict, and its storages."""
    rng = np.random.default_rng(0)
    storages = {
        "0": rng.normal(size=24).astype(np.float32),
        "1": rng.normal(size=4).astype(np.float16),
        "2": np.array([7]),
    }
    entries = {
        "conv.weight": tensor(storage("0", "Float", 24), (2, 3, 2, 2), (12, 4, 2, 1)),
        "norm.weight": tensor(storage("1", "Half", 4), (4,), (1,)),
        "norm.num_batches_tracked": tensor(storage("2", "Long", 1), (), ()),
    }
    return ordered(entries), storages


def survives(path):
    """Reads a file that may be anything: arrays, or one line that names it; at no great cost.

    Returns:
      The arrays, or the error.
    """
    before, start = _peak(), time.perf_counter()
    try:
        found = read.arrays(path)
    except read.ReadError as error:
        found = error
    if isinstance(found, read.ReadError):
        assert str(found).startswith(f"{path} "), found
        assert "\n" not in str(found)
    else:
        for array in found.values():  # every byte of them can be had
            assert len(array.tobytes()) == array.nbytes
    assert time.perf_counter() - start < SECONDS, found
    assert _peak() - before < BYTES, found
    return found


def refuses(path, match=""):
    """Asserts that a file is refused, and why."""
    found = survives(path)
    assert isinstance(found, read.ReadError), f"{path.name} was read: {list(found)}"
    assert match in str(found)


def damaged(content, seed, flips=40, cuts=20):
    """Copies of a file with bits turned, bytes replaced, and ends cut off."""
    rng = np.random.default_rng(seed)
    for cut in rng.integers(1, len(content), cuts):
        yield content[:cut]
    for number in range(flips):
        copy = bytearray(content)
        # Half of them in the first part, where headers are.
        end = len(copy) if number % 2 else min(len(copy), 2048)
        for place in rng.integers(0, end, 1 + number % 4):
            copy[place] = rng.integers(256) if number % 3 else copy[place] ^ 1 << rng.integers(8)
        yield bytes(copy)


def _peak():
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
