"""JSON of files and servers, with limits on its size and depth: one reader for all of it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# The largest in the zoo are configurations of Keras and indices of large models: below 1 MiB.
MAX_BYTES = 4 << 20
MAX_DEPTH = 100  # lists and objects in each other

# Possessive, so that a text of any length takes no memory to match.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def parse_json(
    text: bytes | memoryview | str,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """The value of a JSON text.

    Args:
      text: UTF-8, where it is no string.
      object_pairs_hook: as of `json.loads`.

    Raises:
      ValueError: it is no JSON, longer than `MAX_BYTES`, or nested deeper than `MAX_DEPTH`.
    """
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")
    return json.loads(check_json(text).decode(), object_pairs_hook=object_pairs_hook)


def read_json(path: Path) -> Any:
    """The value in a JSON file; ValueError as for `parse_json`, OSError where it cannot be read."""
    with path.open("rb") as stream:
        return parse_json(stream.read(MAX_BYTES + 1))


def check_json(encoded: bytes | memoryview) -> bytes:
    """Returns a JSON text; ValueError where `parse_json` would refuse its size or depth."""
    if len(encoded) > MAX_BYTES:
        raise ValueError(f"JSON of {len(encoded)} bytes; at most {MAX_BYTES} are read")
    encoded = bytes(encoded)
    characters = np.frombuffer(_STRING.sub(b"", encoded), np.uint8)
    opened = (characters == ord("[")) | (characters == ord("{"))
    closed = (characters == ord("]")) | (characters == ord("}"))
    depth = np.cumsum(opened.astype(np.int32) - closed)
    if depth.max(initial=0) > MAX_DEPTH:
        raise ValueError(f"JSON nested deeper than {MAX_DEPTH}")
    return encoded
