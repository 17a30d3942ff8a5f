"""Pickles of state dicts, read without Python's unpickler: nothing in a file is ever run.

A pickle machine of our own runs the opcodes of `pickletools.genops`, with lists, dicts, tuples and
scalars on its stack. A global that it names becomes a `Global`, which is data; calling one picks a
function from the table below, which only puts data together. There are no classes to instantiate,
no attributes to set (BUILD's state is dropped) and no extension registry; a global that the tables
lack is refused with its name. What checkpoints commonly hold beside tensors becomes `OPAQUE`.
"""

import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Final

import ml_dtypes
import numpy as np

from zoo_pretrained.read.files import UnreadableError

# A tensor takes some forty operations, so this allows 50 000 tensors, or as long a history beside
# them: some seconds.
OPERATIONS = 2_000_000

STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "UntypedStorage": np.dtype("u1"),
}
# dtypes that have no storage of their own, or that an untyped one is read as.
DTYPES = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint64": np.dtype("<u8"),
    "uint32": np.dtype("<u4"),
    "uint16": np.dtype("<u2"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}


@dataclass(frozen=True, slots=True)
class Global:
    """A global that the tables list, by its full name; storages and dtypes have a `dtype`."""

    name: str
    dtype: np.dtype | None = None


@dataclass(frozen=True, slots=True)
class Opaque:
    """An object that is no tensor; nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class Storage:
    """The memory of tensors: `entries` of `dtype`, from the entry `first` of the file's `key`."""

    key: str
    dtype: np.dtype
    entries: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage, counted in entries; not yet checked to lie inside it."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


OPAQUE: Final = Opaque()


def load(stream: IO[bytes], persistent: Callable[[Any], Storage] | None = None) -> Any:
    """Reads one pickle, and leaves the stream positioned after it.

    Args:
      stream: the bytes.
      persistent: makes a storage of a persistent id; None where a pickle may have none.

    Raises:
      UnreadableError: the pickle names a global that no table lists, or does what no state dict
        needs.
      Exception: of any kind, where it is damaged.
    """
    machine = _Machine(persistent)
    for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        if count == OPERATIONS:
            raise UnreadableError(f"holds a pickle of more than {OPERATIONS} operations")
        machine.step(operation.name, argument)
    return machine.stack.pop()


# The names of opcodes that push their argument: numbers and texts.
_SCALAR = (
    r"(BIN)?INT[12]?|LONG[14]?|(BIN)?FLOAT|((SHORT_)?BIN)?(STRING|UNICODE8?|BYTES8?)|BYTEARRAY8"
)
_PUSH_ARGUMENT = frozenset(
    operation.name for operation in pickletools.opcodes if re.fullmatch(_SCALAR, operation.name)
)
_PUSH_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": lambda: OPAQUE,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))


