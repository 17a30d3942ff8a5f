"""Training of detectors: the `Task` of `zoo.training.fit` for images with boxes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.load import as_trained
from zoo.data.dataset import DatasetError
from zoo.detection.data.augment import DetectionAugmentation, DetectionResize, DetectionSample
from zoo.detection.data.augment import make_transforms as check_transforms
from zoo.detection.data.dataset import DetectionDataset
from zoo.detection.data.load import DetectionSplits, load_detection
from zoo.detection.evaluation.evaluate import DetectionScore
from zoo.detection.initialize import initialize
from zoo.detection.models.detector import Detector
from zoo.detection.models.matching import Truth
from zoo.detection.training.evaluate import evaluate_variables, make_predict
from zoo.detection.training.report import write_report
from zoo.inference.trained import Trained, make_labels
from zoo.surgery.adapt import adapt
from zoo.training.devices import Placement
from zoo.training.run_folder import RunFolder
from zoo.training.settings import Settings, SettingsError
from zoo.training.step import Metrics, Objective, frozen_norms
from zoo.training.task import Evaluate, Prepare
from zoo_kernels import jit

BACKGROUND = "background"  # the name of class 0
# Settings of classifiers alone, which must keep their defaults.
NOT_FOR_DETECTORS = (
    "label_smoothing",
    "class_weights",
    "rotate",
    "randaugment",
    "erasing",
    "mixup",
    "cutmix",
    "layer_decay",
)


class DetectionTask:
    """Images with boxes, which a detector is to find; see `zoo.training.task.Task`."""

    shown: tuple[str, ...] = ("loss", "classification", "box")
    recipe = "detection"

    def load(self, data: Any, settings: Settings) -> DetectionSplits:
        """The images in two parts; boxes that are marked as crowd are left out of training.

        Args:
          data: `DetectionSplits`, a `DetectionDataset`, or what `load_detection` takes.
          settings: `validation` and `seed` count, where the data have no part for validation.
        """
        if isinstance(data, DetectionDataset):
            data = DetectionSplits(data, None)
        train, val = data if isinstance(data, DetectionSplits) else load_detection(data)
        if val is None and settings.validation:
            train, val = train.split(settings.validation, settings.seed)
        if not train.count_boxes().any():
            raise DatasetError(f"none of the {len(train)} training images has a box")
        return DetectionSplits(train.without_crowd(), val)

    def prepare_model(
        self, model: Any, dataset: DetectionDataset, settings: Settings, channels: int | None
    ) -> Trained:
        """The detector for the classes of the data, and for images of the settings' size.

        A definition gets random weights. Weights keep their heads if their classes are those of the
        data, in their order; otherwise these are fresh.

        Raises:
          SettingsError: a setting is none of detectors, or the size does not fit.
        """
        _check_settings(settings)
        if channels not in (None, 3):
            raise SettingsError(f"channels must be 3 for a detector, got {channels}")
        key = jax.random.key(settings.seed)
        labels = (BACKGROUND, *dataset.classes)
        if isinstance(model, Detector):
            trained: Trained = initialize(model.clone(num_classes=len(labels)), key)
        else:
            trained = as_trained(model)
            if trained.labels[1:] != dataset.classes or not trained.info.head:
                trained = adapt(trained, labels=labels, key=key)
        definition: Any = trained.model
        if definition.fused:
            raise ValueError(
                f"this {definition.title} is fused: train the detector that it was made of"
            )
        try:
            definition = definition.at_size(settings.size)
        except ValueError as error:
            raise SettingsError(error) from error
        preprocessing = trained.info.preprocessing.resized(definition.canvas_side)
        info = trained.info.without_accuracy(
            labels=make_labels(labels, len(labels)), preprocessing=preprocessing
        )
        return trained.replace(model=definition, info=info)

    def weigh(self, dataset: DetectionDataset, settings: Settings) -> DetectionDataset:
        """All images count alike."""
        return dataset

    def make_transform(self, start: Trained, settings: Settings) -> DetectionAugmentation:
        """How settings change images at random."""
        augmentation = DetectionAugmentation(
            make_resize(start.model, settings),
            flip=settings.flip,
            crop=1 - math.sqrt(settings.crop_scale),
            zoom_out=settings.zoom_out,
            color_jitter=settings.color_jitter,
        )
        check_transforms(augmentation)  # what lacks is told here, rather than by a worker
        return augmentation

    def find_image_shape(self, start: Trained) -> tuple[int, int, int]:
        """The height, width and channels of the images that are trained on."""
        side = _as_detector(start.model).canvas_side
        return side, side, 3

    def find_blank(self, start: Trained, settings: Settings) -> DetectionSample:
        """The sample of an image that cannot be read: no boxes."""
        resize = make_resize(start.model, settings)
        black = np.zeros(self.find_image_shape(start), np.uint8)
        empty = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
        return resize(black, *empty)._replace(image=np.zeros((), np.uint8))

    def find_head(self, model: Any, params: Mapping[str, Any]) -> tuple[str, ...]:
        """All but the backbone."""
        return tuple(name for name in params if name != "backbone")

    def make_prepare(self, start: Trained, settings: Settings) -> Prepare:
        """Normalises images."""
        preprocessing = start.info.preprocessing
        return jit(
            lambda images, labels, weights, step: (preprocessing.normalize(images), labels, weights)
        )

    def make_objective(self, settings: Settings) -> Objective:
        """The detector's losses, summed."""
        return compute_loss

    def make_evaluate(
        self,
        model: Any,
        start: Trained,
        images: Any,
        settings: Settings,
        placement: Placement,
        batch_size: int,
        workers: int,
    ) -> Evaluate:
        """(variables) → COCO's figures of the validation images."""
        predict = make_predict(model, start.info.preprocessing, placement)
        resize = make_resize(model, settings)
        blank = self.find_blank(start, settings)

        def evaluate(variables: Any) -> DetectionScore:
            return evaluate_variables(
                predict, variables, images, resize, placement, batch_size, workers, blank
            )

        return evaluate

    def write_report(
        self,
        folder: RunFolder,
        splits: DetectionSplits,
        settings: Settings,
        start: Trained,
        score: DetectionScore | None,
    ) -> None:
        """Curves, COCO's figures, and photos with what was found."""
        write_report(folder, splits, settings, start.model.title, score)


