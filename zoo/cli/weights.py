"""`zoo convert`, `export`, `publish`, `fetch` and `cache`: commands for weights."""

from pathlib import Path
from typing import Annotated, Literal

import typer

import zoo
from zoo.checkpoints.labels import read_labels
from zoo.checkpoints.weights import load_weights
from zoo.cli.arguments import parse_arguments
from zoo.cli.errors import USER_ERRORS, describe_error
from zoo.cli.onnx import convert_onnx
from zoo.cli.output import MAX_COUNT, format_bytes, print_error, print_line, print_table
from zoo.models.base import ModelEntry, find_model
from zoo_pretrained import cache as weights_cache
from zoo_pretrained import remote_store, resolve
from zoo_pretrained.checkpoint import Checkpoint, CheckpointError, check_checkpoint
from zoo_pretrained.convert import SOURCES, ConversionError
from zoo_pretrained.printable import printable

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]
ListAll = Annotated[
    bool, typer.Option("--all", help="If the weights do not fit, list every entry.")
]


def convert(
    file: Annotated[
        Path, typer.Argument(help="A .pth, .safetensors, .h5, .keras, .jld2 or .onnx file.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to create for the checkpoint.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="The model that the weights are for, such as ResNet50. "
            "An .onnx file needs none, as it brings its own."
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help=f"Whose layer names the file has: {', '.join(SOURCES)}.")
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_COUNT,
            help="Number of classes; by default that of the file's classifier.",
        ),
    ] = None,
    head: Annotated[bool, typer.Option(help="Convert the classifier, or leave it out.")] = True,
    inside: Annotated[
        str | None,
        typer.Option(help="Dict in the file, such as model_ema, or model inside the file's model."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Pattern for names of arrays to leave out, such as 'decoder.*'."),
    ] = None,
    argument: Annotated[
        list[str] | None, typer.Option(help="Argument of the model's constructor, as NAME=JSON.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A text file with one class name per line.")
    ] = None,
    kernel_convention: Annotated[
        Literal["cross-correlation", "convolution"],
        typer.Option(help="Convention of the file's kernels; Theano and Lasagne have convolution."),
    ] = "cross-correlation",
    overwrite: Overwrite = False,
    list_all: ListAll = False,
) -> None:
    """Make a checkpoint of weights from PyTorch, timm, Keras or Flux, or of a model in ONNX."""
    if file.suffix.lower() == ".onnx":
        others = {
            "--model": model,
            "--source": source,
            "--num-classes": num_classes,
            "--no-head": not head,
            "--inside": inside,
            "--ignore": ignore,
            "--argument": argument,
            "--kernel-convention": kernel_convention != "cross-correlation",
            "--all": list_all,
        }
        for name, value in others.items():
            if value:
                raise typer.BadParameter(
                    f"{file} brings its own model: leave it out", param_hint=name
                )
        convert_onnx(file, out, None if labels is None else read_labels(labels), overwrite)
        return
    if model is None:
        raise typer.BadParameter(
            f"needed for {file}, such as --model ResNet50", param_hint="--model"
        )
    if source not in (None, *SOURCES):
        raise typer.BadParameter(
            f"{source!r} is none of {', '.join(SOURCES)}", param_hint="--source"
        )
    try:
        record = zoo.convert(
            file,
            model,
            out,
            source=source,
            num_classes=num_classes,
            head=head,
            inside=inside,
            ignore=ignore or [],
            arguments=parse_arguments(argument or []),
            metadata={} if labels is None else {"labels": read_labels(labels)},
            kernel_convention=kernel_convention,
            overwrite=overwrite,
        )
    except ConversionError as error:
        error.max_listed = None if list_all else error.max_listed
        raise
    arguments = ", ".join(
        f"{n}={printable(repr(value), 80)}" for n, value in record.get("arguments", {}).items()
    )
    print_line(f"{out}: {find_model(model).name}({arguments})")


def export(
    weights: Annotated[
        str, typer.Argument(help="A checkpoint's folder or archive, or MODEL[:WEIGHTS].")
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to create.")],
    like: Annotated[
        Path | None,
        typer.Option(help="Weights of torchvision's or timm's model: get their names and layouts."),
    ] = None,
    list_all: ListAll = False,
) -> None:
    """Write a checkpoint as a safetensors file, for `zoo convert` or for PyTorch."""
    if "/" in weights or weights.endswith(".tar") or Path(weights).is_dir():
        checkpoint = resolve.load_checkpoint_from(weights, _check_checkpoint)
    else:
        checkpoint = load_weights(*_parse_weights(weights))
    try:
        zoo.export(checkpoint, out, like=like)
    except ConversionError as error:
        error.max_listed = None if list_all else error.max_listed
        raise
    print_line(f"{out}: {format_bytes(out.stat().st_size)}")


def publish(
    checkpoints: Annotated[list[Path], typer.Argument(help="Folders of checkpoints.")],
    to: Annotated[str, typer.Option(help="The store: a folder, gs://…, s3://… or hf://….")],
    overwrite: Overwrite = False,
) -> None:
    """Upload checkpoints to a store, from which others load them (see ZOO_STORES)."""
    published = remote_store.publish(checkpoints, to, overwrite=overwrite)
    rows = [(item.archive, format_bytes(item.size), item.sha256) for item in published]
    print_table(rows)


def fetch(
    names: Annotated[list[str], typer.Argument(help="MODEL or MODEL:WEIGHTS.")],
) -> None:
    """Download weights into the cache, for use without a network."""
    failed = []
    for name in names:
        try:
            load_weights(*_parse_weights(name))
        except USER_ERRORS as error:
            first, *more = describe_error(error)
            print_error(f"{name}: {first}", *more)
            failed.append(name)
        else:
            print_line(name)
    if failed and len(names) > 1:
        print_error(f"{len(failed)} of {len(names)} failed: {' '.join(failed)}")
    if failed:
        raise typer.Exit(1)


def cache(
    patterns: Annotated[
        list[str] | None, typer.Argument(help="Names to show or remove, such as 'resnet*'.")
    ] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Remove them; without patterns, everything but checkpoints: partial downloads, "
            "damaged files, compiled programs.",
        ),
    ] = False,
) -> None:
    """Show what the cache holds, or remove it."""
    for pattern in patterns or []:
        if not prune and not weights_cache.items([pattern]):
            raise typer.BadParameter(
                f"{pattern!r} matches nothing in {weights_cache.folder()}", param_hint="PATTERNS"
            )
    items = weights_cache.prune(patterns or []) if prune else weights_cache.items(patterns or ["*"])
    total = format_bytes(sum(item.size for item in items))
    print_line(f"{weights_cache.folder()}: {'removed' if prune else 'holds'} {total}")
    if items:
        print_table([(item.name, item.kind, format_bytes(item.size)) for item in items])


def _check_checkpoint(checkpoint: Checkpoint, place: str) -> None:
    """Raises CheckpointError for a checkpoint that is not of the model that it names."""
    try:
        check_checkpoint(*checkpoint)
    except ValueError as error:
        raise CheckpointError(f"{place} cannot be used: {error}") from error


def _parse_weights(text: str) -> tuple[ModelEntry, str | None]:
    """The model and the name of its weights in MODEL or MODEL:WEIGHTS.

    Raises:
      UnknownModelError: no model has that name.
    """
    model, _, weights = text.partition(":")
    return find_model(model), weights or None
