"""Evaluates a training's weights on the validation images, and keeps the best ones."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax

from zoo.checkpoints.load import trained
from zoo.data.augment import CenterCrop
from zoo.data.load import Splits
from zoo.data.pipeline import load_batches
from zoo.inference.trained import Info, Trained
from zoo.training.devices import Placement
from zoo.training.evaluation.evaluate import Predict, evaluate_batches, image_shape
from zoo.training.evaluation.metrics import Evaluation
from zoo.training.processes import is_first, together
from zoo.training.reporting.record import read_record
from zoo.training.reporting.report import write_report
from zoo.training.run_folder import RunFolder
from zoo.training.settings import Settings

# The report shows so many photos.
WORST_SHOWN = 24
# Validation sets of more images are decoded by processes; for fewer, starting these takes longer.
MIN_IMAGES_FOR_WORKERS = 2000


@dataclasses.dataclass
class Selection:
    """The model that a training has kept so far.

    Args:
      start: the model that is trained, with its first variables.
      splits: the data; of validation images there may be none.
      settings: of the training.
      predict: the model's inference.
      placement: where variables and batches lie.
      batch_size: images in a batch, over all devices.
      workers: processes that decode the validation images where these are many.
      folder: where the model is kept; None keeps it in memory.
    """

    start: Trained
    splits: Splits
    settings: Settings
    predict: Predict
    placement: Placement
    batch_size: int
    workers: int
    folder: RunFolder | None
    _kept: Trained | None = dataclasses.field(default=None, init=False)
    _evaluation: Evaluation | None = dataclasses.field(default=None, init=False)

    @property
    def has_validation(self) -> bool:
        """Whether there are validation images, by which the best weights are known."""
        return self.splits.val is not None

    def evaluate(self, variables: Any) -> Evaluation:
        """Evaluates variables on the validation images."""
        images, preprocessing = self.splits.val, self.start.info.preprocessing
        assert images is not None
        batches = load_batches(
            images,
            CenterCrop(preprocessing),
            self.batch_size,
            image_shape(preprocessing),
            workers=self.workers if len(images) >= MIN_IMAGES_FOR_WORKERS else 0,
            part=(jax.process_index(), jax.process_count()),
        )
        with contextlib.closing(batches):
            return evaluate_batches(self.predict, variables, batches, images, self.placement)

    def keep(
        self, variables: Any, facts: Mapping[str, float], evaluation: Evaluation | None = None
    ) -> None:
        """Keeps variables as the result so far.

        Args:
          variables: of the model.
          facts: the step that they are of; and accuracy and loss on the validation images.
          evaluation: all that is known of these.
        """
        arrays = self.placement.gather(variables)
        kept = self.start.replace(variables=arrays, info=self._describe(facts))
        self._evaluation = evaluation
        if self.folder is None:
            self._kept = kept
            return
        with together():  # so that all find it in the folder afterwards
            if is_first():
                kept.save(self.folder.model, overwrite=True)

    def _describe(self, facts: Mapping[str, float]) -> Info:
        """The model's facts, and in its metadata those of the training."""
        metadata = json.loads(self.start.info.metadata)
        measured = {name: value for name, value in facts.items() if name != "step"}
        training = {
            "images": len(self.splits.train),
            "validation_images": 0 if self.splits.val is None else len(self.splits.val),
            "begun_from": self.start.info.weights or "random weights",
            **{f"validation_{name}": value for name, value in measured.items()},
            "settings": dataclasses.asdict(self.settings),
            "step": facts["step"],
        }
        extra = {**(metadata.get("extra") or {}), "training": training}
        return dataclasses.replace(
            self.start.info, metadata=json.dumps({**metadata, "extra": extra})
        )

    def result(self) -> Trained:
        """The kept model; a folder's is read, as an earlier process may have made it."""
        if self.folder is not None:
            return trained(self.start.model.title, weights=self.folder.model)
        kept = self._kept
        assert kept is not None
        return kept.replace(variables=jax.device_put(kept.variables), info=kept.info)

    def write_report(self, folder: RunFolder, result: Trained) -> None:
        """Writes the page of curves, of the result's mistakes and of the settings."""
        evaluation, validation, images = self._evaluation, self.splits.val, {}
        if validation is not None:
            if evaluation is None:  # the best one was evaluated before this process
                evaluation = self.evaluate(self.placement.put_state(result.variables))
            assert evaluation.indices is not None
            for row in map(int, evaluation.worst(WORST_SHOWN)):
                images[row] = validation.images[evaluation.indices[row]]
        model, classes = self.start.model.title, self.splits.train.classes
        count = len(self.splits.train)
        with together():
            if is_first():
                write_report(
                    folder.report,
                    title=f"{model}, {count} images of {len(classes)} classes",
                    settings=dataclasses.asdict(self.settings),
                    history=read_record(folder.metrics),
                    evaluation=evaluation,
                    images=images,
                    facts={"model": model, "training images": count},
                )
