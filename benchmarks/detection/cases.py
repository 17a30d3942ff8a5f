"""What is timed, and of which photos and boxes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.training.photos import open_examples

OURS, NATIVE, TORCH = "ours", "ours, native", "torch"
# From photos as arrays to boxes; what the heads compute of prepared photos; boxes of what the heads
# computed; and a step on prepared photos with boxes.
DETECT, NETWORK, SELECT, STEP = "photo to boxes", "network", "post-processing", "training step"
WORKS = (DETECT, NETWORK, SELECT, STEP)
CANDIDATES = {
    DETECT: (OURS, NATIVE, TORCH),
    NETWORK: (OURS, NATIVE, TORCH),
    SELECT: (OURS,),
    STEP: (OURS, TORCH),
}
MODELS = (
    "SSDLite320_MobileNetV3_Large",
    "SSD300_VGG16",
    "FasterRCNN_MobileNetV3_Large_320_FPN",
    "FasterRCNN_MobileNetV3_Large_FPN",
    "RetinaNet_ResNet50_FPN",
    "FCOS_ResNet50_FPN",
    "FasterRCNN_ResNet50_FPN",
    "RetinaNet_ResNet50_FPN_V2",
    "FasterRCNN_ResNet50_FPN_V2",
)
# Their photos are 800 pixels high, so that a batch of 8 takes many seconds.
SLOW = tuple(name for name in MODELS if "ResNet50" in name)
SLOW_ROUNDS = 2  # of batches of these
BATCHES, STEP_BATCH = (1, 8), 4
PHOTO = (640, 480)  # width and height of photos, a usual size of COCO's
STEP_SIDE, OBJECTS = 320, 8  # pixels of a training image, and its boxes
RATE, MOMENTUM = 1e-5, 0.9  # of SGD; so small a rate that random weights stay as they are
# So that a run takes seconds: the sides of images as the model sees them.
QUICK_SIDES = {"short_side": 96, "long_side": 128}

Work = Callable[[], Any]  # what is timed
Summarize = Callable[[Any], dict[str, Any]]  # its result → what must be alike on both sides


class Case(NamedTuple):
    """A workload.

    Args:
      model: the name of a detector.
      work: one of WORKS.
      batch: the number of photos.
      quick: whether photos are small: for rehearsals.
    """

    model: str
    work: str
    batch: int
    quick: bool = False

    @property
    def name(self) -> str:
        """As candidates are asked for it."""
        return "; ".join((self.model, self.work, str(self.batch), "quick" * self.quick))

    @classmethod
    def parse(cls, name: str) -> "Case":
        """The case of that name."""
        model, work, batch, quick = name.split("; ")
        return cls(model, work, int(batch), bool(quick))

    @property
    def candidates(self) -> tuple[str, ...]:
        """Who takes part: of slow batches only the faster one of ours."""
        if self.is_slow:
            return NATIVE, TORCH
        return CANDIDATES[self.work]

    @property
    def is_slow(self) -> bool:
        """Whether a call takes many seconds."""
        return self.model in SLOW and self.batch > 1 and self.work != STEP and not self.quick

    @property
    def sides(self) -> dict[str, int]:
        """Options of the constructor: the sides of images as the model sees them."""
        if self.model.startswith("SSD"):
            return {}
        if self.work != STEP:
            return QUICK_SIDES if self.quick else {}
        side = QUICK_SIDES["long_side"] if self.quick else STEP_SIDE
        return {"short_side": side, "long_side": side}

    @property
    def side(self) -> int:
        """Height and width of training images."""
        if self.model.startswith("SSD"):
            return int("".join(filter(str.isdigit, self.model.partition("_")[0])))
        return self.sides["long_side"]


def list_cases(models: list[str], batches: list[int], works: list[str], quick: bool) -> list[Case]:
    """All cases: the parts of a detection only of one photo, training of a batch of its own."""
    return [
        Case(model, work, batch, quick)
        for model in models
        for work in works
        for batch in {DETECT: batches, STEP: [STEP_BATCH]}.get(work, [1])
    ]


def make_photos(count: int) -> list[np.ndarray]:
    """Photos [H, W, 3], uint8, all of one size: random parts of the examples."""
    random = np.random.default_rng(0)
    examples = open_examples()
    width, height = PHOTO
    photos = []
    for number in range(count):
        example = examples[number % len(examples)]
        scale = random.uniform(0.7, 1) * min(example.width / width, example.height / height)
        left, top = (
            random.uniform(0, side - scale * part)
            for side, part in zip(example.size, PHOTO, strict=True)
        )
        box = (left, top, left + scale * width, top + scale * height)
        photos.append(np.array(example.resize(PHOTO, Image.Resampling.BICUBIC, box)))
    return photos


def make_training_batch(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images [N, side, side, 3] uint8, boxes [N, OBJECTS, 4], classes [N, OBJECTS] from 1)."""
    random = np.random.default_rng(1)
    side = case.side
    images = [
        np.asarray(Image.fromarray(photo).resize((side, side))) for photo in make_photos(case.batch)
    ]
    corners = random.uniform(0, 0.6, (case.batch, OBJECTS, 2))
    sizes = random.uniform(0.1, 0.4, (case.batch, OBJECTS, 2))
    boxes = side * np.concatenate((corners, corners + sizes), -1)
    classes = random.integers(1, 91, (case.batch, OBJECTS))
    return np.stack(images), boxes.astype(np.float32), classes


def summarize_scores(scores: Any) -> dict[str, Any]:
    """How many objects a photo has, and the highest scores: by which candidates are compared."""
    ordered = np.sort(np.asarray(scores, np.float64))[::-1]
    return {"found": len(ordered), "scores": ordered[:20].tolist()}


def summarize_loss(loss: float) -> dict[str, Any]:
    """The loss of the first step."""
    return {"loss": loss}


def summarize_nothing(result: Any) -> dict[str, Any]:
    """Nothing is compared."""
    return {}
