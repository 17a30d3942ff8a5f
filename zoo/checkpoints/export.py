"""Export of a checkpoint as a safetensors file, with its metadata inside."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from zoo_pretrained import read
from zoo_pretrained.checkpoint import Checkpoint, flatten_variables

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
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    arrays = {
        path: np.require(a, requirements="C") for path, a in flatten_variables(checkpoint.variables)
    }
    try:
        save_file(arrays, temporary, {_METADATA: json.dumps(checkpoint.metadata)})
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)


def exported_metadata(file: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The metadata in a file that `export` wrote; None for any other file."""
    if read.detect_format(file) != "safetensors":
        return None
    from safetensors import safe_open

    with safe_open(file, "numpy") as opened:
        text = (opened.metadata() or {}).get(_METADATA)
    metadata: dict[str, Any] | None = None if text is None else json.loads(text)
    return metadata
