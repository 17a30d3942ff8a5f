"""Evaluates a training's weights on the validation images, and keeps the best ones."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax

from zoo.checkpoints.load import trained
from zoo.inference.trained import Info, Trained
from zoo.training.devices import Placement
from zoo.training.processes import is_first, together
from zoo.training.run_folder import RunFolder
from zoo.training.settings import Settings
from zoo.training.task import Evaluate, Score, Splits, Task


@dataclasses.dataclass
class Selection:
    """The model that a training has kept so far.

    Args:
      start: the model that is trained, with its first variables.
      splits: the data; of validation images there may be none.
      settings: of the training.
      task: what it is about.
      evaluate: measures variables on the validation images.
      placement: where variables lie.
      folder: where the model is kept; None keeps it in memory.
    """

    start: Trained
    splits: Splits
    settings: Settings
    task: Task
    evaluate: Evaluate | None
    placement: Placement
    folder: RunFolder | None
    _kept: Trained | None = dataclasses.field(default=None, init=False)
    _score: Score | None = dataclasses.field(default=None, init=False)

    def keep(self, variables: Any, facts: Mapping[str, float], score: Score | None = None) -> None:
        """Keeps variables as the result so far.

        Args:
          variables: of the model.
          facts: the step that they are of, and metrics of the validation images.
          score: all that is known of these.
        """
        arrays = self.placement.gather(variables)
        kept = self.start.replace(variables=arrays, info=self._describe(facts))
        self._score = score
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
        score = self._score
        if score is None and self.evaluate is not None:  # it was evaluated before this process
            score = self.evaluate(self.placement.put_state(result.variables))
        with together():
            if is_first():
                self.task.write_report(folder, self.splits, self.settings, self.start, score)
