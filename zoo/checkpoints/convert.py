"""Weights of other frameworks as checkpoints, and checkpoints as files for others."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from zoo.checkpoints.validate import validate
from zoo.models.base import Entry, Model, find_model
from zoo_pretrained import catalogue, read
from zoo_pretrained import checkpoint as store
from zoo_pretrained import convert as rules
from zoo_pretrained.checkpoint import flatten_variables, unflatten_variables
from zoo_pretrained.convert import ConversionError, defaults
from zoo_pretrained.convert.rules import Rules

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
    ignore: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    kernel_convention: str = "cross-correlation",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Makes a checkpoint of a file of weights.

    Args:
      file: `.pth`, `.safetensors`, `.h5`, `.weights.h5`, `.keras` or `.jld2`; its content tells.
      model: a constructor such as `zoo.ResNet50`, or its name.
      out: the folder to make.
      source: whose layer names and habits the weights have: "torchvision", "timm", "timm_tf" (those
        of timm's models that begin with "tf_"), "keras" or "flux". By default what the file's kind
        and names tell; they do not tell "timm" from "timm_tf". What `export` wrote needs none.
      num_classes: by default as many as the file's classifier has.
      head: False leaves the classifier out, whether the file has one or not.
      inside: the name of a model inside the file's model, such as a backbone that was fine-tuned;
        only its weights count.
      ignore: shell patterns for names of arrays that are not the model's, such as "decoder.*".
      arguments: further ones of the constructor, beyond those that its source implies.
      metadata: further entries of the checkpoint's metadata, such as "labels".
      kernel_convention: "convolution" for a file whose kernels are for that, as those of Theano and
        Lasagne; the checkpoint says so, and loading turns them. Those of Flux are known to be.
      overwrite: replaces a checkpoint that is there.

    Returns:
      The checkpoint's metadata.

    Raises:
      UnknownModelError: no model has that name.
      ReadError: the file cannot be read, or names what could run code.
      ConversionError: the weights do not fit; lists all that is amiss.
      FileExistsError: `out` is there already.
    """
    entry = find_model(model)
    arrays = read.arrays(file, inside)
    exported = _exported(file)
    if exported is not None:
        if num_classes is not None or not head or inside is not None or ignore or arguments:
            raise ConversionError(
                f"{file} is a checkpoint that zoo.export wrote; num_classes, head, inside, ignore "
                f"and arguments are what it says"
            )
        variables = unflatten_variables(arrays)
        validate(variables, exported, entry, str(file))
        record = {**exported, **(metadata or {})}
        store.save(out, variables, record, overwrite=overwrite)
        return record
    arrays = {n: a for n, a in arrays.items() if not any(fnmatchcase(n, p) for p in ignore)}
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
        if source is None and entry.family in defaults.ARGUMENTS.get(f"{one}_tf", {}):
            raise ConversionError(
                f"the names are {one}'s, which has two kinds of {entry.name}: for those that begin "
                f'with "tf_" the source is "{one}_tf", for others "{one}"; say which'
            )
        record = {
            "model": entry.name,
            "weights": Path(out).name,
            "arguments": made,
            "head": head,
            "source": {"from": one, "file": Path(file).name},
            "kernel_convention": kernel_convention,
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
      FileNotFoundError: its folder is not.
    """
    from safetensors.numpy import save_file

    target = Path(out)
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}")
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    arrays = {
        path: np.require(a, requirements="C") for path, a in flatten_variables(checkpoint.variables)
    }
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
        shapes = model.variable_shapes()
    except (TypeError, ValueError) as error:
        raise ConversionError(f"{entry.name} does not take these arguments: {error}") from error
    optional = () if head else model.classifier
    return rules.convert(arrays, table, shapes, source, optional=optional), made


def _exported(file: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The metadata that `export` put into a file, if it wrote it."""
    if read.source(file) != "safetensors":
        return None
    from safetensors import safe_open

    with safe_open(file, "numpy") as opened:
        text = (opened.metadata() or {}).get(EXPORTED)
    found: dict[str, Any] | None = None if text is None else json.loads(text)
    return found
