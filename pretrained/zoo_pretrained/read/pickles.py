"""Pickles of state dicts, read without Python's unpickler: nothing in a file is ever run.

A pickle machine of our own runs the opcodes of `pickletools.genops`, with lists, dicts, tuples and
scalars on its stack. What it may name is in `pickle_globals`. There are no classes to instantiate,
no attributes to set (BUILD's state is dropped) and no extension registry.
"""

import pickletools
import re
from collections.abc import Callable
from typing import IO, Any

from zoo_pretrained.read.files import UnreadableError
from zoo_pretrained.read.pickle_globals import (
    OPAQUE,
    OperationBudget,
    Storage,
    build_dict,
    call,
    find_global,
)


def load(
    stream: IO[bytes],
    budget: OperationBudget,
    persistent: Callable[[Any], Storage] | None = None,
) -> Any:
    """Reads one pickle, and leaves the stream positioned after it.

    Args:
      stream: the bytes.
      budget: of the file, whose pickles share it.
      persistent: makes a storage of a persistent id; None where a pickle may have none.

    Raises:
      UnreadableError: the pickle names a global that no table lists, or does what no state dict
        needs.
      Exception: of any kind, where it is damaged.
    """
    machine = _Machine(budget, persistent)
    for operation, argument, _ in pickletools.genops(stream):
        budget.take(1)
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

    def __init__(
        self, budget: OperationBudget, persistent: Callable[[Any], Storage] | None
    ) -> None:
        self.stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._budget, self._persistent = budget, persistent

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
            self.stack[-1].update(build_dict(zip(items[::2], items[1::2], strict=True)))
        elif self.stack[-1] is not OPAQUE:
            raise UnreadableError("holds a damaged pickle: it sets an item of what is no dict")

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(find_global(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(find_global(module, name))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(call(function, arguments, self._budget))

    _newobj = _reduce

    def _build(self, _: Any) -> None:
        self.stack.pop()  # attributes, of which a state dict needs none

    def _binpersid(self, _: Any) -> None:
        if self._persistent is None:
            raise UnreadableError("holds a pickle that refers to a storage where none can be")
        self.stack.append(self._persistent(self.stack.pop()))
