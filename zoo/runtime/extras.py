"""Imports libraries that not everybody installs."""

import importlib
from typing import Any


class MissingExtraError(ImportError):
    """A library is not installed; the message says how it is."""


def require(module: str, extra: str) -> Any:
    """Imports a module that an extra of this package installs.

    Args:
      module: its name, such as "grain".
      extra: the name of the extra, such as "train".

    Raises:
      MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise MissingExtraError(
            f"{error.name} is not installed; pip install 'jax-zoo[{extra}]' brings it"
        ) from error
