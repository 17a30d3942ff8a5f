"""`zoo onnx`: models of others are described and run, and the zoo's exported."""

import time
import zipfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import zoo
from zoo.cli.output import MAX_SIZE, format_bytes, print_line
from zoo.onnx import OPSET, OnnxError, TensorInfo, UnsupportedError
from zoo_pretrained.checkpoint import flatten_variables

Model = Annotated[Path, typer.Argument(help="An ONNX file.", metavar="MODEL")]


def describe(
    model: Model,
    parameters: Annotated[
        bool, typer.Option("--parameters", help="List the paths and shapes of all parameters.")
    ] = False,
) -> None:
    """Show what an ONNX model takes and gives, and which operators it has."""
    imported = zoo.from_onnx(model)
    for line in imported.describe().splitlines():
        print_line(line)
    if parameters:
        for path, array in flatten_variables(imported.variables):
            print_line(f"  {path}  {array.dtype}{list(array.shape)}")


def run(
    model: Model,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="An input as NAME=FILE.npy, or FILE.npy for the only one. Several times: all.",
            metavar="FILE",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the outputs to this file, which ends in .npz.")
    ] = None,
) -> None:
    """Run an ONNX model on arrays in files."""
    if out is not None and out.suffix != ".npz":
        raise typer.BadParameter(
            f"expected a name that ends in .npz, got {out}", param_hint="--out"
        )
    imported = zoo.from_onnx(model)
    arrays = _load_inputs(inputs or [], imported.inputs)
    start = time.perf_counter()
    result = imported(*arrays)
    outputs = result if isinstance(result, tuple) else (result,)
    found = {
        info.name: np.asarray(value) for info, value in zip(imported.outputs, outputs, strict=True)
    }
    for name, array in found.items():
        print_line(f"{name}: {array.dtype}{list(array.shape)}{_summarize(array)}")
    print_line(f"{time.perf_counter() - start:.2f} s, with compilation")
    if out is not None:
        beside = out.with_name(f".{out.name}.new")
        with zipfile.ZipFile(beside, "w") as archive:  # np.savez does not take any name
            for name, array in found.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
        beside.replace(out)


def export(
    model: Annotated[str, typer.Argument(help="A model with weights: zoo list --trained.")],
    out: Annotated[Path, typer.Argument(help="The .onnx file to create.")],
    weights: Annotated[
        str | None, typer.Option(help="Its weights: a name, a folder, an archive or its address.")
    ] = None,
    fused: Annotated[
        bool, typer.Option("--fused", help="Fold the norms into the convolutions: faster.")
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_SIZE, help="Side of the images.", show_default="the model's"),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(help="The version of ONNX's operator set.", show_default=str(OPSET)),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
) -> None:
    """Export a model of the zoo to ONNX."""
    if out.suffix != ".onnx":
        raise typer.BadParameter(f"expected a name that ends in .onnx, got {out}", param_hint="OUT")
    trained = zoo.trained(model, weights=weights)
    chosen = zoo.fuse(trained) if fused else trained
    zoo.to_onnx(chosen, out, size=size, opset=opset, overwrite=overwrite)
    print_line(f"{out}: {format_bytes(out.stat().st_size)}")


def convert_onnx(file: Path, out: Path, labels: list[str] | None, overwrite: bool) -> None:
    """Makes a checkpoint of an ONNX file; of a classifier such that every command can use it."""
    imported = zoo.from_onnx(file)
    try:
        trained = imported.as_trained(labels=labels)
    except UnsupportedError as error:
        if labels is not None:
            raise
        imported.save(out, overwrite=overwrite)
        print_line(f"{out}: zoo.from_onnx loads it, as it is no classifier: {error}")
    else:
        trained.save(out, overwrite=overwrite)
        print_line(f"{out}: {trained.model}")


def _load_inputs(given: list[str], infos: tuple[TensorInfo, ...]) -> list[Any]:
    """Arrays for all inputs of a model, in its order."""
    names = [info.name for info in infos]
    arrays: dict[str, Any] = {}
    for text in given:
        name, separator, file = text.rpartition("=")
        if not separator and len(names) == 1:
            name = names[0]
        if name not in names:
            raise typer.BadParameter(
                f"expected NAME=FILE with one of the names {', '.join(names)}, got {text!r}",
                param_hint="--input",
            )
        try:
            array = np.load(file, allow_pickle=False)
        except ValueError as error:
            raise OnnxError(f"{file}: expected an array of NumPy (.npy)") from error
        if not isinstance(array, np.ndarray):
            raise OnnxError(f"{file}: expected one array (.npy), got an archive")
        arrays[name] = array
    if missing := [str(info) for info in infos if info.name not in arrays]:
        raise typer.BadParameter(f"the model also needs {'; '.join(missing)}", param_hint="--input")
    return [arrays[name] for name in names]


def _summarize(array: np.ndarray) -> str:
    if not array.size or array.dtype.kind not in "fiu":
        return ""
    low, mean, high = (float(f(array)) for f in (np.min, np.mean, np.max))
    return f", from {low:.4g} to {high:.4g}, mean {mean:.4g}"
