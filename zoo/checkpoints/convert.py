"""Conversion of other frameworks' weights to checkpoints."""

import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from zoo.checkpoints.export import exported_metadata
from zoo.checkpoints.validate import validate
from zoo.models.base import Model, ModelEntry, find_model
from zoo_pretrained import catalogue, read
from zoo_pretrained import convert as conversion
from zoo_pretrained.checkpoint import save, unflatten_variables
from zoo_pretrained.convert import ConversionError
from zoo_pretrained.convert.frameworks import FLUX, KERAS, TORCH
from zoo_pretrained.convert.source import Source

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
      num_classes: by default as many as the file's classifier has.
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
      ConversionError: the weights do not fit; lists every entry that does not. Or several sources
        fit, whose models compute differently.
      FileExistsError: `out` is there already.
    """
    entry = find_model(model)
    arrays = read.arrays(file, inside)
    exported = exported_metadata(file)
    if exported is not None:
        if num_classes is not None or not head or inside is not None or ignore or arguments:
            raise ConversionError(
                f"{file} is a checkpoint that zoo.export wrote; num_classes, head, inside, ignore "
                f"and arguments are what it says"
            )
        try:
            variables = unflatten_variables(arrays)
        except ValueError as error:
            raise ConversionError(f"{file} does not fit {entry.name}: {error}") from error
        validate(variables, exported, entry, str(file))
        record = {**exported, **(metadata or {})}
        save(out, variables, record, overwrite=overwrite)
        return record
    arrays = {n: a for n, a in arrays.items() if not any(fnmatchcase(n, p) for p in ignore)}
    candidates = _candidates(entry, file, source)
    name, variables, all_arguments = _convert_first(
        arrays, candidates, entry, num_classes, head, arguments or {}
    )
    _check_unambiguous(name, candidates, entry)
    record = {
        "model": entry.name,
        "weights": Path(out).name,
        "arguments": all_arguments,
        "head": head,
        "source": {"from": name, "file": Path(file).name},
        "kernel_convention": kernel_convention,
        "preprocessing": candidates[name].preprocessing(entry.input_size),
        "labels": "imagenet1k" if all_arguments["num_classes"] == 1000 else None,
        **(metadata or {}),
    }
    save(out, variables, record, overwrite=overwrite)
    return record


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
    arrays: Mapping[str, np.ndarray],
    candidates: Mapping[str, Source],
    entry: ModelEntry,
    num_classes: int | None,
    head: bool,
    arguments: Mapping[str, Any],
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The name of the first source that fits, lazy variables, and the constructor's arguments."""
    failures = []
    for name, source in candidates.items():
        classes = num_classes or conversion.count_classes(arrays, source) or 1000
        all_arguments = {**source.arguments, **arguments, "num_classes": classes}
        try:
            model = entry.constructor(**all_arguments)
            shapes = model.variable_shapes()
        except (TypeError, ValueError) as error:
            message = f"{entry.name} does not take these arguments: {error}"
            failures.append(ConversionError(message))
            continue
        try:
            optional = () if head else model.classifier
            return (
                name,
                conversion.convert(arrays, source, shapes, optional=optional),
                all_arguments,
            )
        except ConversionError as error:
            failures.append(error)
    # The shortest message is of the source that fits best.
    raise min(failures, key=lambda error: len(str(error)))


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
        f"the names fit several sources of {entry.name}, which compute differently: "
        f"say whether the source is {listed}"
    )
