"""Compiled models as folders: their programs, traced by `jax.export`, and their weights."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

import zoo_kernels as kernels
from zoo.inference.compiled import NATIVE, Compiled, Program
from zoo.inference.trained import Trained
from zoo.models.base import create
from zoo.runtime.extras import require
from zoo_kernels.native import build
from zoo_pretrained.bounded_json import parse_json
from zoo_pretrained.printable import OneLineError
from zoo_pretrained.temporary import temporary_folder

FACTS, WEIGHTS = "compiled.json", "weights.safetensors"


class CompiledError(OneLineError, ValueError):
    """A folder is no compiled model, or one that does not run here; the message says why."""


def save_compiled(
    compiled: Compiled, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Saves a compiled model; see `Compiled.save`."""
    require("flatbuffers", "serve")
    target = Path(path)
    if os.path.lexists(target) and not (overwrite and (target / FACTS).is_file()):
        hint = "is no compiled model" if overwrite else "exists already; overwrite=True replaces it"
        raise FileExistsError(f"{target} {hint}")
    facts = {
        "metadata": compiled.classifier.to_metadata(weights=compiled.info.weights),
        "size": compiled.size,
        "channels": compiled.channels,
        "batch_sizes": compiled.batch_sizes,
        "dtype": compiled.dtype,
        "implementation": compiled.implementation,
        "remaining": compiled.program.remaining,
        "at_once": compiled.program.at_once,
        "program_sizes": compiled.program_sizes,
        "made_by": _made_by(compiled.implementation),
    }
    program = compiled.program
    with temporary_folder(target) as temporary:
        folder = temporary / "compiled"
        folder.mkdir()
        (folder / FACTS).write_text(json.dumps(facts, indent=1))
        arrays = {str(i): np.asarray(array) for i, array in enumerate(program.weights)}
        save_file(arrays, folder / WEIGHTS)
        for count in compiled.program_sizes:
            shape = (count, compiled.size, compiled.size, compiled.channels)
            (folder / _program_file(count)).write_bytes(_export(program, shape))
        if target.exists():
            shutil.rmtree(target)
        folder.rename(target)


def load_compiled(path: str | os.PathLike[str]) -> Compiled:
    """Loads a compiled model that `Compiled.save` saved; nothing of it is traced again.

    Args:
      path: the folder.

    Raises:
      FileNotFoundError: there is no such folder.
      CompiledError: it is no compiled model, or was compiled for another machine or version.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    try:
        facts = parse_json((folder / FACTS).read_text())
        made_by, wanted = facts["made_by"], _made_by(facts["implementation"])
        if made_by != wanted:
            raise CompiledError(
                f"{folder} was compiled by {made_by}, and this is {wanted}; "
                f"compile it again, by Trained.compile"
            )
        arrays = load_file(folder / WEIGHTS)
        weights = [arrays[str(i)] for i in range(len(arrays))]
        programs = {
            size: jax.export.deserialize(bytearray((folder / _program_file(size)).read_bytes()))
            for size in facts["program_sizes"]
        }
        classifier = _make_classifier(facts["metadata"])
    except (CompiledError, build.BuildError):
        raise
    except Exception as error:  # of files that are missing, damaged or another's
        cause = str(error).partition("\n")[0] or type(error).__name__
        raise CompiledError(f"{folder} is no compiled model: {cause}") from error

    def run(weights: list[Any], x: Any) -> Any:
        return programs[x.shape[0]].call(weights, x)

    program = Program(
        run, weights, facts["implementation"], tuple(facts["remaining"]), facts["at_once"]
    )
    return Compiled(
        info=classifier.info,
        size=facts["size"],
        channels=facts["channels"],
        batch_sizes=tuple(facts["batch_sizes"]),
        dtype=facts["dtype"],
        classifier=classifier,
        program=program,
    )


def _program_file(count: int) -> str:
    return f"images-{count}.bin"


def _export(program: Program, shape: tuple[int, ...]) -> bytes:
    """A program for images of that shape, serialised."""
    checks = [jax.export.DisabledSafetyCheck.custom_call(target) for target in build.TARGETS]
    traced = jax.jit(kernels.jit(program.function).__wrapped__)
    images = jax.ShapeDtypeStruct(shape, np.float32)
    platform = jax.default_backend().replace("gpu", "cuda")
    exported = jax.export.export(traced, platforms=[platform], disabled_checks=checks)
    return bytes(exported(program.weights, images).serialize())


def _made_by(implementation: str) -> str:
    """What a program depends on."""
    if implementation != NATIVE:
        return f"jax {jax.__version__} for {jax.default_backend()}"
    library = build.library()
    return f"native layers {build.digest_sources()} with vectors of {library.lanes}"


def _make_classifier(metadata: dict[str, Any]) -> Trained:
    """A Trained without weights, for the labels and the preprocessing."""
    from zoo.checkpoints.load import make_info

    model = create(metadata["model"], **metadata["arguments"])
    variables: dict[str, Any] = {"params": {model.classifier[-1]: {}}}
    return Trained(model, variables, make_info(model, variables, metadata))
