"""Files of weights written by hand, valid and hostile, and assertions on reading them.

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
SECONDS, BYTES = 5, 100 << 20  # limits of what reading a file may cost


class Op(bytes):
    """Opcodes that are put into a pickle unchanged."""


def encode(value):
    """The opcodes that put a value on the stack."""
    if isinstance(value, Op):
        return bytes(value)
    if isinstance(value, tuple):
        return b"(" + b"".join(map(encode, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(encode, value)) + b"e"
    if isinstance(value, dict):
        items = (encode(key) + encode(item) for key, item in value.items())
        return b"}(" + b"".join(items) + b"u"
    # A plain value's own pickle, without the protocol at its start and the stop at its end.
    return pickle.dumps(value, protocol=2)[2:-1]


def pickle_value(value):
    return b"\x80\x02" + encode(value) + b"."


def global_(name, opcode=b"c"):
    """The opcodes of a global."""
    module, _, last = name.rpartition(".")
    return Op(opcode + f"{module}\n{last}\n".encode())


def call(name, *arguments):
    """The opcodes that call a global."""
    return Op(global_(name) + encode(arguments) + b"R")


def storage(key, kind, entries, *view):
    """The opcodes of a persistent id; `view` is what the legacy format adds."""
    return Op(
        encode(("storage", global_(f"torch.{kind}Storage"), key, "cpu", entries, *view)) + b"Q"
    )


def tensor(held, shape, strides, offset=0):
    """The opcodes of a tensor in a storage."""
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", held, offset, shape, strides, False, hooks)


def ordered_dict(entries):
    """The opcodes of a module's `state_dict()`, with its attribute `_metadata`."""
    filled = call("collections.OrderedDict") + encode(entries)[1:]
    return Op(filled + encode({"_metadata": {"": {"version": 1}}}) + b"b")


def torch_zip(path, value, storages, *, byteorder=None, compression=zipfile.ZIP_STORED, stem="it"):
    """A .pth as PyTorch writes it since 1.6; `value` may be a pickle already."""
    content = (
        value if isinstance(value, bytes) and not isinstance(value, Op) else pickle_value(value)
    )
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(f"{stem}/data.pkl", content)
        if byteorder:
            file.writestr(f"{stem}/byteorder", byteorder)
        for key, array in storages.items():
            file.writestr(f"{stem}/data/{key}", np.asarray(array).tobytes())
        file.writestr(f"{stem}/version", b"3\n")
    return path


def torch_legacy(path, value, storages):
    """A .pth of the legacy format."""
    system = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"long": 4}}
    parts = [pickle_value(part) for part in (MAGIC, VERSION, system, value, list(storages))]
    for array in storages.values():
        parts.append(struct.pack("<q", len(array)) + array.tobytes())
    path.write_bytes(b"".join(parts))
    return path


def state_dict():
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
    return ordered_dict(entries), storages


def read_safely(path):
    """Reads a file that may be anything, and asserts that the result is safe and cheap.

    It must be arrays, or an error of one line that names the file.

    Returns:
      The arrays, or the error.
    """
    before, start = _peak(), time.process_time()
    try:
        found = read.arrays(path)
    except read.ReadError as error:
        found = error
    if isinstance(found, read.ReadError):
        assert str(found).startswith(f"{path} "), found
        assert "\n" not in str(found)
    else:
        for array in found.values():  # every byte can be read
            assert len(array.tobytes()) == array.nbytes
    assert time.process_time() - start < SECONDS, found
    assert _peak() - before < BYTES, found
    return found


def assert_refused(path, match=""):
    """Asserts that a file is refused, with a reason."""
    result = read_safely(path)
    assert isinstance(result, read.ReadError), f"{path.name} was read: {list(result)}"
    assert match in str(result)


def damage(content, seed, flips=40, cuts=20):
    """Copies of a file with bits flipped, bytes replaced, or the end cut off."""
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
    """The peak memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
