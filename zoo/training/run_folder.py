"""The folder of a training run: its settings, its states and what comes out of it."""

import dataclasses
import json
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import filelock

from zoo.data.dataset import Dataset
from zoo.models.base import Model
from zoo.training.settings import to_toml
from zoo_pretrained.bounded_json import read_json
from zoo_pretrained.printable import OneLineError, printable
from zoo_pretrained.spelling import choose

# Settings that change nothing about the result.
FREE = ("checkpoint_minutes", "max_skipped")
# Facts that are numbers which tell images apart, and what another number says.
DIGESTS = {"images_digest": "other images of that number", "styles_digest": "other style images"}
# What is being written, which a killed process may leave.
BESIDE = ".new"


class RunError(OneLineError, Exception):
    """A folder holds another run than the one that is to go on, or is in use."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A folder of a run.

    settings.toml, run.json   what is trained, and how
    states/                   the newest states, from which an interrupted run goes on
    metrics.jsonl             the metrics, a line each
    model/                    the best model so far, a checkpoint for `zoo.trained`
    report.html               curves, confusion matrix and more, when it is done
    """

    path: Path

    states = property(lambda self: self.path / "states")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    model = property(lambda self: self.path / "model")
    report = property(lambda self: self.path / "report.html")
    tensorboard = property(lambda self: self.path / "tensorboard")

    def lock(self) -> filelock.FileLock:
        """Makes the folder, and keeps other processes from training in it.

        Raises:
          RunError: another one does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RunError(f"another process trains in {self.path}") from None
        return lock

    def begin(self, facts: Mapping[str, Any], settings: Any, free: Collection[str] = FREE) -> None:
        """Notes what is trained; or checks it against what is noted, where the run goes on.

        Args:
          facts: what the run must not change when it goes on, see `describe_run`; JSON values.
          settings: of the training, a dataclass.
          free: the names of settings that may change.

        Raises:
          RunError: the folder's run is another one, or the folder holds something else.
        """
        file = self.path / "run.json"
        described = {**facts, "settings": dataclasses.asdict(settings)}
        described = json.loads(json.dumps(described))
        if file.exists():
            _compare(self.path, _read(file), described, free)
        elif any(item.name not in (".lock", BESIDE) for item in self.path.iterdir()):
            raise RunError(
                f"{self.path} holds something that is no run; give another {_folder_argument()}"
            )
        else:
            self._write(file, json.dumps(described, indent=1))
        # Later, as a process that is killed in between must leave a run that can go on.
        self._write(self.path / "settings.toml", to_toml(settings))

    def _write(self, file: Path, text: str) -> None:
        """Writes a file that is complete or not there."""
        beside = self.path / BESIDE
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)


def describe_run(model: Model, train: Dataset, validation: Dataset | None) -> dict[str, Any]:
    """What a run must not change when it goes on: the model, the classes and the images."""
    return {
        "model": model.title,
        "arguments": model.arguments,
        "classes": list(train.classes),
        **describe_images(train, validation),
    }


def describe_images(train: Dataset, validation: Dataset | None) -> dict[str, Any]:
    """How many images a run has for training and validation, and numbers that tell them apart."""
    return {
        "images": [len(train), 0 if validation is None else len(validation)],
        "images_digest": [_digest(part) for part in (train, validation) if part is not None],
    }


def _digest(dataset: Dataset) -> int:
    """A number that tells data sets apart by their images' names and classes, in any folder."""
    names = "\n".join(Path(dataset.name_of(index)).name for index in range(len(dataset)))
    return zlib.crc32(dataset.label_bytes, zlib.crc32(names.encode(errors="replace")))


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(read_json(file))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{file} cannot be read: {error}") from error


def _compare(
    folder: Path, old: Mapping[str, Any], new: Mapping[str, Any], free: Collection[str]
) -> None:
    advice = f"give another {_folder_argument()}, or the same as before"
    if "classes" in new and old.get("classes") != new["classes"]:
        before, now = set(old.get("classes") or ()), set(new["classes"])
        change = [f"{name!r} is new" for name in sorted(now - before)]
        change += [f"{name!r} is gone" for name in sorted(before - now)]
        raise RunError(
            f"{folder} holds a run with other classes: {', '.join(change) or 'in another order'}; "
            f"{advice}"
        )
    for name in new:
        if name not in ("classes", "settings") and old.get(name) != new[name]:
            what = {"images": "images for training and validation"}.get(name, name)
            if name in DIGESTS:
                raise RunError(f"{folder} holds a run with {DIGESTS[name]}; {advice}")
            given, wanted = (printable(each.get(name)) for each in (old, new))
            raise RunError(f"{folder} holds a run with {what} {given}, not {wanted}; {advice}")
    settings = old.get("settings") or {}
    changed = [
        f"{name} was {settings.get(name)!r} and is {value!r}"
        for name, value in new["settings"].items()
        if name not in free and settings.get(name) != value
    ]
    if changed:
        raise RunError(f"{folder} holds a run with other settings: {', '.join(changed)}; {advice}")


def _folder_argument() -> str:
    return choose(python="folder", shell="--out")
