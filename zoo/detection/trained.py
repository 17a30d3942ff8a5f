"""Trained detectors."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import zoo_kernels as kernels
from zoo.detection.canvas import Canvas, make_canvas, unresize
from zoo.detection.detections import Detection, name_boxes
from zoo.detection.evaluation.metrics import Found
from zoo.detection.models.detector import Detector, Predictions
from zoo.inference.images import ImageSource, is_single_image
from zoo.inference.trained import NoClassifierError, Trained, register_trained
from zoo.runtime.checks import check_count, check_number

Detections = list[Detection]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["variables"], meta_fields=["model", "info"]
)
@dataclasses.dataclass(frozen=True, eq=False)
class TrainedDetector(Trained):
    """A detector, its variables and facts about them; as a pytree, it holds the variables.

        detector = zoo.trained(zoo.detection.SSD300_VGG16)
        detector.detect("street.jpg", threshold=0.5)     # [Detection(label, score, box), …]

    Called on normalised images [N, H, W, C], it gives what its heads compute. The first label is
    the background's.
    """

    model: Detector

    def __call__(self, x: ArrayLike) -> Any:
        """What the heads compute of normalised images [N, H, W, C]."""
        self.require_head()
        return _run(self.model)(self.variables, x)

    def predict(self, x: ArrayLike, sizes: ArrayLike | None = None) -> Predictions:
        """The objects in a batch of normalised images, in arrays of fixed shapes.

        By the model without batch norms, and by native layers where these were compiled before.
        It compiles once for each size of images.

        Args:
          x: [N, H, W, C], padded to one size.
          sizes: the heights and widths of the images without padding, [N, 2]; by default all.
        """
        self.require_head()
        images: Any = x if hasattr(x, "shape") else np.asarray(x)
        whole = np.tile(np.array(images.shape[1:3], np.float32), (len(images), 1))
        real: Any = whole if sizes is None else sizes
        arrays = jax.tree.leaves((self.variables, images, real))
        run = self._native_program
        if run is None or any(isinstance(array, jax.core.Tracer) for array in arrays):
            model, variables = self.fused
            return _predict(model)(variables, images, real)
        # One image at a time: those of several would not stay in the cache (SSDLite takes three
        # times as long for each of eight).
        parts = [run(images[i : i + 1], real[i : i + 1]) for i in range(len(images))]
        return parts[0] if len(parts) == 1 else jax.tree.map(_concatenate, *parts)

    def detect(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        threshold: float = 0.5,
        batch_size: int = 1,
    ) -> Any:
        """The objects in a photo, or in each of several, the likeliest first.

        Args:
          images: an image of any kind, or several.
          threshold: what is less likely is left out, from 0 to 1.
          batch_size: how many photos of one shape are computed at once.

        Returns:
          [Detection(label, score, box), …] for one image, with boxes in its pixels; a list of those
          for several.

        Raises:
          ImageError: something is not an image.
          ArgumentError: an argument cannot be.
          FloatingPointError: the model computes what is no number.
        """
        found = list(self.detect_each(images, threshold=threshold, batch_size=batch_size))
        return found[0] if is_single_image(images) else found

    def detect_each(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        threshold: float = 0.5,
        batch_size: int = 1,
    ) -> Iterator[Detections]:
        """As `detect`, one photo after the other, of which few are in memory at a time."""
        check_number("threshold", threshold, 0, 1)
        check_count("batch_size", batch_size)
        several: Any = [images] if is_single_image(images) else images
        for found, _ in self.find_boxes(map(self.prepare, several), batch_size):
            kept = found.scores >= threshold
            names = [self.labels[label] for label in found.labels[kept]]
            yield name_boxes(found.boxes[kept], found.scores[kept], names)

    def find_boxes(
        self, canvases: Iterable[Canvas], batch_size: int = 1
    ) -> Iterator[tuple[Found, Canvas]]:
        """What is found in photos that `prepare` made, with the numbers of its classes.

        Raises:
          FloatingPointError: the model computes what is no number.
        """
        batch: list[Canvas] = []
        for canvas in canvases:
            if batch and (len(batch) == batch_size or batch[0].pixels.shape != canvas.pixels.shape):
                yield from self._run_batch(batch, batch_size)
                batch = []
            batch.append(canvas)
        if batch:
            yield from self._run_batch(batch, batch_size)

    def probabilities(self, x: ArrayLike) -> NoReturn:
        """Raises NoClassifierError, as `classify` does."""
        raise self._no_classifier()

    def classify(
        self, images: ImageSource | Iterable[ImageSource], top: int | None = None
    ) -> NoReturn:
        """Raises NoClassifierError: a detector finds objects, by `detect`."""
        raise self._no_classifier()

    def compile(self, *args: Any, **options: Any) -> NoReturn:
        """Raises NoClassifierError: programs of classifiers only are compiled ahead."""
        raise self._no_classifier()

    def _no_classifier(self) -> NoClassifierError:
        return NoClassifierError(
            f"{self.model.title} is a detector and no classifier: its method detect finds the "
            f"objects in a photo, compiled at the first one of a shape"
        )

    def prepare(self, image: ImageSource, canvas_size: tuple[int, int] | None = None) -> Canvas:
        """An image, resized and padded as the detector needs it.

        Args:
          image: of any kind.
          canvas_size: the height and width to pad to; by default the smallest of a few.

        Raises:
          ImageError: it is no image.
        """
        preprocessing = self.info.preprocessing
        bands = [np.atleast_3d(np.asarray(band)) for band in preprocessing.load(image)]
        pixels = np.concatenate(bands, -1) if len(bands) > 1 else bands[0]
        pixels = pixels[..., ::-1] if preprocessing.channels == "BGR" else pixels
        mean, std = (
            np.array(255 * np.asarray(value), np.float32)
            for value in (preprocessing.mean, preprocessing.std)
        )
        return make_canvas(pixels, self.model, mean, std, canvas_size)

    def _run_batch(
        self, batch: Sequence[Canvas], batch_size: int
    ) -> Iterator[tuple[Found, Canvas]]:
        filled = [*batch, *(batch_size - len(batch)) * [batch[0]]]
        pixels = np.stack([canvas.pixels for canvas in filled])
        sizes = np.asarray([canvas.size for canvas in filled], np.float32)
        predictions = jax.device_get(self.predict(pixels, sizes))
        for row, canvas in enumerate(batch):
            yield as_found(predictions, row, canvas.size, canvas.original), canvas

    @functools.cached_property
    def _native_program(self) -> Callable[..., Predictions] | None:
        """(images, sizes) → predictions by native layers; None where they are not at hand."""
        from zoo.inference.native_layers import run_natively

        return run_natively(self, make_predictor, jax.ShapeDtypeStruct((1, 2), jnp.float32))


def _concatenate(*parts: jax.Array) -> jax.Array:
    return jnp.concatenate(parts)


def as_found(
    predictions: Predictions, row: int, size: Sequence[int], original: Sequence[int]
) -> Found:
    """The predictions of an image of a batch, in pixels of the photo.

    Args:
      predictions: of the batch, on the host.
      row: which image.
      size: height and width of the photo as the detector saw it.
      original: the photo's own.

    Raises:
      FloatingPointError: the model computed what is no number.
    """
    if not predictions.finite[row]:
        raise FloatingPointError(
            "the detector's outputs are not finite: its weights or the image may be damaged"
        )
    count = int(predictions.counts[row])
    boxes = unresize(np.asarray(predictions.boxes[row])[:count], size, original)
    return Found(boxes, predictions.scores[row][:count], predictions.labels[row][:count])


def make_predictor(model: Detector) -> Callable[..., Predictions]:
    """(variables, images, sizes) → predictions."""

    def predict(variables: Mapping[str, Any], x: jax.Array, sizes: jax.Array) -> Predictions:
        return model.predict(model.apply(variables, x, **model.apply_arguments(sizes)), sizes)

    return predict


@functools.lru_cache(maxsize=64)
def _predict(model: Detector) -> Callable[..., Predictions]:
    return kernels.jit(make_predictor(model))


@functools.lru_cache(maxsize=64)
def _run(model: Detector) -> Callable[..., Any]:
    return kernels.jit(lambda variables, x: model.apply(variables, x))


register_trained(Detector, TrainedDetector)
