"""How messages tell what to type: an argument in Python, an option in a shell.

The command line says once that it is one, so that each message is written in one place.
"""

import contextlib
import shlex
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

_IN_SHELL = ContextVar("_IN_SHELL", default=False)


@contextlib.contextmanager
def for_shell() -> Iterator[None]:
    """Spells messages for a shell inside the `with` block."""
    token = _IN_SHELL.set(True)
    try:
        yield
    finally:
        _IN_SHELL.reset(token)


def choose(*, python: str, shell: str) -> str:
    """The words for whoever reads the message."""
    return shell if _IN_SHELL.get() else python


def argument(name: str, *value: Any) -> str:
    """An argument to give, such as `inside='net'` or `--inside net`.

    Args:
      name: in Python, such as "num_classes".
      *value: what to give, a list for several; nothing for the name alone.
    """
    option = f"--{name.replace('_', '-')}"
    if not value:
        return choose(python=name, shell=option)
    (given,) = value
    if isinstance(given, bool):
        shell = option if given else f"--no-{option[2:]}"
    else:
        several = given if isinstance(given, list) else [given]
        shell = " ".join(f"{option} {shlex.quote(str(item))}" for item in several)
    return choose(python=f"{name}={given!r}", shell=shell)
