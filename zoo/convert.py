"""Weights of other frameworks as checkpoints, and checkpoints as files for others."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pretrained import catalogue, store
from pretrained import convert as rules
from pretrained.convert import ConversionError, defaults, read
from pretrained.convert.matching import Rules
from pretrained.store import leaves, nested
from zoo.models.base import CLASSIFIER, Entry, Model, find

# What each kind of file may come from, the likeliest first.
SOURCES = {
    "torch": ("torchvision", "timm"),
    "safetensors": ("torchvision", "timm"),
    "keras": ("keras",),
    "flux": ("flux",),
}
# Under this name `export` writes a checkpoint's metadata into a safetensors file.
EXPORTED = "jax-zoo"


def convert(
    file: str | os.PathLike[str],
    model: str | Callable[..., Model],
    out: str | os.PathLike[str],
    *,
    source: str | None = None,
    num_classes: int | None = None,
    head: bool = True,
    inside: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Makes a checkpoint of a file of weights.

    Args:
      file: `.pth`, `.safetensors`, `.h5`, `.weights.h5`, `.keras` or `.jld2`; its content tells.
      model: a constructor such as `zoo.ResNet50`, or its name.
      out: the folder to make.
      source: whose layer names and habits the weights have: "torchvision", "timm", "keras" or
        "flux". By default what the file's kind suggests. What `export` wrote needs none.
      num_classes: by default as many as the file's classifier has.
      head: False leaves the classifier out, whether the file has one or not.
      inside: the name of a model inside the file's model, such as a backbone that was fine-tuned;
        only its weights count.
      arguments: further ones of the constructor, beyond those that its source implies.
      metadata: further entries of the checkpoint's metadata, such as "labels".
      overwrite: replaces a checkpoint that is there.

    Returns:
      The checkpoint's metadata.

    Raises:
      UnknownModelError: no model has that name.
      ReadError: the file cannot be read, or names what could run code.
      ConversionError: the weights do not fit; lists all that is amiss.
      FileExistsError: `out` is there already.
    """
    entry = find(model)
    arrays = read.arrays(file, inside)
    exported = _exported(file)
    if exported is not None:
        return _import(arrays, exported, entry, out, metadata, overwrite)
    tables = _tables(entry, SOURCES[read.source(file)] if source is None else (source,))
    failures = []
    for one, table in tables.items():
        try:
            variables, made = _variables(
                arrays, table, entry, one, num_classes, head, arguments or {}
            )
        except ConversionError as error:
            failures.append(error)
            continue
        record = {
            "model": entry.name,
            "weights": Path(out).name,
            "arguments": made,
            "head": head,
            "source": {"from": one, "file": Path(file).name},
            "kernel_convention": "cross-correlation",
            "preprocessing": defaults.preprocessing(entry.family, one, entry.input_size),
            "labels": "imagenet1k" if made["num_classes"] == 1000 else None,
            **(metadata or {}),
        }
        store.save(out, variables, record, overwrite=overwrite)
        return record
    # Of several tables the one that fits best tells most.
    raise min(failures, key=lambda error: len(str(error)))


def from_upstream(
    file: Path, model: str, weights: str, source: dict[str, Any], target: Path
) -> None:
    """Makes the checkpoint of an entry of the catalogue from the file that it names."""
    entry = catalogue.entries()[model][weights]
    known = {name: value for name, value in entry.items() if name not in ("arguments", "head")}
    convert(
        file,
        model,
        target,
        source=source["from"],
        head=entry.get("head", True),
        arguments=entry["arguments"],
        metadata={**known, "weights": weights, "source": source},
        overwrite=True,
    )


def export(checkpoint: store.Checkpoint, out: str | os.PathLike[str]) -> None:
    """Writes a checkpoint as a safetensors file; `convert` makes the same checkpoint of it.

    Args:
      checkpoint: what `pretrained.restore` returns.
      out: the file to make; it appears whole or not at all.

    Arrays keep their dtypes and our layouts, and are called by their paths, such as
    "params/stem/conv/kernel".

    Raises:
      FileExistsError: the file is there already.
    """
    from safetensors.numpy import save_file

    target = Path(out)
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    arrays = {path: np.ascontiguousarray(array) for path, array in leaves(checkpoint.variables)}
    try:
        save_file(arrays, beside, {EXPORTED: json.dumps(checkpoint.metadata)})
        beside.rename(target)
    finally:
        beside.unlink(missing_ok=True)


def _tables(entry: Entry, sources: Sequence[str]) -> dict[str, Rules]:
    """The rules of those sources that have a model's family; ConversionError if none has."""
    tables = {}
    for source in sources:
        try:
            tables[source] = rules.rules(entry.family, source)
        except ValueError as error:
            missing = error
    if not tables:
        raise ConversionError(str(missing))
    return tables


def _variables(
    arrays: dict[str, Any],
    table: Rules,
    entry: Entry,
    source: str,
    num_classes: int | None,
    head: bool,
    arguments: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Lazy variables, and the constructor's arguments."""
    classes = num_classes or rules.count_classes(arrays, table, source) or 1000
    made = {**defaults.arguments(entry.family, source), **arguments, "num_classes": classes}
    try:
        model = entry.constructor(**made)
    except TypeError as error:
        raise ConversionError(f"{entry.name} does not take these arguments: {error}") from error
    optional = () if head else CLASSIFIER
    return rules.convert(arrays, table, template(model), source, optional=optional), made


def template(model: Model) -> Any:
    """The shapes of a model's variables."""
    side = model.least_size
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)


def _exported(file: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The metadata that `export` put into a file, if it wrote it."""
    if read.source(file) != "safetensors":
        return None
    from safetensors import safe_open

    with safe_open(file, "numpy") as opened:
        text = (opened.metadata() or {}).get(EXPORTED)
    found: dict[str, Any] | None = None if text is None else json.loads(text)
    return found


def _import(
    arrays: dict[str, Any],
    exported: dict[str, Any],
    entry: Entry,
    out: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None,
    overwrite: bool,
) -> dict[str, Any]:
    """Makes a checkpoint of what `export` wrote."""
    if exported.get("model", entry.name) != entry.name:
        raise ConversionError(f"the file holds a {exported['model']}, not a {entry.name}")
    record = {**exported, **(metadata or {})}
    store.save(out, nested(arrays), record, overwrite=overwrite)
    return record
