"""What a pickle of a state dict may name, and the data that its names stand for.

A global becomes a `Global`; calling one picks a function from the table below, which only puts data
together. A global that the tables lack is refused with its name. What checkpoints commonly hold
beside tensors becomes `OPAQUE`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np

from zoo_pretrained.read.files import MAX_RANK, UnreadableError

# A tensor takes some fifty operations, so this allows 40 000 tensors, or as long a history beside
# them: some seconds.
OPERATIONS = 2_000_000
MAX_NAME = 200  # characters of a global's name
MAX_BITS = 63  # of a number that says where a tensor is

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


class OperationBudget:
    """How many operations the pickles of a file may still take.

    An entry that a call copies counts as one: a small pickle can copy a long list for ever.
    """

    def __init__(self) -> None:
        self._left = OPERATIONS

    def take(self, count: int) -> None:
        """Subtracts operations; raises UnreadableError where too few are left."""
        self._left -= count
        if self._left < 0:
            raise UnreadableError(f"holds pickles of more than {OPERATIONS} operations")


def find_global(module: Any, name: Any) -> Global:
    """The global of a name; UnreadableError where the tables lack it."""
    if not isinstance(module, str) or not isinstance(name, str) or len(module + name) > MAX_NAME:
        raise UnreadableError(
            f"holds a pickle whose name of a global is no text, or has over {MAX_NAME} characters"
        )
    full = f"{module}.{name}"
    if full in _CALLS or full == _CALLS_AGAIN or full in _INERT or full.startswith(_INERT_PACKAGES):
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


def call(function: Any, arguments: Any, budget: OperationBudget) -> Any:
    """The result of calling a global; what it may copy is taken from the budget."""
    if not isinstance(function, Global) or not isinstance(arguments, tuple):
        raise UnreadableError("holds a pickle that calls what is no function")
    if function.name in _INERT or function.name.startswith(_INERT_PACKAGES):
        return OPAQUE
    if function.name not in _CALLS and function.name != _CALLS_AGAIN:
        raise UnreadableError(f"holds a pickle that calls {function.name}")
    budget.take(len(arguments))
    for argument in arguments:
        budget.take(len(argument) if isinstance(argument, list | tuple | dict | str | bytes) else 1)
    if function.name == _CALLS_AGAIN:
        return call(arguments[0], arguments[2], budget)
    return _CALLS[function.name](*arguments)


def build_dict(pairs: Any) -> dict[str, Any]:
    """A dict of the pairs whose key is a text, as the names of weights are.

    Other keys are beside the weights, and left out: hashing tuples of tuples can take for ever, and
    numbers can be chosen so that all of them collide.
    """
    return {key: value for key, value in pairs if isinstance(key, str)}


def _build_size(entries: Any = ()) -> tuple[Any, ...]:
    if not isinstance(entries, list | tuple) or len(entries) > MAX_RANK:
        raise UnreadableError(f"has a torch.Size that is no list of at most {MAX_RANK} entries")
    return tuple(entries)


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
    lists = isinstance(shape, list | tuple) and isinstance(strides, list | tuple)
    if not lists or len(shape) != len(strides) or len(shape) > MAX_RANK:
        raise UnreadableError(
            f"has a tensor whose shape and strides are no lists of one length, at most {MAX_RANK}"
        )
    if not all(map(is_place, (offset, *shape, *strides))):
        raise UnreadableError("has a tensor whose offset, shape or strides are no integers")
    return Tensor(storage, dtype, offset, tuple(shape), tuple(strides))


def is_place(number: Any) -> bool:
    """Whether a value is an integer of the size of those that say where a tensor is.

    Products of larger ones, which may have millions of digits, would take hours.
    """
    return type(number) is int and number.bit_length() <= MAX_BITS


# Calls its first argument with its third, in `call`.
_CALLS_AGAIN = "torch._tensor._rebuild_from_type_v2"
_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): build_dict(pairs),
    "torch.Size": _build_size,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *rest: data,
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
