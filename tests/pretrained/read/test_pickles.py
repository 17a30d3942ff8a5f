"""Hostile pickles: none runs anything, none costs much, and each is told by its name."""

import os
import struct

import numpy as np
import pytest

from tests.pretrained.read.hostile import (
    Op,
    called,
    encoded,
    named,
    refuses,
    storage,
    survives,
    tensor,
    torch_stream,
    torch_zip,
)

GLOBALS = [
    "os.system",
    "posix.system",
    "nt.system",
    "subprocess.Popen",
    "subprocess.check_output",
    "builtins.eval",
    "builtins.exec",
    "builtins.getattr",
    "builtins.__import__",
    "builtins.open",
    "__builtin__.eval",
    "runpy.run_path",
    "pty.spawn",
    "socket.socket",
    "shutil.rmtree",
    "pickle.loads",
    "functools.partial",
    "operator.attrgetter",
    "importlib.import_module",
    "copyreg._reconstructor",
    "types.FunctionType",
    "webbrowser.open",
    "ctypes.CDLL",
    "torch.load",
    "torch.hub.load",
    "torch.storage._load_from_bytes",
    "torch.os.system",
    "torch._utils.os",
    "torch._utils._rebuild_tensor_v2.__globals__",
    "torch.FloatStorage.from_file",
    "torch.serialization.load",
    "torch._C._import",
    "torch.jit.load",
    "torch.nn.modules.container.Sequential",
    "collections.OrderedDict.__reduce__",
    "collections.namedtuple",
    "collections.abc.sys",
    "argparse.Namespace.__init__",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.load",
    "numpy.testing._private.utils.runstring",
    "pretrained.convert.read.arrays",
]


@pytest.fixture
def quiet(tmp_path, monkeypatch):
    """Fails when a pickle runs a command."""
    ran, marker = [], tmp_path / "ran"
    monkeypatch.setattr(os, "system", ran.append)
    yield f"touch {marker}"
    assert not ran
    assert not marker.exists()


def hidden(held):
    """A global's call in all the places of a checkpoint where one can be."""
    sound = tensor(storage("0", "Float", 1), (1,), (1,))
    yield held
    yield {"a": sound, "b": held}
    yield {"a": sound, "args": {"deep": [(held,)]}}
    yield {"a": called("torch._utils._rebuild_parameter", held, False, None)}
    yield called("collections.OrderedDict", [["a", sound], ["b", held]])


@pytest.mark.parametrize("name", GLOBALS)
def test_a_global_is_refused_by_its_name(tmp_path, quiet, name):
    data, shown = {"0": np.zeros(1, np.float32)}, f"names {name}, which could run code"
    for number, value in enumerate(hidden(called(name, quiet))):
        refuses(torch_zip(tmp_path / f"{number}.pth", value, data), shown)
        refuses(torch_stream(tmp_path / f"{number}.old.pth", value, data), shown)
    module, _, last = name.rpartition(".")
    dotted = name.partition(".")
    for parts in ((module, last), (dotted[0], dotted[2])):
        value = Op(encoded(parts[0]) + encoded(parts[1]) + b"\x93" + encoded((quiet,)) + b"R")
        refuses(torch_zip(tmp_path / "stack.pth", value, data), shown)


def test_other_ways_to_make_objects(tmp_path, quiet):
    argument, inert = encoded((quiet,)), named("argparse.Namespace")
    operations = {
        "INST": b"(" + encoded(quiet) + named("os.system", b"i"),
        "OBJ": b"(" + named("os.system") + encoded(quiet) + b"o",
        "OBJ, known": b"(" + inert + encoded(quiet) + b"o",
        "NEWOBJ": named("os.system") + argument + b"\x81",
        "NEWOBJ_EX": named("os.system") + argument + b"}\x92",
        "NEWOBJ_EX, known": inert + argument + b"}\x92",
        "EXT1": b"\x82\x01" + argument + b"R",
        "EXT2": b"\x83\x01\x00" + argument + b"R",
        "EXT4": b"\x84\x01\x00\x00\x00" + argument + b"R",
        "PERSID": b"Pos.system\n",
        "BUFFER": b"\x97",
        "READONLY": b"N\x98",
        "a string called": encoded("os.system") + argument + b"R",
        "a result called": called("argparse.Namespace") + argument + b"R",
        "a dict called": b"}" + argument + b"R",
        "a storage called": named("torch.FloatStorage") + argument + b"R",
        "a storage's instance": storage("0", "Float", 1) + argument + b"R",
        "no tuple": named("collections.OrderedDict") + encoded([quiet]) + b"R",
        "type v2": called(
            "torch._tensor._rebuild_from_type_v2", named("os.system"), None, (quiet,), {}
        ),
        "type v2, text": called(
            "torch._tensor._rebuild_from_type_v2", "os.system", None, (quiet,), {}
        ),
        "names that are no text": encoded(1) + encoded(["os"]) + b"\x93",
    }
    for number, operation in enumerate(operations.values()):
        refuses(torch_zip(tmp_path / f"{number}.pth", {"x": Op(operation)}, {}))


