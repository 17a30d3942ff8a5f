"""What is timed: a method of a model, in ours and in the libraries that have it."""

from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness.recording import ROOT

OURS, FORWARD, CAPTUM, GRAD_CAM = "ours", "ours, forward pass", "captum", "pytorch-grad-cam"
SIZE = 224
PHOTO = ROOT / "examples" / "cat.jpg"

# Of each network a layer, by our path and by torchvision's.
LAYERS = {"ResNet18": ("stage4", "layer4"), "MobileNetV2": ("conv_head", "features.18")}
# The libraries that have a method, which is called as in `zoo.visualize.METHODS`.
LIBRARIES = {
    **dict.fromkeys(("gradient", "input-x-gradient", "integrated-gradients"), (CAPTUM,)),
    "smooth-grad": (CAPTUM,),
    "guided-backprop": (CAPTUM, GRAD_CAM),
    "deconvnet": (CAPTUM,),
    "occlusion": (CAPTUM,),
    "grad-cam": (CAPTUM, GRAD_CAM),
    **dict.fromkeys(("grad-cam++", "xgrad-cam", "hires-cam", "layer-cam"), (GRAD_CAM,)),
    "eigen-cam": (GRAD_CAM,),
    "guided-grad-cam": (CAPTUM, GRAD_CAM),
    "score-cam": (GRAD_CAM,),
    "ablation-cam": (GRAD_CAM,),
}
# Passes that are computed at a time, on all sides: with gradients, and without.
GRADIENT_BATCH, FORWARD_BATCH = 10, 16
STEPS, SAMPLES, NOISE = 50, 25, 0.15
WINDOW, STRIDE = 48, 24
OPTIONS: dict[str, dict[str, Any]] = {
    "integrated-gradients": {
        "steps": STEPS,
        "baselines": "grey",
        "batch_size": GRADIENT_BATCH,
    },
    "smooth-grad": {"samples": SAMPLES, "noise": NOISE, "batch_size": GRADIENT_BATCH},
    "occlusion": {"window": WINDOW, "stride": STRIDE, "batch_size": FORWARD_BATCH},
    "score-cam": {"batch_size": FORWARD_BATCH},
    "ablation-cam": {"batch_size": FORWARD_BATCH},
}

# Of the embedded model.
EMBEDDED = "EfficientNetLite0"
GRAD_CAM_OF_A_FILE = "grad-cam, from the file on"
SMOOTH_GRAD, RISE = "smooth-grad, 50 samples", "rise, 2000 masks"
DREAM = "dream, 512x512, 4 octaves of 10 steps"
SLOW = ("score-cam", "ablation-cam", RISE, DREAM)


class Case(NamedTuple):
    """A method of a model.

    Args:
      model: its constructor's name.
      method: a name, which tells its settings.
      candidates: who is timed.
    """

    model: str
    method: str
    candidates: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return f"{self.model}, {self.method}"

    @property
    def slow(self) -> bool:
        """Whether it takes many seconds in some candidate, and gets fewer rounds."""
        return self.method in SLOW


CASES = (
    *(
        Case(model, method, (OURS, *libraries))
        for model in LAYERS
        for method, libraries in LIBRARIES.items()
    ),
    Case(EMBEDDED, GRAD_CAM_OF_A_FILE, (OURS, FORWARD)),
    Case(EMBEDDED, SMOOTH_GRAD, (OURS,)),
    Case(EMBEDDED, RISE, (OURS,)),
    Case(EMBEDDED, DREAM, (OURS,)),
)


def find_case(name: str) -> Case:
    """The case of that name."""
    return next(case for case in CASES if case.name == name)


def make_preprocessing() -> Any:
    """How the photo becomes the input of both sides' networks."""
    from zoo.inference.preprocessing import Preprocessing

    return Preprocessing(SIZE, SIZE, "bicubic", (0.5,) * 3, (0.25,) * 3)


def prepare_photo() -> np.ndarray:
    """The photo, normalised, [1, H, W, C]."""
    x: np.ndarray = make_preprocessing()([PHOTO])
    return x
