"""Conversion of other frameworks' weights to checkpoints."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from zoo.checkpoints.attempt import Attempt, check_arguments
from zoo.checkpoints.diagnose import explain
from zoo.checkpoints.exported import exported_metadata
from zoo.checkpoints.validate import constructor_arguments, validate
from zoo.models.base import Model, ModelEntry, find_model
from zoo.models.options import to_json
from zoo_pretrained import catalogue, read
from zoo_pretrained import convert as conversion
from zoo_pretrained.checkpoint import Variables, save, unflatten_variables
from zoo_pretrained.convert import ConversionError
from zoo_pretrained.convert.frameworks import FLUX, KERAS, TORCH
from zoo_pretrained.convert.source import Source
from zoo_pretrained.printable import printable
from zoo_pretrained.spelling import argument, choose

# Whose names and layouts the arrays of a file have, by what wrote it.
_FRAMEWORKS = {"torch": TORCH, "safetensors": TORCH, "keras": KERAS, "flux": FLUX}


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
      file: `.pth`, `.safetensors` (or the `.index.json` of several), `.h5`, `.weights.h5`, `.keras`
        or `.jld2`; its content tells.
      model: a constructor such as `zoo.ResNet50`, or its name.
      out: the folder to make.
      source: whose layer names and architecture the weights have: "torchvision", "timm", "timm_tf"
        (those of timm's models that begin with "tf_"), "keras" or "flux", and whatever else the
        model's family declares in `zoo_pretrained.convert`. By default what the file's kind and
        names tell; they do not tell "timm" from "timm_tf". What `export` wrote needs none.
      num_classes: by default as many as the file's classifier has; a detector's count the
        background.
      head: False leaves the classifier out, whether the file has one or not.
      inside: the path of a dict in a PyTorch checkpoint, such as "model_ema", or the name of a
        model inside the file's model, such as a backbone that was fine-tuned; only its weights
        count.
      ignore: shell patterns for names of arrays that are not the model's, such as "decoder.*".
      arguments: further ones of the constructor, beyond those that its source implies.
      metadata: further entries of the checkpoint's metadata, such as "labels".
      kernel_convention: "convolution" for a file whose kernels are for that, as those of Theano and
        Lasagne; the checkpoint says so, and loading flips them. Those of Flux are known to be.
      overwrite: replaces a checkpoint that is there.

    Returns:
      The checkpoint's metadata.

    Raises:
      UnknownModelError: no model has that name.
      ReadError: the file cannot be read, or names what could run code.
      ConversionError: the weights do not fit; the message says what would make them fit, and the
        error's `mismatches` are all entries that do not. Or several sources fit, whose models
        compute differently; or `ignore` matches nothing; or there are more or fewer labels than
        classes.
      FileExistsError: `out` is there already.
    """
    entry = find_model(model)
    arrays = read.arrays(file, inside)
    exported = exported_metadata(file)
    if exported is not None:
        is_flipped = kernel_convention != "cross-correlation"
        if (
            source or num_classes is not None or not head or inside or ignore or arguments
        ) or is_flipped:
            names = ("source", "num_classes", "head", "inside", "ignore", "kernel_convention")
            listed = ", ".join(map(argument, names))
            raise ConversionError(
                f"{file} is a checkpoint that was exported, and itself says what these are: "
                f"{listed}, {choose(python='arguments', shell='--argument')}"
            )
        try:
            variables = unflatten_variables(arrays)
        except ValueError as error:
            raise ConversionError(f"{file} does not fit {entry.name}: {error}") from error
        validate(variables, exported, entry, str(file))
        record = {**exported, **(metadata or {})}
        _check_labels(record.get("labels"), constructor_arguments(variables, record))
        _save(out, variables, record, overwrite)
        return record
    check_arguments(arguments or {})
    candidates = _candidates(entry, file, source)
    arrays = _enter_wrappers(_drop_ignored(arrays, ignore, file), candidates.values())
    first = Attempt(
        entry=entry,
        source=next(iter(candidates.values())),
        arrays=arrays,
        inside=inside,
        ignore=tuple(ignore),
        head=head,
        num_classes=num_classes,
        arguments=arguments or {},
    )
    name, variables, all_arguments = _convert_first(first, candidates, file)
    _check_unambiguous(name, candidates, entry)
    built, labels = entry.constructor(**all_arguments), candidates[name].labels
    is_usual = head and all_arguments["num_classes"] == len(catalogue.labels(labels))
    record = {
        "model": entry.name,
        "weights": Path(out).name,
        "arguments": {n: to_json(n, value) for n, value in all_arguments.items()},
        "head": head,
        "source": {"from": name, "file": Path(file).name},
        "kernel_convention": kernel_convention,
        "preprocessing": candidates[name].preprocessing_of(
            entry.name,
            read.input_size(file) or max(entry.input_size, built.min_size),
        ),
        "labels": labels if is_usual else None,
        **(metadata or {}),
    }
    _check_labels(record["labels"], all_arguments)
    _save(out, variables, record, overwrite)
    return record