def test_build_sets_nothing(tmp_path, quiet):
    """Its state is dropped, whatever it is built on."""
    data = {"0": np.ones(1, np.float32)}
    evil = {"__setstate__": quiet, "__class__": quiet, "items": quiet, "get": quiet, "dtype": "f8"}
    functions = ("torch._utils._rebuild_tensor_v2", "torch.FloatStorage", "collections.OrderedDict")
    for state in (evil, (None, evil), (evil, evil), [quiet], None):
        for name in functions:
            attack = Op(named(name) + encoded(state) + b"b")
            sound = tensor(storage("0", "Float", 1), (1,), (1,))
            value = {"attack": attack, "x": Op(sound + encoded(state) + b"b")}
            path = torch_zip(tmp_path / "x.pth", Op(encoded(value) + encoded(state) + b"b"), data)
            assert survives(path)["x"] == 1


def test_pickles_that_would_cost_much(tmp_path):
    laughs = (
        b"("
        + b"K\x01"
        + b"t"
        + b"q\x00"
        + b"".join(b"(h%ch%ct" % (n, n) + b"q%c" % (n + 1) for n in range(60))
    )
    dicts = b"}q\x00" + b"".join(
        encoded({"a": Op(b"h%c" % n), "b": Op(b"h%c" % n)}) + b"q%c" % (n + 1) for n in range(60)
    )
    bombs = {
        "memo": b"Nr\xff\xff\xff\xff0Nr\xff\xff\xff\x7f",
        "memo, text": b"Np999999999999999999\n",
        "string": b"X\xff\xff\xff\xff",
        "string8": b"\x8d" + b"\xff" * 7 + b"\x3f",
        "bytes8": b"\x8e" + b"\xff" * 7 + b"\x3f",
        "bytearray8": b"\x96" + b"\xff" * 7 + b"\x3f",
        "long4": b"\x8b\xff\xff\xff\x7f",
        "long4, negative": b"\x8b\xff\xff\xff\xff",
        "frame": b"\x95" + b"\xff" * 8,
        "marks": b"(" * 200_000,
        "nested lists": b"]" * 100_000 + b"a" * 100_000,
        "nested tuples": b")" + b"\x85" * 200_000,
        "operations": b"N0" * 300_000,
        "digits": b"I" + b"9" * 1_000_000 + b"\n",
        "digits of a long": b"L" + b"9" * 1_000_000 + b"L\n",
        "no newline": b"S'" + b"a" * 10_000_000,
        "a key of tuples": b"}" + laughs + b"Ns",
        "laughs": laughs,
        "dicts": dicts,
        "cycle": b"}q\x00U\x01ah\x00s",
        "cyclic list": b"]q\x00h\x00a",
        "types": called("torch._tensor._rebuild_from_type_v2", 1, 2, (), {}) * 1000,
        "size": called("torch.Size", list(range(1000))) * 50,
    }
    deep = ("x",)
    rebuild = named("torch._tensor._rebuild_from_type_v2")
    inner = encoded(deep)
    for _ in range(3000):
        inner = b"(" + rebuild + b"N" + inner + b"Nt"
    bombs["calls in calls"] = rebuild + inner + b"R"
    for number, content in enumerate(bombs.values()):
        refuses(torch_zip(tmp_path / f"{number}.pth", b"\x80\x02" + content + b".", {}))


def test_pickles_that_are_none(tmp_path):
    contents = [
        b"",
        b".",
        b"\x80",
        b"\x80\x02",
        b"\x80\x09.",
        b"\x80\x02}",
        b"0.",
        b"1.",
        b"t.",
        b"(.",
        b"h\x00.",
        b"g0\n.",
        b"j\x00\x00\x00\x00.",
        b"R.",
        b"NR.",
        b"b.",
        b"Q.",
        b"NQ.",
        b"s.",
        b"u.",
        b"e.",
        b"a.",
        b"\x93.",
        b"\x86.",
        b"\x94.",
        b"2.",
        b"}NNNu.",
        b"NNNs.",
        b"}]Ns.",
        b"c\n\n.",
        b"cos\n.",
        b"\xff\xfe.",
        b"U\xff.",
        b"Iabc\n.",
        b"S'unfinished\n.",
        b"X\x02\x00\x00\x00\xff\xff.",
        struct.pack("<BQ", 0x8D, 3) + b"ab",
    ]
    for number, content in enumerate(contents):
        refuses(torch_zip(tmp_path / f"{number}.pth", content, {}))
    identities = [
        ("module", named("torch.Tensor"), "a.py", "pass"),
        ("storage", "os.system", "0", "cpu", 1),
        ("storage", named("torch.Tensor"), "0", "cpu", 1),
        ("storage", named("torch.FloatStorage"), "0", "cpu", "1"),
        ("storage", named("torch.FloatStorage"), "0", "cpu", 1, (1, 2)),
        ("storage",),
        "0",
        7,
    ]
    for number, identity in enumerate(identities):
        value = {"x": tensor(Op(encoded(identity) + b"Q"), (1,), (1,))}
        refuses(torch_zip(tmp_path / f"id{number}.pth", value, {"0": np.zeros(1, np.float32)}))
