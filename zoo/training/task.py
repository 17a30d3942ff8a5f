"""What a training is about: what its loss compares, and how good its weights are."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from zoo.data.pipeline import LabelledImages, Transform
from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.training.devices import Placement
from zoo.training.run_folder import RunFolder
from zoo.training.settings import Settings
from zoo.training.step import Objective

# (images [N, H, W, C] uint8, labels, weights [N], step) → what a training step takes.
Prepare = Callable[..., tuple[Any, Any, Any]]


class Score(Protocol):
    """How good weights are on the validation images."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """What is shown and recorded."""

    @property
    def rank(self) -> tuple[float, ...]:
        """Greater for better weights."""

    @property
    def cost(self) -> float:
        """Less for better weights; the schedule "plateau" watches it."""


# (variables) → how good they are.
Evaluate = Callable[[Any], Any]


class Splits(Protocol):
    """Images for training and for validation, of which there may be none."""

    @property
    def train(self) -> Any:
        """Those for training."""

    @property
    def val(self) -> Any:
        """Those for validation, or None."""

    def __iter__(self) -> Any: ...


class Task(Protocol):
    """What a training is about.

    Attributes:
      shown: the metrics of a step that are shown.
      recipe: by which trained weights are fine-tuned, unless another one is asked for.
    """

    shown: tuple[str, ...]
    recipe: str

    def load(self, data: Any, settings: Settings) -> Any:
        """The data in two parts."""

    def prepare_model(
        self, model: Any, dataset: Any, settings: Settings, channels: int | None
    ) -> Trained:
        """The model that is trained, for the classes of the data."""

    def weigh(self, dataset: Any, settings: Settings) -> Any:
        """The training images, weighed as settings say."""

    def make_transform(self, start: Trained, settings: Settings) -> Transform:
        """How training images are made of the data's; MissingExtraError if a library lacks."""

    def find_image_shape(self, start: Trained) -> tuple[int, int, int]:
        """What that makes: height, width and channels."""

    def find_blank(self, start: Trained, settings: Settings) -> Any:
        """The label of an image that cannot be read."""

    def find_head(self, model: Model, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The outermost modules that `head_epochs` trains."""

    def make_prepare(self, start: Trained, settings: Settings) -> Prepare:
        """Compiles what makes of a batch what a training step takes."""

    def make_objective(self, settings: Settings) -> Objective:
        """The loss, and the metrics of a step."""

    def make_evaluate(
        self,
        model: Model,
        start: Trained,
        images: LabelledImages,
        settings: Settings,
        placement: Placement,
        batch_size: int,
        workers: int,
    ) -> Evaluate:
        """What measures variables on the validation images."""

    def write_report(
        self, folder: RunFolder, splits: Any, settings: Settings, start: Trained, score: Any
    ) -> None:
        """Writes the page of curves, figures and mistakes; by one process."""
