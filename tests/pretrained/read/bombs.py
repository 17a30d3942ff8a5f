"""Files of at most 10 MB that ask for hours or gigabytes, one by one, of every format.

Run as a program, it reads the files that it is given, and prints what each cost.
"""

import io
import json
import struct
import zipfile
import zlib

import h5py
import numpy as np

from tests.pretrained.read.bombs_of_stores import write_indices, write_tars
from tests.pretrained.read.hostile import (
    Op,
    encode,
    global_,
    storage,
    tensor,
    torch_legacy,
    torch_zip,
)

MAX_FILE = 10_000_000
ONE = np.zeros(1, np.float32)
HELD = tensor(storage("0", "Float", 1), (1,), (1,))


def put(value, number=100):
    """Opcodes that keep a value in the memo, under a number that `encode` leaves free, and not
    on the stack.
    """
    return encode(value) + b"q%c0" % number


def get(number=100):
    return Op(b"h%c" % number)


def repeat(prepared, repeated, size=4_000_000):
    """A list of values that are made again and again of what is in the memo."""
    return Op(prepared + b"](" + repeated * (size // len(repeated)) + b"e")


def double(start, times=60):
    """A tuple that holds another twice, which holds another twice, and so on."""
    return Op(
        put(start, 100)
        + b"".join(put((get(n), get(n)), n + 1) for n in range(100, 100 + times))
        + get(100 + times)
    )


def pickles():
    """Values of a .pth by name."""
    entries, integers = [(str(n), None) for n in range(20_000)], list(range(100_000))
    pairs, size = global_("collections.OrderedDict"), global_("torch.Size")
    rebuild = global_("torch._utils._rebuild_tensor_v2")
    parameter = global_("torch._utils._rebuild_parameter")
    stored = storage("0", "Float", 1)
    kind = global_("torch.FloatStorage")
    long = "é" * 1_000_000
    huge = Op(b"\x8b" + struct.pack("<i", 4_000_000) + b"\x7f" * 4_000_000)
    yield "pairs", repeat(put(entries), pairs + get() + b"\x85R", 500_000)
    yield "size of a list", repeat(put(integers), size + get() + b"\x85R")
    yield "size of a text", repeat(put(long), size + get() + b"\x85R", 500_000)
    yield "shape", repeat(put(integers), call_bytes(rebuild, stored, 0, get(), get(), False, None))
    for name, shape, strides in (("shape", (get(),) * 30, (1,) * 30), ("strides", (2,), (get(),))):
        yield (
            f"{name} of huge numbers",
            Op(put(huge) + encode({"x": tensor(stored, shape, strides)})),
        )
    yield "storage of huge numbers", {"x": tensor(storage("0", "Float", huge), (1,), (1,))}
    yield (
        "name of a global that doubles",
        Op(double("os") + encode("x") + b"\x93"),
    )
    yield (
        "name of a global",
        repeat(put("omegaconf." + "a" * 1_000_000), get() + encode("x") + b"\x93"),
    )
    yield "arguments", repeat(put(tuple([None] * 100_000)), parameter + get() + b"R")
    yield "persistent id", repeat(put(("storage", kind, "0", "cpu", *integers)), get() + b"Q")
    yield (
        "calls in calls",
        repeat(calls_in_calls(400), global_("torch._tensor._rebuild_from_type_v2") + get() + b"R"),
    )
    prime = (1 << 61) - 1  # the hash of its multiples is 0
    yield (
        "keys that collide",
        Op(
            b"}("
            + b"".join(
                b"\x8a\x0b" + (n * prime).to_bytes(11, "little") + b"N" for n in range(150_000)
            )
            + b"u"
        ),
    )
    yield "keys that double", Op(b"}" + double(("x",)) + b"Ns")
    places = b"".join(encode(f"{n:05}" + "猫" * 75) + get() for n in range(20_000))
    yield (
        "one dict in many places",
        Op(put({"w": HELD}) + put(Op(b"}(" + places + b"u")) + encode({"a": get()})),
    )
    nested = put({"w": HELD}) + b"".join(
        put({f"{'k' * 20}{a}": get() for a in "ab"}) for _ in range(18)
    )
    yield "doubling places", Op(nested + get())
    yield (
        "long keys",
        Op(
            put("k" * 4_000_000, 1)
            + b"}("
            + b"".join(
                encode(str(n)) + b"}" + get(1) + encode({"w": HELD}) + b"s" for n in range(5000)
            )
            + b"u"
        ),
    )
    yield "a long name", {"猫" * 1_500_000: HELD}
    yield (
        "several long names",
        {
            n: {"\x1b" * 300: {"w": tensor(storage("0", "Float", 1), (1,), (1,))}}
            for n in map(str, range(2000))
        },
    )
    yield (
        "tensors",
        Op(put(HELD) + b"}(" + b"".join(encode(str(n)) + get() for n in range(300_000)) + b"u"),
    )
    yield "tuples in tuples", Op(b")" + b"\x85" * 1_990_000)
    yield "declared", {str(n): tensor(stored, (1 << 20,), (0,)) for n in range(2000)}


def call_bytes(function, *arguments):
    return function + encode(arguments) + b"R"


def calls_in_calls(depth):
    rebuild, inner = global_("torch._tensor._rebuild_from_type_v2"), encode(("x",))
    for _ in range(depth):
        inner = b"(" + rebuild + b"N" + inner + b"Nt"
    return inner + b"q%c0" % 100


def write_torch(folder):
    """Files of PyTorch's two formats."""
    for name, value in pickles():
        yield torch_zip(folder / f"{name}.pth", value, {"0": ONE})
        if name in ("pairs", "persistent id", "one dict in many places"):
            yield torch_legacy(folder / f"{name} (legacy).pth", value, {"0": ONE})
    operations = b"\x80\x02" + b"N0" * 900_000 + b"N."
    magic = folder / "five pickles.pth"
    sound = torch_legacy(magic, {}, {}).read_bytes()
    magic.write_bytes(sound[: sound.index(b".", 20) + 1] + operations * 4)
    yield magic
    for count in (9_000_000_000, 630_000_000):
        value = {"x": tensor(storage("0", "Byte", count), (count,), (1,))}
        yield pad(write_zeros(folder / f"{count} zeros.pth", value, count))
    pickle = b"\x80\x02" + encode("a" * 30_000_000) + b"."
    yield pad(torch_zip(folder / "a long text.pth", pickle, {}, compression=zipfile.ZIP_DEFLATED))
    yield torch_zip(folder / "members.pth", {}, {str(n): [] for n in range(10_000)})


def write_zeros(path, value, count):
    """A .pth with a deflated storage of zeros; its sum, which takes long to compute, is wrong."""
    packed = zlib_of_zeros(count)[2:-4]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("it/data/0", packed)
        file.writestr("it/data.pkl", b"\x80\x02" + encode(value) + b".")
    content = bytearray(path.read_bytes())
    for mark, method, size in ((b"PK\3\4", 8, 22), (b"PK\1\2", 10, 24)):
        at = content.index(mark)
        struct.pack_into("<H", content, at + method, zipfile.ZIP_DEFLATED)
        struct.pack_into("<I", content, at + size, min(count, 0xFFFF_FFFE))
    path.write_bytes(content)
    return path


def pad(path):
    """Makes a file as large as it may be: what it may declare depends on its size."""
    size = MAX_FILE - path.stat().st_size - 200
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("padding", bytes(size))
    return path


def write_safetensors(folder):
    """Headers, and indices of several files."""
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    headers = {
        "tensors": json.dumps({f"{n}": entry for n in range(60_000)}, separators=(",", ":")),
        "long header": json.dumps({"__metadata__": {"a": "a" * 9_000_000}}),
        "long name": json.dumps({"猫" * 600_000: entry}),
        "many parts": json.dumps({"a." * 1_000_000: entry}),
        "deep": '{"a":' * 1_500_000,
        "deep list": '{"a":' + "[" * 3_000_000,
        "axes": json.dumps({"a": {**entry, "shape": [1] * 1_000_000}}),
        "huge numbers": json.dumps({"a": {**entry, "shape": [int("9" * 4000)] * 32}}),
        "digits": '{"a":' + "9" * 3_000_000 + "}",
        "fraction": '{"a":0.' + "9" * 3_000_000 + "}",
        "objects": '{"a":[' + "{}," * 1_000_000 + "{}]}",
        "repeated name": "{" + '"a":0,' * 600_000 + '"a":0}',
        "metadata": '{"__metadata__":[1]}',
    }
    for name, header in headers.items():
        path = folder / f"{name}.safetensors"
        content = header.encode()
        path.write_bytes(struct.pack("<Q", len(content)) + content)
        yield path
    indices = {
        "files": json.dumps({"weight_map": {str(n): f"{n}.safetensors" for n in range(100_000)}}),
        "itself": json.dumps({"weight_map": {str(n): "itself.index.json" for n in range(100_000)}}),
        "deep": '{  "weight_map":' + '{"a":' * 700_000,
        "long": '{  "weight_map":' + " " * 9_000_000 + "}",
    }
    for name, index in indices.items():
        path = folder / f"{name}.index.json"
        path.write_text(index)
        yield path


def write_hdf5(folder):
    """Files of Keras and Flux."""

    def new(name, **options):
        return h5py.File(folder / name, "w", **options)

    with new("chunk.h5") as file:  # of 2 GB where the dataset has 4 bytes
        dataset = file.create_dataset(
            "a/kernel", (1,), "f4", chunks=(500_000_000,), maxshape=(None,), compression="gzip"
        )
        packed = zlib_of_zeros(2_000_000_000)
        dataset.id.write_direct_chunk((0,), packed)
    yield folder / "chunk.h5"
    with new("chunks.h5") as file:
        for number in range(3):
            file.create_dataset(
                f"{number}/kernel", (150_000_000,), "f4", chunks=(150_000_000,), compression="gzip"
            ).id.write_direct_chunk((0,), zlib_of_zeros(600_000_000))
    yield folder / "chunks.h5"
    with new("small chunks.h5", libver="latest") as file:
        dataset = file.create_dataset("a/kernel", (300_000,), "u1", chunks=(1,))
        for number in range(40_000):
            dataset.id.write_direct_chunk((number,), b"a")
    yield folder / "small chunks.h5"
    with new("strings.h5") as file:  # attributes whose strings are all one of 60 kB
        file.create_dataset("z/kernel", data=ONE)
        for number in range(40):
            names = ["a" * 60_000] + ["b"] * 3_000
            file["z"].attrs.create(f"n{number}", names, dtype=h5py.string_dtype())
        file["z"].attrs["weight_names"] = "c"
        file.attrs.create("layer_names", ["z"], dtype="S1")
    yield share_strings(folder / "strings.h5")
    with new("headers.h5") as file:  # one header that is read for each of its names
        group = file.create_group("g")
        for number in range(6):
            group.attrs.create(f"a{number}", ["b" * 600] * 100, dtype="S600")
        group["0"] = ONE
        for number in range(6000):
            file[f"layers/l{number}/vars"] = group
    yield folder / "headers.h5"
    layers = [{"class_name": f"K{n}", "config": {"name": f"l{n}"}} for n in range(40_000)]
    config = json.dumps({"config": {"layers": layers}}, separators=(",", ":"))
    with new("layers.h5") as file:  # each of them is looked for in the whole configuration
        file.attrs["model_config"] = config
        names = [f"m{n}" for n in range(4000)]
        file.attrs["layer_names"] = names[:3000]
        for name in names[:3000]:
            file.create_group(name).attrs["weight_names"] = ["kernel"]
            file[f"{name}/kernel"] = ONE
    yield folder / "layers.h5"
    for name, path in {"layer": "a" * 4000, "module": "a/" * 2000}.items():
        with new(f"long {name}.h5") as file:
            inner = [{"class_name": "K", "config": {"name": "b" * 100}}] * 20
            for _ in range(40):
                inner = [{"class_name": "K", "config": {"name": path, "layers": inner}}]
            file.attrs["model_config"] = json.dumps({"config": {"layers": inner}})
            file.attrs["layer_names"] = ["l"]
            file.create_group("l").attrs["weight_names"] = [f"{path}{n}/w" for n in range(10)]
            for number in range(10):
                file[f"l/{path}{number}/w"] = ONE
        yield folder / f"long {name}.h5"
    with new("deep names.jld2") as file:
        file.create_group("_types")
        group = file
        for _ in range(60):
            group = group.create_group("n" * 60_000)
        for number in range(300):
            group[str(number)] = ONE
    yield folder / "deep names.jld2"
    with new("references.jld2") as file:
        file.create_group("_types")
        refs = [file.create_dataset(f"_types/{n}", data=ONE).ref for n in range(2_000)]
        for number in range(3):
            file.create_dataset(f"x/{number}", data=refs, dtype=h5py.ref_dtype)
    yield folder / "references.jld2"
    with new("fields.h5") as file:
        fields = np.dtype([(f"field {n} of many", "f4") for n in range(500)])
        file.create_dataset("a", data=np.zeros(1, fields))
        dataset = file["a"]
        for number in range(4000):
            file[f"layers/{number}"] = dataset
    yield folder / "fields.h5"
    with new("groups.h5") as file:
        for number in range(30_000):
            file[f"layers/{number}"] = h5py.SoftLink("/x")
    yield folder / "groups.h5"


def zlib_of_zeros(count):
    """A run of zeros as zlib deflates it: one piece again and again."""
    piece = 10_000_000
    packer = zlib.compressobj(9)
    head, body = packer.flush(zlib.Z_FULL_FLUSH), packer.compress(bytes(piece))
    body += packer.flush(zlib.Z_FULL_FLUSH)
    end = struct.pack(">HH", count % 65521, 1)  # Adler's sum of zeros
    return head + body * (count // piece) + b"\3\0" + end


def share_strings(path):
    """Lets all strings of each attribute of an HDF5 file be the first, of 60 000 bytes."""
    content = bytearray(path.read_bytes())
    at = -1
    while (at := content.find(struct.pack("<I", 60_000), at + 1)) >= 0:
        first, end = content[at : at + 16], at + 16
        while content[end : end + 4] == struct.pack("<I", 1) and content[
            end + 12 : end + 16
        ] != bytes(4):
            content[end : end + 16] = first
            end += 16
    path.write_bytes(content)
    return path


def write_keras(folder):
    """Zips of Keras 3: a configuration, and groups that are matched with it."""
    layers = [{"class_name": "A", "config": {"name": f"a{n}"}} for n in range(20_000)]
    nested = {"layers": layers}
    for _ in range(12):
        nested = {"layers": [{"class_name": "A", "config": {"name": "b", **nested}}]}
    configs = {
        "nested": json.dumps({"config": nested}, separators=(",", ":")),
        "deep": '{"config":' + '{"layers":[{"config":' * 100_000,
        "long": '{"config":"' + "a" * 9_000_000 + '"}',
    }
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        group = file.create_group("end/layers")
        group["x/vars/0"] = ONE
        for _ in range(12):  # two ways from each level to the next
            outer = file.create_group(f"g{_}")
            for container in ("layers", "_layer_checkpoint_dependencies"):
                outer[f"{container}/a"] = group.parent
                outer[f"{container}/b"] = group.parent
            group = outer["layers"]
        file["layers"] = group
    for name, config in configs.items():
        path = folder / f"{name}.keras"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("config.json", config)
            file.writestr("model.weights.h5", memory.getvalue())
        yield path


def write_all(folder):
    """Writes all of them, and yields their paths."""
    for write in (
        write_torch,
        write_safetensors,
        write_hdf5,
        write_keras,
        write_tars,
        write_indices,
    ):
        inner = folder / write.__name__
        inner.mkdir()
        yield from write(inner)
