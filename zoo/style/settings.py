"""The settings of a training of styles."""

import dataclasses
from typing import Any, Self

from zoo.models.suggest import suggest
from zoo.runtime.checks import ArgumentError, check_count, check_number
from zoo.style.losses import LossWeights
from zoo.style.network import STRIDE, UPSAMPLINGS, Upsampling

# The smallest size of photos: smaller ones leave the loss network's last layer a position or two.
MIN_SIZE = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class StyleSettings:
    """How styles are trained.

    Args:
      steps, epochs, minutes: when the training ends: the first of them that is reached; None is no
        limit. Without any it takes 4,000 steps. The time of earlier parts of a run that was
        interrupted counts.
      batch_size: photos in a step.
      size: height and width in pixels of the parts of photos that it trains on, a multiple of 4.
      style_size: the shorter side to which style images are resized, in pixels: of a larger one the
        strokes are larger.
      content_weight, style_weight, variation_weight: see `LossWeights`.
      rate: Adam's learning rate.
      average_decay: of the moving average of the weights, which is what is kept in the end.
      copy_steps: in how many steps before all others a new network learns to copy photos, which
        takes little time; without them the loss is too far from any style to get on.
      width, upsampling: of a new network, see `StyleNetwork`.
      noise: the standard deviation of the noise that is added to photos, in training and whenever
        the network paints; white is 1. Even areas get their texture from it.
      norms_only: trains only the norms of a network that is begun with, and no kernels.
      crop_scale: the smallest share of a photo's area that is shown.
      validation: the share of the photos that is held out.
      evaluate_steps: how many steps lie between evaluations, previews and saved states.
      patience: after how many evaluations without a lower loss it ends; 0 does not.
      seed: of all that is random.

    Raises:
      ArgumentError: a value has another type or range.
    """

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    batch_size: int = 4
    size: int = 256
    style_size: int = 384
    content_weight: float = LossWeights.content
    style_weight: float = LossWeights.style
    variation_weight: float = LossWeights.total_variation
    rate: float = 1e-3
    average_decay: float = 0.99
    copy_steps: int = 150
    width: float = 0.5
    upsampling: Upsampling = "nearest"
    noise: float = 0.06
    norms_only: bool = False
    crop_scale: float = 0.15
    validation: float = 0.1
    evaluate_steps: int = 200
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the values."""
        for name, least in _COUNTS.items():
            if getattr(self, name) is not None or name not in _LIMITS:
                check_count(name, getattr(self, name), least)
        for name, (low, high, included) in _NUMBERS.items():
            if getattr(self, name) is not None or name not in _LIMITS:
                check_number(name, getattr(self, name), low, high, included=included)
        if not isinstance(self.norms_only, bool):
            raise ArgumentError(f"norms_only must be True or False, got {self.norms_only!r}")
        if self.size % STRIDE:
            raise ArgumentError(f"size must be a multiple of {STRIDE}, got {self.size}")
        if self.upsampling not in UPSAMPLINGS:
            raise ArgumentError(
                f"upsampling must be one of {', '.join(UPSAMPLINGS)}, got {self.upsampling!r}"
            )

    @classmethod
    def of(cls, settings: "StyleSettings | None", **changes: Any) -> Self:
        """Settings with changes; ArgumentError for a name that does not exist."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in changes:
            if name not in known:
                hint = suggest(name, known) or f"there are {', '.join(known)}"
                raise ArgumentError(f"there is no setting {name!r}; {hint}")
        given = {} if settings is None else dataclasses.asdict(settings)
        return cls(**{**given, **changes})

    @property
    def loss_weights(self) -> LossWeights:
        """The weights of the parts of the loss."""
        return LossWeights(self.content_weight, self.style_weight, self.variation_weight)

    def count_steps(self, photos: int) -> int | None:
        """The number of steps at the end of a training on so many photos; None: minutes decide."""
        limits = [] if self.steps is None else [self.steps]
        if self.epochs is not None:
            limits.append(max(1, round(self.epochs * photos / self.batch_size)))
        if not limits and self.minutes is None:
            limits = [DEFAULT_STEPS]
        return min(limits, default=None)


DEFAULT_STEPS = 4000
_LIMITS = ("steps", "epochs", "minutes")  # None is no limit
_COUNTS = {
    "steps": 1,
    "batch_size": 1,
    "size": MIN_SIZE,
    "style_size": MIN_SIZE,
    "copy_steps": 0,
    "evaluate_steps": 1,
    "patience": 0,
    "seed": 0,
}
# The least and the largest value, and whether these are allowed themselves.
_NUMBERS = {
    "epochs": (0, 1e9, False),
    "minutes": (0, 1e9, False),
    "content_weight": (0, 1e9, True),
    "style_weight": (0, 1e9, True),
    "variation_weight": (0, 1e9, True),
    "rate": (0, 10, False),
    "average_decay": (0, 0.99999, True),
    "width": (1 / 32, 8, True),
    "noise": (0, 1, True),
    "crop_scale": (0.01, 1, True),
    "validation": (0, 0.9, True),
}
