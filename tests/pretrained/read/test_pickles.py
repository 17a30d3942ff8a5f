"""Hostile pickles: none runs code, none costs much, and each is refused with a reason."""

import os
import struct

import numpy as np
import pytest

from tests.pretrained.read.hostile import (
    Op,
    assert_refused,
    call,
    encode,
    global_,
    read_safely,
    storage,
    tensor,
    torch_legacy,
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
    "numpy.load",
    "numpy.testing._private.utils.runstring",
    "zoo_pretrained.read.arrays",
]


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Fails when a pickle runs a command."""
    ran, marker = [], tmp_path / "ran"
    monkeypatch.setattr(os, "system", ran.append)
    yield f"touch {marker}"
    assert not ran
    assert not marker.exists()


def places(held):
    """The call of a global in every place of a checkpoint that can have one."""
    sound = tensor(storage("0", "Float", 1), (1,), (1,))
    yield held
    yield {"a": sound, "b": held}
    yield {"a": sound, "args": {"deep": [(held,)]}}
    yield {"a": call("torch._utils._rebuild_parameter", held, False, None)}
    yield call("collections.OrderedDict", [["a", sound], ["b", held]])


@pytest.mark.parametrize("name", GLOBALS)
def test_refuses_a_global_and_names_it(tmp_path, command, name):
    data, shown = {"0": np.zeros(1, np.float32)}, f"names {name}, which could run code"
    for number, value in enumerate(places(call(name, command))):
        assert_refused(torch_zip(tmp_path / f"{number}.pth", value, data), shown)
        assert_refused(torch_legacy(tmp_path / f"{number}.old.pth", value, data), shown)
    module, _, last = name.rpartition(".")
    dotted = name.partition(".")
    for parts in ((module, last), (dotted[0], dotted[2])):
        value = Op(encode(parts[0]) + encode(parts[1]) + b"\x93" + encode((command,)) + b"R")
        assert_refused(torch_zip(tmp_path / "stack.pth", value, data), shown)


def test_refuses_other_ways_to_make_objects(tmp_path, command):
    argument, inert = encode((command,)), global_("argparse.Namespace")
    operations = {
        "INST": b"(" + encode(command) + global_("os.system", b"i"),
        "OBJ": b"(" + global_("os.system") + encode(command) + b"o",
        "OBJ, known": b"(" + inert + encode(command) + b"o",
        "NEWOBJ": global_("os.system") + argument + b"\x81",
        "NEWOBJ_EX": global_("os.system") + argument + b"}\x92",
        "NEWOBJ_EX, known": inert + argument + b"}\x92",
        "EXT1": b"\x82\x01" + argument + b"R",
        "EXT2": b"\x83\x01\x00" + argument + b"R",
        "EXT4": b"\x84\x01\x00\x00\x00" + argument + b"R",
        "PERSID": b"Pos.system\n",
        "BUFFER": b"\x97",
        "READONLY": b"N\x98",
        "a string called": encode("os.system") + argument + b"R",
        "a result called": call("argparse.Namespace") + argument + b"R",
        "a dict called": b"}" + argument + b"R",
        "a storage called": global_("torch.FloatStorage") + argument + b"R",
        "a storage's instance": storage("0", "Float", 1) + argument + b"R",
        "no tuple": global_("collections.OrderedDict") + encode([command]) + b"R",
        "type v2": call(
            "torch._tensor._rebuild_from_type_v2", global_("os.system"), None, (command,), {}
        ),
        "type v2, text": call(
            "torch._tensor._rebuild_from_type_v2", "os.system", None, (command,), {}
        ),
        "names that are no text": encode(1) + encode(["os"]) + b"\x93",
    }
    for number, operation in enumerate(operations.values()):
        assert_refused(torch_zip(tmp_path / f"{number}.pth", {"x": Op(operation)}, {}))


def test_build_sets_nothing(tmp_path, command):
    """Its state is dropped, whatever object it is for."""
    data = {"0": np.ones(1, np.float32)}
    evil = {
        "__setstate__": command,
        "__class__": command,
        "items": command,
        "get": command,
        "dtype": "f8",
    }
    functions = ("torch._utils._rebuild_tensor_v2", "torch.FloatStorage", "collections.OrderedDict")
    for state in (evil, (None, evil), (evil, evil), [command], None):
        for name in functions:
            attack = Op(global_(name) + encode(state) + b"b")
            sound = tensor(storage("0", "Float", 1), (1,), (1,))
            value = {"attack": attack, "x": Op(sound + encode(state) + b"b")}
            path = torch_zip(tmp_path / "x.pth", Op(encode(value) + encode(state) + b"b"), data)
            assert read_safely(path)["x"] == 1


def test_refuses_pickles_that_take_too_much_time_or_memory(tmp_path):
    laughs = (
        b"("
        + b"K\x01"
        + b"t"
        + b"q\x00"
        + b"".join(b"(h%ch%ct" % (n, n) + b"q%c" % (n + 1) for n in range(60))
    )
    dicts = b"}q\x00" + b"".join(
        encode({"a": Op(b"h%c" % n), "b": Op(b"h%c" % n)}) + b"q%c" % (n + 1) for n in range(60)
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
        "types": call("torch._tensor._rebuild_from_type_v2", 1, 2, (), {}) * 1000,
        "size": call("torch.Size", list(range(1000))) * 50,
    }
    deep = ("x",)
    rebuild = global_("torch._tensor._rebuild_from_type_v2")
    inner = encode(deep)
    for _ in range(3000):
        inner = b"(" + rebuild + b"N" + inner + b"Nt"
    bombs["calls in calls"] = rebuild + inner + b"R"
    for number, content in enumerate(bombs.values()):
        assert_refused(torch_zip(tmp_path / f"{number}.pth", b"\x80\x02" + content + b".", {}))


def test_refuses_malformed_pickles(tmp_path):
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
        assert_refused(torch_zip(tmp_path / f"{number}.pth", content, {}))
    identities = [
        ("module", global_("torch.Tensor"), "a.py", "pass"),
        ("storage", "os.system", "0", "cpu", 1),
        ("storage", global_("torch.Tensor"), "0", "cpu", 1),
        ("storage", global_("torch.FloatStorage"), "0", "cpu", "1"),
        ("storage", global_("torch.FloatStorage"), "0", "cpu", 1, (1, 2)),
        ("storage",),
        "0",
        7,
    ]
    for number, identity in enumerate(identities):
        value = {"x": tensor(Op(encode(identity) + b"Q"), (1,), (1,))}
        assert_refused(
            torch_zip(tmp_path / f"id{number}.pth", value, {"0": np.zeros(1, np.float32)})
        )
