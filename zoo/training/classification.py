"""Training of classifiers: the `Task` of `fit` for labelled images."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax

from zoo.data.augment import Augmentation, CenterCrop, make_transforms
from zoo.data.dataset import Dataset
from zoo.data.load import Splits, load
from zoo.data.pipeline import load_batches
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.training.devices import Placement
from zoo.training.evaluation.evaluate import evaluate_batches, image_shape, make_predict
from zoo.training.evaluation.metrics import Evaluation
from zoo.training.losses import cross_entropy
from zoo.training.mixing import mix
from zoo.training.prepare import prepare_model, weigh_classes
from zoo.training.reporting.record import read_record
from zoo.training.reporting.report import write_report
from zoo.training.run_folder import RunFolder
from zoo.training.settings import Settings
from zoo.training.step import Objective, classify_objective
from zoo.training.task import Evaluate, Prepare
from zoo_kernels import jit

# The report shows so many photos.
WORST_SHOWN = 24
# Validation sets of more images are decoded by processes; for fewer, starting these takes longer.
MIN_IMAGES_FOR_WORKERS = 2000


class ClassificationTask:
    """Labelled images, whose classes a model is to tell; see `zoo.training.task.Task`."""

    shown: tuple[str, ...] = ("loss", "accuracy")
    recipe = "finetune"

    def load(self, data: Any, settings: Settings) -> Splits:
        """The images in two parts; of `data` what `zoo.data.load` takes."""
        if isinstance(data, Splits):
            return data
        return load(data, validation=settings.validation, seed=settings.seed)

    def prepare_model(
        self, model: Any, dataset: Dataset, settings: Settings, channels: int | None
    ) -> Trained:
        """The model for the classes of the data."""
        return prepare_model(model, dataset, settings, channels)

    def weigh(self, dataset: Dataset, settings: Settings) -> Dataset:
        """The images with the weights of their classes."""
        return weigh_classes(dataset, settings.class_weights)

    def make_transform(self, start: Trained, settings: Settings) -> Augmentation:
        """How settings change images at random."""
        return make_augmentation(start.info.preprocessing, settings)

    def find_image_shape(self, start: Trained) -> tuple[int, int, int]:
        """Height, width and channels of the model's images."""
        return image_shape(start.info.preprocessing)

    def find_blank(self, start: Trained, settings: Settings) -> int:
        """Any class."""
        return 0

    def find_head(self, model: Model, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The classifier's last layer."""
        return model.classifier[-1:]

    def make_prepare(self, start: Trained, settings: Settings) -> Prepare:
        """Normalises images, and mixes them where settings say so."""
        return make_prepare(start.info.preprocessing, settings, start.model.num_classes)

    def make_objective(self, settings: Settings) -> Objective:
        """Cross-entropy."""
        loss = functools.partial(cross_entropy, label_smoothing=settings.label_smoothing)
        return functools.partial(classify_objective, loss=loss)

    def make_evaluate(
        self,
        model: Model,
        start: Trained,
        images: Any,
        settings: Settings,
        placement: Placement,
        batch_size: int,
        workers: int,
    ) -> Evaluate:
        """(variables) → an `Evaluation` on the validation images."""
        preprocessing = start.info.preprocessing
        predict = make_predict(model, preprocessing, placement)

        def evaluate(variables: Any) -> Evaluation:
            batches = load_batches(
                images,
                CenterCrop(preprocessing),
                batch_size,
                image_shape(preprocessing),
                workers=workers if len(images) >= MIN_IMAGES_FOR_WORKERS else 0,
                part=(jax.process_index(), jax.process_count()),
            )
            with contextlib.closing(batches):
                return evaluate_batches(predict, variables, batches, images, placement)

        return evaluate

    def write_report(
        self,
        folder: RunFolder,
        splits: Splits,
        settings: Settings,
        start: Trained,
        score: Evaluation | None,
    ) -> None:
        """Curves, confusions, calibration, and the photos that are told worst."""
        images = {}
        if score is not None and splits.val is not None:
            assert score.indices is not None
            for row in map(int, score.worst(WORST_SHOWN)):
                images[row] = splits.val.images[score.indices[row]]
        model, classes, count = start.model.title, splits.train.classes, len(splits.train)
        write_report(
            folder.report,
            title=f"{model}, {count} images of {len(classes)} classes",
            settings=dataclasses.asdict(settings),
            history=read_record(folder.metrics),
            evaluation=score,
            images=images,
            facts={"model": model, "training images": count},
        )


def make_augmentation(preprocessing: Preprocessing, settings: Settings) -> Augmentation:
    """How settings change images at random; MissingExtraError if albumentations is needed."""
    fields = {field.name for field in dataclasses.fields(Augmentation)}
    chosen = {name: v for name, v in dataclasses.asdict(settings).items() if name in fields}
    augmentation = Augmentation(preprocessing=preprocessing, **chosen)
    make_transforms(augmentation)  # what lacks is told here, rather than by a worker
    return augmentation


def make_prepare(preprocessing: Preprocessing, settings: Settings, num_classes: int) -> Prepare:
    """Compiles what makes of a batch of pixels what a training step takes.

    Returns:
      (images, labels, weights, step) → (images, labels, weights): normalised, and mixed where the
      settings say so.
    """
    mixing = {"mixup": settings.mixup, "cutmix": settings.cutmix}
    seed = jax.random.key(settings.seed)

    def prepare(
        images: jax.Array, labels: jax.Array, weights: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        normalized = preprocessing.normalize(images)
        if not any(mixing.values()):
            return normalized, labels, weights
        # Another key than that of dropout in the same step.
        key = jax.random.fold_in(jax.random.fold_in(seed, 1), step)
        return mix(normalized, labels, weights, key, num_classes=num_classes, **mixing)

    return jit(prepare)
