"""Checkpoints: a model's variables and what is known of them, saved and restored with Orbax.

A checkpoint is a folder with two items: `variables`, the nested dictionaries of arrays, and
`metadata`, JSON. Its SHA256SUMS, which `sha256sum --check` reads too, covers every other file, so
that damage is never silent.
"""

import hashlib
import json
import os
import shutil
import tempfile
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
      FileExistsError: the folder is there, and `overwrite` is False or it is no checkpoint.
      ValueError: the variables hold nothing, or what is no array of numbers, or an empty one.
      TypeError: JSON cannot hold the metadata.
    """
    import orbax.checkpoint as ocp

    target = Path(path).absolute()
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already; pass overwrite=True to replace it")
    if target.exists() and not (target / SUMS).is_file():
        raise FileExistsError(f"{target} is there already, and is no checkpoint to replace")
    arrays = jax.tree.map(np.asarray, dict(variables))
    _check(arrays)
    record = {**metadata, "format": FORMAT}
    json.dumps(record)  # raises before anything is written
    target.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    made, old = workshop / "made", workshop / "old"
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(
                made,
                args=ocp.args.Composite(
                    variables=ocp.args.StandardSave(arrays), metadata=ocp.args.JsonSave(record)
                ),
            )
        # Orbax's own marks of completeness name the folder that the rename leaves behind.
        for mark in made.rglob("commit_success.txt"):
            mark.unlink()
        sums = [f"{_sha256(file)}  {file.relative_to(made).as_posix()}\n" for file in _files(made)]
        (made / SUMS).write_text("".join(sums), encoding="utf-8")
        if target.exists():
            target.rename(old)
        try:
            made.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


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


def nested(flat: Mapping[str, Any]) -> Variables:
    """Arrays by their paths → nested dictionaries; the inverse of `leaves`."""
    tree: Variables = {}
    for path, array in flat.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = array
    return tree


def _check(arrays: Mapping[str, Any]) -> None:
    """Raises ValueError for what Orbax cannot save."""
    found = list(leaves(arrays))
    if not found:
        raise ValueError("variables hold no arrays")
    for path, array in found:
        if array.dtype.kind in "OSUMm" or array.size == 0:
            raise ValueError(
                f"variables must be arrays of numbers with at least one entry, "
                f"got {array.dtype}{list(array.shape)} at {path}"
            )


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