def make_resize(model: Any, settings: Settings) -> DetectionResize:
    """How an image becomes one of the size that is trained on, or evaluated."""
    side = _as_detector(model).canvas_side
    keeps = _as_detector(model).image_size is None
    return DetectionResize(side, side, keep_aspect=keeps, max_boxes=settings.max_boxes)


def compute_loss(
    model: Detector,
    variables: Mapping[str, Any],
    images: jax.Array,
    labels: DetectionSample,
    key: jax.Array,
    *,
    weights: jax.Array,
    freeze_norms: Sequence[str] = (),
) -> tuple[jax.Array, tuple[dict[str, Any], Metrics]]:
    """The sum of a detector's losses, and these: an `Objective`.

    Args:
      model, variables, images, key, freeze_norms: as of `classification_loss`.
      labels: the boxes and classes, from 0, of the images.
      weights: whose sum is the share of these images in the batch; they count alike.
    """
    classes = jnp.where(labels.labels >= 0, labels.labels + 1, -1)
    truth = Truth(jnp.asarray(labels.boxes), classes)
    sizes = jnp.asarray(labels.size, jnp.float32)
    with frozen_norms(freeze_norms):
        outputs, updates = model.apply(
            variables,
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
            **model.apply_arguments(sizes, truth),
        )
    losses = {name: value * weights.sum() for name, value in model.losses(outputs, truth).items()}
    total = jnp.stack(list(losses.values())).sum()
    return total, (dict(updates), losses)


def _check_settings(settings: Settings) -> None:
    """Raises SettingsError for a setting that is for classifiers alone."""
    defaults = Settings()
    for name in NOT_FOR_DETECTORS:
        if getattr(settings, name) != getattr(defaults, name):
            raise SettingsError(
                f"{name} is for classifiers; for a detector it must be {getattr(defaults, name)!r}"
            )


def _as_detector(model: Any) -> Detector:
    assert isinstance(model, Detector)
    return model
