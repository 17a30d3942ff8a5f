"""Export of a checkpoint as a safetensors file, with its metadata inside."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from zoo_pretrained import read
from zoo_pretrained.bounded_json import parse_json
from zoo_pretrained.checkpoint import Checkpoint, flatten_variables
from zoo_pretrained.temporary import temporary_folder

# Under this key of the file's header `export` writes the checkpoint's metadata.
_METADATA = "jax-zoo"


def export(checkpoint: Checkpoint, out: str | os.PathLike[str]) -> None:
    """Writes a checkpoint as a safetensors file; `convert` makes the same checkpoint of it.

    Args:
      checkpoint: what `zoo_pretrained.checkpoint.restore` returns.
      out: the file to make; it appears complete or not at all.

    Arrays keep their dtypes and our layouts, and are called by their paths, such as
    "params/stem/conv/kernel".

    Raises:
      FileExistsError: the file is there already.
      FileNotFoundError: its folder is not.
    """
    from safetensors.numpy import save_file

    target = Path(out)
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}")
    arrays = {
        path: np.require(a, requirements="C") for path, a in flatten_variables(checkpoint.variables)
    }
    with temporary_folder(target) as temporary:
        save_file(arrays, temporary / "new", {_METADATA: json.dumps(checkpoint.metadata)})
        (temporary / "new").rename(target)


def exported_metadata(file: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The metadata in a file that `export` wrote; None for any other file.

    Raises:
      ReadError: the file cannot be read, or its metadata is no JSON object.
    """
    text = read.metadata(file).get(_METADATA)
    if text is None:
        return None
    try:
        metadata = parse_json(text)
    except ValueError as error:
        raise read.ReadError(f"{os.fspath(file)} has damaged metadata: {error}") from error
    if not isinstance(metadata, dict):
        raise read.ReadError(f"{os.fspath(file)} has damaged metadata: it is no JSON object")
    return metadata
