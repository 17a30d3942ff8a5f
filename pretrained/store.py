"""Checkpoints: a model's variables and what is known of them, saved and restored with Orbax.

A checkpoint is a folder with two items: `variables`, the nested dictionaries of arrays, and
`metadata`, JSON. Its SHA256SUMS, which `sha256sum --check` reads too, covers every other file, so
that damage is never silent.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

FORMAT = 1
SUMS = "SHA256SUMS"

Variables = dict[str, Any]


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Args:
      variables: {"params": …, "batch_stats": …}, NumPy arrays in nested dictionaries.
      metadata: JSON values: the format's version, and what its writer put in.
    """

    variables: Variables
    metadata: dict[str, Any]


class CheckpointError(Exception):
    """A checkpoint that is missing, damaged, or of another format; names its folder."""


def save(
    path: str | os.PathLike[str],
    variables: Mapping[str, Any],
    metadata: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Writes a checkpoint; the folder appears whole or not at all.

    Args:
      path: the folder to make.
      variables: nested dictionaries of arrays.
      metadata: what JSON can hold.
      overwrite: replaces a folder that is there already.

    Raises:
      FileExistsError: the folder is there, and `overwrite` is False.
      TypeError: JSON cannot hold the metadata.
    """
    import orbax.checkpoint as ocp

    target = Path(path).absolute()
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already; pass overwrite=True to replace it")
    arrays = jax.tree.map(np.asarray, dict(variables))
    record = {**metadata, "format": FORMAT}
    json.dumps(record)  # raises before anything is written
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(
                beside,
                args=ocp.args.Composite(
                    variables=ocp.args.StandardSave(arrays), metadata=ocp.args.JsonSave(record)
                ),
            )
        # Orbax's own marks of completeness name the folder that the rename leaves behind.
        for mark in beside.rglob("commit_success.txt"):
            mark.unlink()
        sums = [
            f"{_sha256(file)}  {file.relative_to(beside).as_posix()}\n" for file in _files(beside)
        ]
        (beside / SUMS).write_text("".join(sums), encoding="utf-8")
        if target.exists():
            old = target.with_name(f"{beside.name}.old")
            target.rename(old)
            beside.rename(target)
            shutil.rmtree(old)
        else:
            beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def restore(path: str | os.PathLike[str]) -> Checkpoint:
    """Verifies a checkpoint and reads it.

    Raises:
      CheckpointError: there is none, it is damaged, or a later version wrote it.
    """
    import orbax.checkpoint as ocp

    folder = Path(path).absolute()
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint at {folder}")
    _verify(folder)
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            restored = checkpointer.restore(
                folder,
                args=ocp.args.Composite(
                    variables=ocp.args.StandardRestore(), metadata=ocp.args.JsonRestore()
                ),
            )
        variables, metadata = dict(restored.variables), dict(restored.metadata)
    except Exception as error:  # Orbax and its stores have no common base of their errors
        cause = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"the checkpoint {folder} cannot be read: {cause}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"the checkpoint {folder} has format {metadata.get('format')!r}; "
            f"this version reads format {FORMAT}"
        )
    return Checkpoint(variables, metadata)


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays of nested dictionaries with their paths, such as "params/stem/conv/kernel"."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _verify(folder: Path) -> None:
    """Raises CheckpointError unless every file is as it was saved."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the checkpoint {folder} has no readable {SUMS}") from error
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in sorted(listed.keys() | {"metadata/metadata", "variables/manifest.ocdbt"}):
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"the checkpoint {folder} is damaged: {name!r} is missing")
        if _sha256(file) != listed.get(name):
            raise CheckpointError(f"the checkpoint {folder} is damaged: {name!r} was changed")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
