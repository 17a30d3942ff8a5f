"""Files that `export` wrote: they have a checkpoint's metadata in their header."""

import os
from typing import Any

from zoo_pretrained import read
from zoo_pretrained.bounded_json import parse_json

# The key of the header under which the metadata is.
KEY = "jax-zoo"


def exported_metadata(file: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The metadata in a file that `export` wrote; None for any other file.

    Raises:
      ReadError: the file cannot be read, or its metadata is no JSON object.
    """
    text = read.metadata(file).get(KEY)
    if text is None:
        return None
    try:
        metadata = parse_json(text)
    except ValueError as error:
        raise read.ReadError(f"{os.fspath(file)} has damaged metadata: {error}") from error
    if not isinstance(metadata, dict):
        raise read.ReadError(f"{os.fspath(file)} has damaged metadata: it is no JSON object")
    return metadata
