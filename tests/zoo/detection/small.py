"""Small detectors, and photos of which it is known what is in them."""

import dataclasses

import jax
import numpy as np
from PIL import Image

from zoo.checkpoints.load import as_trained
from zoo.detection import SSDLite320_MobileNetV3_Large, TrainedDetector
from zoo.detection.detections import Detection
from zoo.inference.images import load_image
from zoo_pretrained.catalogue import Label

NAMES = ("red", "green", "blue")
RED, GREEN, BLUE = (230, 20, 20), (20, 230, 20), (20, 20, 230)
COLORS = dict(zip(NAMES, (RED, GREEN, BLUE), strict=True))
# Of each rectangle.
SCORES = {"red": 0.9, "green": 0.6, "blue": 0.3}


def random_detector(seed=0):
    """A detector with random weights, of three classes."""
    model = SSDLite320_MobileNetV3_Large(num_classes=len(NAMES) + 1)
    x = np.zeros((1, 320, 320, 3), np.float32)
    trained = as_trained(model, jax.jit(model.init)(jax.random.key(seed), x))
    labels = tuple(Label("", name) for name in ("background", *NAMES))
    return trained.replace(info=dataclasses.replace(trained.info, labels=labels))


class RectangleFinder(TrainedDetector):
    """Finds one rectangle of each colour, as `detect_each` of a detector does.

    `batches` are the numbers of images that it computed at once.
    """

    def detect_each(self, images, *, threshold=0.5, batch_size=1):
        batch = []
        for image in images:
            batch.append(np.asarray(load_image(image), np.int32))
            if len(batch) == batch_size:
                yield from self._finish(batch, threshold)
                batch = []
        if batch:
            yield from self._finish(batch, threshold)

    def _finish(self, batch, threshold):
        self.batches.append(len(batch))
        for pixels in batch:
            found = [find_rectangle(pixels, name) for name in NAMES]
            yield [one for one in found if one is not None and one.score >= threshold]


def rectangle_finder():
    """A detector that is right about photos of `paint`, and has no weights."""
    model = SSDLite320_MobileNetV3_Large(num_classes=len(NAMES) + 1)
    labels = tuple(Label("", name) for name in ("background", *NAMES))
    trained = as_trained((model, {"params": {model.classifier[-1]: {}}}))
    finder = RectangleFinder(
        model, trained.variables, dataclasses.replace(trained.info, labels=labels, head=True)
    )
    object.__setattr__(finder, "batches", [])
    return finder


def find_rectangle(pixels, name):
    """The rectangle of a colour, or None."""
    # Colours that JPEG and videos change by less than this.
    y, x = np.nonzero((np.abs(pixels - COLORS[name]) < 90).all(axis=-1))
    if not len(x):
        return None
    box = (x.min(), y.min(), x.max() + 1, y.max() + 1)
    return Detection(name, SCORES[name], tuple(float(side) for side in box))


def paint(size, **boxes):
    """A grey photo [H, W, 3] of a width and height, with rectangles by their colours' names."""
    photo = np.full((size[1], size[0], 3), 128, np.uint8)
    for name, (x1, y1, x2, y2) in boxes.items():
        photo[y1:y2, x1:x2] = COLORS[name]
    return photo


def save_photo(path, photo, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(path, **options)
    return path
