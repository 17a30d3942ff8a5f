"""`zoo convert`, `export`, `publish`, `fetch` and `cache`: weights in and out."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zoo.checkpoints.convert import convert as convert_
from zoo.checkpoints.convert import export as export_
from zoo.checkpoints.weights import stored
from zoo.cli.words import columns, size
from zoo.models.base import Entry, find_model
from zoo_pretrained import cache as cached
from zoo_pretrained import checkpoint as store
from zoo_pretrained import remote_store
from zoo_pretrained.convert.defaults import SOURCES

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def convert(
    file: Annotated[Path, typer.Argument(help="A .pth, .safetensors, .h5, .keras or .jld2 file.")],
    model: Annotated[str, typer.Option(help="Which model the weights are of, such as ResNet50.")],
    out: Annotated[Path, typer.Option(help="The checkpoint's folder, to be made.")],
    source: Annotated[
        str | None, typer.Option(help=f"Whose names the layers have: {', '.join(SOURCES)}.")
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(min=1, help="By default as many as the file's classifier has.")
    ] = None,
    head: Annotated[bool, typer.Option(help="Whether the classifier comes along.")] = True,
    inside: Annotated[
        str | None, typer.Option(help="A model inside the file's model, such as a backbone.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Names of arrays to leave out, such as 'decoder.*'.")
    ] = None,
    argument: Annotated[
        list[str] | None, typer.Option(help="NAME=JSON, for the model's constructor.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A text file with the name of each class on a line.")
    ] = None,
    kernel_convention: Annotated[
        Literal["cross-correlation", "convolution"],
        typer.Option(help="What the file's kernels are for; convolution in Theano and Lasagne."),
    ] = "cross-correlation",
    overwrite: Overwrite = False,
) -> None:
    """Make a checkpoint of weights from PyTorch, timm, Keras or Flux."""
    if source not in (None, *SOURCES):
        raise typer.BadParameter(
            f"{source!r} is none of {', '.join(SOURCES)}", param_hint="--source"
        )
    metadata: dict[str, Any] = {}
    if labels is not None:
        try:
            metadata["labels"] = labels.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{labels}: {error}", param_hint="--labels") from error
    record = convert_(
        file,
        model,
        out,
        source=source,
        num_classes=num_classes,
        head=head,
        inside=inside,
        ignore=ignore or [],
        arguments=dict(map(_argument, argument or [])),
        metadata=metadata,
        kernel_convention=kernel_convention,
        overwrite=overwrite,
    )
    arguments = ", ".join(f"{n}={value!r}" for n, value in record.get("arguments", {}).items())
    print(f"{out}: {find_model(model).name}({arguments})")


def export(
    weights: Annotated[str, typer.Argument(help="A checkpoint's folder, or MODEL[:WEIGHTS].")],
    out: Annotated[Path, typer.Option(help="The .safetensors file, to be made.")],
) -> None:
    """Write a checkpoint as a safetensors file, which `zoo convert` reads back."""
    folder = "/" in weights or Path(weights).is_dir()
    export_(store.restore(weights) if folder else stored(*_named(weights)), out)
    print(f"{out}: {size(out.stat().st_size)}")


def publish(
    checkpoints: Annotated[list[Path], typer.Argument(help="Folders of checkpoints.")],
    to: Annotated[str, typer.Option(help="The store: a folder, gs://…, s3://… or hf://….")],
    overwrite: Overwrite = False,
) -> None:
    """Put checkpoints into a store, from which others load them (see ZOO_STORES)."""
    made = remote_store.publish(checkpoints, to, overwrite=overwrite)
    print(columns([(item.archive, size(item.size), item.sha256) for item in made]))


def fetch(
    names: Annotated[list[str], typer.Argument(help="MODEL or MODEL:WEIGHTS.")],
) -> None:
    """Fetch weights into the cache, so that they are there without a network."""
    for name in names:
        stored(*_named(name))
        print(name)


def cache(
    patterns: Annotated[
        list[str] | None, typer.Argument(help="Only these, such as 'resnet*'.")
    ] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Remove them; without patterns, all but checkpoints: partial downloads, what was "
            "damaged, compiled programs.",
        ),
    ] = False,
) -> None:
    """Show what is in the cache, or remove it."""
    found = cached.prune(patterns or []) if prune else cached.items(patterns or ["*"])
    print(
        f"{cached.folder()}: {'removed' if prune else 'holds'} {size(sum(i.size for i in found))}"
    )
    if found:
        print(columns([(item.name, item.kind, size(item.size)) for item in found]))


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError("there is no '='")
        return name, json.loads(value)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not NAME=JSON: {error}", param_hint="--argument"
        ) from error


def _named(text: str) -> tuple[Entry, str | None]:
    """MODEL or MODEL:WEIGHTS; UnknownModelError for a model that there is not."""
    model, _, weights = text.partition(":")
    return find_model(model), weights or None
