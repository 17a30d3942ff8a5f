"""Trains a classifier: `fit`."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.checkpoints.load import ModelWithWeights
from zoo.data.pipeline import check_process
from zoo.inference.trained import Trained
from zoo.models.base import DETECTORS, Model, find_model
from zoo.training.classification import ClassificationTask
from zoo.training.processes import is_first, together
from zoo.training.run import Run
from zoo.training.run_folder import RunFolder, describe_run
from zoo.training.settings import Settings, SettingsError
from zoo.training.task import Task


def fit(
    model: ModelWithWeights | Model,
    data: Any,
    *,
    settings: Settings | str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    channels: int | None = None,
    workers: int | None = None,
    tensorboard: bool = False,
    verbose: bool = True,
    **changes: Any,
) -> Trained:
    """Trains a model on labelled images.

        pets = zoo.training.fit(zoo.trained("EfficientNetLite0"), "photos/", epochs=5)
        pets.classify("rex.jpg")

    Args:
      model: what `zoo.trained` returns, a pair (model, variables) or a model's name, to fine-tune
        its weights; or a definition such as `zoo.ResNet18()`, to begin with random ones. The
        classifier is made for the data's classes; see `prepare_model`. A detector is trained to
        detect; see `zoo.detection.training.task`.
      data: a folder of classes, or what else `zoo.data.load` takes; for a detector what
        `zoo.detection.data.load_detection` takes.
      settings: a recipe's name, such as "finetune", a TOML file or a `Settings`. By default
        "finetune" for trained weights, and the defaults of `Settings` for random ones.
      folder: where the run is kept, see `RunFolder`; the same call goes on where it was
        interrupted, and ends with the same weights as if it had not been. None keeps nothing.
      channels: of the images, in place of the model's.
      workers: processes that decode images; by default about half of the cores, and none for
        arrays. With processes, a script needs `if __name__ == "__main__":`.
      tensorboard: writes the metrics for TensorBoard too.
      verbose: shows the progress on standard error.
      **changes: settings, in place of those of `settings`.

    Returns:
      The model with the weights that did best on the validation images, or the last ones if there
      are none; their moving average if the settings have one.

    Raises:
      SettingsError: a setting is unknown or does not fit.
      DatasetError: the data cannot be read, or too many images.
      RunError: the folder holds another run.
      TrainingCheckpointError: the state cannot be saved, or none can be read.
      InterruptedTrainingError: it was told to stop, by SIGTERM or Ctrl-C.
      DivergenceError: the loss or a gradient is not finite; the last state is kept.
      ProcessError: another process of the training failed.
    """
    check_process()
    if tensorboard and folder is None:
        raise SettingsError("tensorboard needs folder, where its files are written")
    with contextlib.ExitStack() as stack:
        with together():
            task = find_task(model)
            chosen = choose_settings(settings, isinstance(model, Model), changes, task.recipe)
            splits = task.load(data, chosen)
            trained = task.prepare_model(model, splits.train, chosen, channels)
            run_folder = None if folder is None else RunFolder(Path(folder))
            run = Run(task, trained, splits, chosen, workers, run_folder, verbose)
            # Last, so that a run that cannot begin leaves nothing in the folder.
            if run_folder is not None and is_first():
                stack.enter_context(run_folder.lock())
                run_folder.begin(describe_run(trained.model, *splits), chosen)
        return run.train(tensorboard)


def choose_settings(
    settings: Settings | str | os.PathLike[str] | None,
    scratch: bool,
    changes: Mapping[str, Any],
    recipe: str = "finetune",
) -> Settings:
    """The settings that `fit` takes, of the same arguments.

    Args:
      settings, changes: as of `fit`.
      scratch: for random weights.
      recipe: the name of what others are trained by.
    """
    if isinstance(settings, Settings):
        return settings.replace(**changes)
    if settings is None and scratch:
        return Settings.from_mapping(changes)
    return Settings.read(os.fspath(settings or recipe), **changes)


def find_task(model: Any) -> Task:
    """What a training of a model is about: classification, or detection if it is a detector."""
    if not isinstance(model, str) and callable(model) and hasattr(model, "__name__"):
        model = model.__name__
    if isinstance(model, str):
        is_detector = find_model(model).name in DETECTORS
    else:
        definition = model.model if isinstance(model, Trained) else model
        definition = definition[0] if isinstance(definition, tuple | list) else definition
        is_detector = getattr(definition, "is_detector", False)
    if is_detector:
        from zoo.detection.training.task import DetectionTask

        return DetectionTask()
    return ClassificationTask()