class _Machine:
    """The stack and memo of a pickle that is being read."""

    def __init__(self, persistent: Callable[[Any], Storage] | None) -> None:
        self.stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._persistent = persistent

    def step(self, name: str, argument: Any) -> None:
        """Runs one operation: those that push are in tables, the others are methods."""
        if name in _PUSH_ARGUMENT:
            self.stack.append(argument)
        elif name in _PUSH_NEW:
            self.stack.append(_PUSH_NEW[name]())
        elif name in _TUPLES:
            self.stack[-_TUPLES[name] :] = [tuple(self._top(_TUPLES[name]))]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self._memo[argument])
        elif name not in _IGNORED:
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise UnreadableError(f"holds a pickle with {name}, which could run code")
            method(argument)

    def _top(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise UnreadableError("holds a damaged pickle: its stack is short")
        return self.stack[len(self.stack) - count :]

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._marked.pop()
        return items

    def _mark(self, _: Any) -> None:
        self._marked.append(self.stack)
        self.stack = []

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._since_mark()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _: Any) -> None:
        items = tuple(self._since_mark())
        self.stack.append(items)

    def _list(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(items)

    def _dict(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._fill(items)

    def _frozenset(self, _: Any) -> None:
        self._since_mark()
        self.stack.append(OPAQUE)

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        items = self._since_mark()
        self._extend(items)

    def _additems(self, _: Any) -> None:
        items = self._since_mark()
        self._extend(items)

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)
        elif self.stack[-1] is not OPAQUE:
            raise UnreadableError("holds a damaged pickle: it appends to what is no list")

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _setitems(self, _: Any) -> None:
        items = self._since_mark()
        self._fill(items)

    def _fill(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(_build_dict(zip(items[::2], items[1::2], strict=True)))
        elif self.stack[-1] is not OPAQUE:
            raise UnreadableError("holds a damaged pickle: it sets an item of what is no dict")

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(_find_global(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_find_global(module, name))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(call(function, arguments))

    _newobj = _reduce

    def _build(self, _: Any) -> None:
        self.stack.pop()  # attributes, of which a state dict needs none

    def _binpersid(self, _: Any) -> None:
        if self._persistent is None:
            raise UnreadableError("holds a pickle that refers to a storage where none can be")
        self.stack.append(self._persistent(self.stack.pop()))


def _find_global(module: Any, name: Any) -> Global:
    full = f"{module}.{name}"
    if full in _CALLS or full in _INERT or full.startswith(_INERT_PACKAGES):
        return Global(full)
    scope, _, last = full.rpartition(".")
    if scope == "torch" and last in STORAGES | DTYPES:
        return Global(full, (STORAGES | DTYPES)[last])
    if full == "torch.storage.UntypedStorage":
        return Global(full, STORAGES["UntypedStorage"])
    raise UnreadableError(
        f"names {full}, which could run code; only tensors in plain containers are read, "
        "so save a state dict"
    )


def call(function: Any, arguments: Any) -> Any:
    """The result of calling a global."""
    if not isinstance(function, Global) or not isinstance(arguments, tuple):
        raise UnreadableError("holds a pickle that calls what is no function")
    if function.name in _INERT or function.name.startswith(_INERT_PACKAGES):
        return OPAQUE
    if function.name not in _CALLS:
        raise UnreadableError(f"holds a pickle that calls {function.name}")
    return _CALLS[function.name](*arguments)


def _build_dict(pairs: Any) -> dict[Any, Any]:
    """A dict of the keys that are cheap to hash: tuples of tuples can take for ever.

    Others, such as classes and pairs, are beside the weights, and left out.
    """
    return {key: value for key, value in pairs if isinstance(key, str | int | float | bytes | None)}


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    """`_rebuild_tensor` and `_v2`; the rest is whether it takes gradients, hooks and metadata."""
    if not isinstance(storage, Storage):
        raise UnreadableError("has a tensor without a storage")
    return _check_tensor(storage, storage.dtype, offset, shape, strides)


def _rebuild_tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, _: Any, __: Any, dtype: Any, *rest: Any
) -> Tensor:
    """A tensor in an untyped storage."""
    if not isinstance(storage, Storage) or not isinstance(dtype, Global) or dtype.dtype is None:
        raise UnreadableError("has a tensor without a storage or a dtype")
    return _check_tensor(storage, dtype.dtype, offset, shape, strides)


def _check_tensor(
    storage: Storage, dtype: np.dtype, offset: Any, shape: Any, strides: Any
) -> Tensor:
    numbers = [offset, *shape, *strides]
    if len(shape) != len(strides) or not all(type(number) is int for number in numbers):
        raise UnreadableError("has a tensor whose offset, shape or strides are no integers")
    return Tensor(storage, dtype, offset, tuple(shape), tuple(strides))


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): _build_dict(pairs),
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *rest: data,
    "torch._tensor._rebuild_from_type_v2": lambda make, kind, arguments, *_: call(make, arguments),
}
# What checkpoints hold beside tensors: the arguments of a run, counts, devices.
_INERT = frozenset(
    (
        "torch.Tensor",
        "torch.nn.parameter.Parameter",
        "torch.device",
        "argparse.Namespace",
        "collections.Counter",
        "collections.defaultdict",
        "pathlib.Path",
        "pathlib.PosixPath",
        "pathlib.PurePosixPath",
        "pathlib.WindowsPath",
        "_codecs.encode",
        "builtins.set",
        "builtins.dict",
        "builtins.list",
        "__builtin__.set",
        "__builtin__.dict",
        "__builtin__.list",
        "builtins.complex",
        "builtins.bytearray",
        "collections.deque",
        "decimal.Decimal",
        "fractions.Fraction",
        "uuid.UUID",
        "datetime.date",
        "datetime.datetime",
        "datetime.time",
        "datetime.timedelta",
        "datetime.timezone",
        "numpy.dtype",
        "numpy.ndarray",
        "numpy.core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct",
        "numpy.core.numeric._frombuffer",
        "numpy._core.numeric._frombuffer",
        "torch.Generator",
        "torch.torch_version.TorchVersion",
    )
)
# Packages whose objects stand beside weights: settings, and a trainer's state.
_INERT_PACKAGES = ("omegaconf.", "lightning.", "pytorch_lightning.", "lightning_fabric.")