def _save(
    out: str | os.PathLike[str], variables: Variables, record: dict[str, Any], overwrite: bool
) -> None:
    """Saves a checkpoint; ConversionError if its metadata cannot be used."""
    try:
        save(out, variables, record, overwrite=overwrite)
    except ValueError as error:
        raise ConversionError(f"{out} cannot be saved: {error}") from error


def _drop_ignored(
    arrays: Mapping[str, np.ndarray], patterns: Sequence[str], file: str | os.PathLike[str]
) -> dict[str, np.ndarray]:
    """The arrays whose names match none of the patterns, each of which must match some."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in arrays):
            raise ConversionError(
                f"{argument('ignore', pattern)} matches none of the {len(arrays)} entries of "
                f"{file}, such as {printable(next(iter(arrays)))!r}"
            )
    kept = {n: a for n, a in arrays.items() if not any(fnmatchcase(n, p) for p in patterns)}
    if not kept:
        raise ConversionError(
            f"{argument('ignore', list(patterns))} leaves none of the entries of {file}"
        )
    return kept


def _check_labels(labels: Any, arguments: Mapping[str, Any]) -> None:
    """Raises ConversionError for a list of labels of another length than there are classes."""
    classes = arguments.get("num_classes", 1000)
    if isinstance(labels, Sequence) and not isinstance(labels, str) and len(labels) != classes:
        given = choose(python="metadata['labels']", shell="--labels")
        raise ConversionError(
            f"{given} has {len(labels)} labels, and the model has {classes} classes"
        )


def convert_published(
    file: Path, model: str, weights: str, download: dict[str, Any], target: Path
) -> None:
    """Makes the checkpoint of a catalogue entry from the published file that it names.

    Args:
      file: as downloaded.
      model, weights: the names of the entry.
      download: the entry's "source", with the sha256 of the file.
      target: the checkpoint's folder; replaced if it is there.
    """
    entry = catalogue.entries()[model][weights]
    metadata = {name: value for name, value in entry.items() if name not in ("arguments", "head")}
    convert(
        file,
        model,
        target,
        source=download["from"],
        head=entry.get("head", True),
        arguments=entry["arguments"],
        metadata={**metadata, "weights": weights, "source": download},
        overwrite=True,
    )


def _candidates(
    entry: ModelEntry, file: str | os.PathLike[str], name: str | None
) -> dict[str, Source]:
    """The sources by name that a file may be of: the one of that name, or all of its framework."""
    try:
        if name is not None:
            return {name: conversion.find_source(entry.family, name)}
        family_sources = conversion.sources(entry.family)
    except ValueError as error:
        raise ConversionError(str(error)) from error
    framework = _FRAMEWORKS[read.detect_format(file)]
    found = {n: source for n, source in family_sources.items() if source.framework is framework}
    if not found:
        raise ConversionError(
            f"{file} is {framework.name}'s, and {entry.family} has no source of {framework.name}; "
            f"it has: {', '.join(family_sources)}"
        )
    return found


def _convert_first(
    first: Attempt, candidates: Mapping[str, Source], file: str | os.PathLike[str]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The name of the first source that fits, lazy variables, and the constructor's arguments."""
    failures: list[tuple[Attempt, ConversionError]] = []
    for name, source in candidates.items():
        attempt = first._replace(source=source)
        try:
            return name, *attempt.convert()
        except ConversionError as error:
            failures.append((attempt, error))
    # Of the source that fits best.
    attempt, failure = min(failures, key=lambda failed: len(failed[1].mismatches))
    if not failure.mismatches:
        raise failure
    raise explain(attempt, failure, lambda inside: read.arrays(file, inside))


def _enter_wrappers(
    arrays: dict[str, np.ndarray], sources: Collection[Source]
) -> dict[str, np.ndarray]:
    """The arrays by their names inside a module that holds them all, such as Lightning's.

    It is entered only while no rule of the sources knows any name outside it.
    """
    separator = next(iter(sources)).framework.separator
    while all(len(conversion.find_unmapped(arrays, source)) == len(arrays) for source in sources):
        outer = {name.partition(separator)[0] for name in arrays}
        if len(outer) > 1 or not all(separator in name for name in arrays):
            break
        arrays = {name.partition(separator)[2]: array for name, array in arrays.items()}
    return arrays


def _check_unambiguous(name: str, candidates: Mapping[str, Source], entry: ModelEntry) -> None:
    """Raises ConversionError where names fit further sources, whose models compute differently."""
    source = candidates[name]
    same_rules = {n: other for n, other in candidates.items() if other.rules == source.rules}
    if all(
        (other.arguments, other.normalization) == (source.arguments, source.normalization)
        for other in same_rules.values()
    ):
        return
    listed = " or ".join(
        f'"{n}"' + (f" (for {s.hint})" if s.hint else "") for n, s in same_rules.items()
    )
    raise ConversionError(
        f"the names fit several sources of {entry.name}, which compute differently: say by "
        f"{argument('source')} whether it is {listed}"
    )
