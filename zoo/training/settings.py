"""The settings of a training: one dataclass, read from TOML files, kept with the run."""

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from zoo.models.suggest import suggest
from zoo_pretrained.printable import OneLineError
from zoo_pretrained.spelling import argument, choose

RECIPES = Path(__file__).parent / "recipes"
OPTIMIZERS = ("sgd", "adamw", "lamb", "rmsprop")
SCHEDULES = ("constant", "cosine", "step", "plateau")
DTYPES = ("float32", "bfloat16")
CLASS_WEIGHTS = ("none", "balanced")


class SettingsError(OneLineError, ValueError):
    """A setting is unknown, or has a value that it does not take."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is trained; a recipe is a file of these.

    Lengths are in epochs, passes over the training images, and may be fractions. Patterns are of
    paths in the model, such as "stem" or "stage[1-3]"; see `zoo.training.paths.matches`.

    Args:
      epochs: how long.
      batch_size: images in a step, over all devices.
      accumulate: in how many parts, one after the other, a batch is computed, to save memory.
      seed: of everything that is random.
      size: height and width of the images in pixels; None is the model's own.
      dtype: what the layers compute in, "float32" or "bfloat16".
      remat: recomputes inner values of blocks in the backward pass, to save memory.
      freeze: patterns of what is not trained.
      freeze_norms: patterns of batch norms that keep their running statistics; "**" is all.
      head_epochs: first trains only the classifier for so long, at a constant rate.
      optimizer: "sgd" (with Nesterov momentum off), "adamw", "lamb" or "rmsprop".
      rate: the learning rate at its highest.
      schedule: of the rate after the warm-up: "constant"; "cosine" to 0; "step", times
        `step_factor` every `step_epochs`; "plateau", times `step_factor` when the validation loss
        has not improved for `step_epochs`.
      warmup_epochs: the rate rises linearly for so long.
      step_epochs, step_factor: see `schedule`.
      momentum: of SGD and RMSProp.
      weight_decay: of kernels, not of norms and biases; added to the gradient by SGD and RMSProp,
        decoupled in AdamW and LAMB.
      layer_decay: the rate of a block is so many times that of the block after it; 1 is off.
      clip_norm: gradients of a larger norm are scaled to it; 0 is off.
      average_decay: of an exponential moving average of the weights, which is then what is
        evaluated and kept; 0 is off.
      label_smoothing: the share of each label's probability that is spread over all classes.
      class_weights: "none", or "balanced", which weighs an image by 1 / its class's frequency.
      crop_scale: the smallest share of an image's area that a random crop shows; 1 crops nothing.
      flip: the probability of mirroring an image left to right.
      rotate: the largest rotation in degrees.
      color_jitter: the largest relative change of brightness, contrast and saturation.
      randaugment: how many operations of RandAugment change an image (Cubuk et al. 2019, arXiv
        1909.13719).
      randaugment_magnitude: their strength, from 0 to 10.
      zoom_out: of detectors: by how much of its width and height an image is padded at most, on
        each side.
      max_boxes: of detectors: how many boxes of an image count, the largest.
      erasing: the probability of erasing a rectangle (Zhong et al. 2017, arXiv 1708.04896).
      mixup, cutmix: the parameter α of MixUp (Zhang et al. 2017, arXiv 1710.09412) and CutMix (Yun
        et al. 2019, arXiv 1905.04899); 0 is off. With both, each batch has one of the two.
      validation: the share of the images that is held back, where the data have no such part.
      evaluate_epochs: how often the validation images are evaluated.
      checkpoint_minutes: how often the state is saved, beside the end of each evaluation.
      max_skipped: the share of unreadable images above which the training stops.
      sync_norms: with several devices, batch norms see the whole batch, and not each device its
        own part.
      shard_params: with several devices, spreads large parameters over them.

    Raises:
      SettingsError: a value is of another type, or out of range.
    """

    epochs: float = 10.0
    batch_size: int = 32
    accumulate: int = 1
    seed: int = 0
    size: int | None = None
    dtype: str = "float32"
    remat: bool = False
    freeze: tuple[str, ...] = ()
    freeze_norms: tuple[str, ...] = ()
    head_epochs: float = 0.0
    optimizer: str = "sgd"
    rate: float = 0.01
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    step_epochs: float = 30.0
    step_factor: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    clip_norm: float = 0.0
    average_decay: float = 0.0
    label_smoothing: float = 0.0
    class_weights: str = "none"
    crop_scale: float = 1.0
    flip: float = 0.0
    rotate: float = 0.0
    color_jitter: float = 0.0
    randaugment: int = 0
    randaugment_magnitude: float = 9.0
    erasing: float = 0.0
    zoom_out: float = 0.0
    max_boxes: int = 100
    mixup: float = 0.0
    cutmix: float = 0.0
    validation: float = 0.2
    evaluate_epochs: float = 1.0
    checkpoint_minutes: float = 10.0
    max_skipped: float = 0.01
    sync_norms: bool = True
    shard_params: bool = False

    def __post_init__(self) -> None:
        """Checks types and ranges."""
        for field in dataclasses.fields(self):
            value = _check_type(field.name, field.type, getattr(self, field.name))
            _check_range(field.name, value)
            object.__setattr__(self, field.name, float(value) if field.type is float else value)

    @classmethod
    def read(cls, recipe: str | Path, **changes: Any) -> Self:
        """Settings from a file.

        Args:
          recipe: a recipe's name, such as "finetune", or the path of a TOML file.
          **changes: settings in place of those of the file.

        Raises:
          SettingsError: there is no such recipe, the file is not TOML, or a setting is unknown or
            has a value that it does not take.
        """
        path = Path(recipe)
        if path.suffix != ".toml":
            path = RECIPES / f"{recipe}.toml"
            if not path.exists():
                known = sorted(file.stem for file in RECIPES.glob("*.toml"))
                raise SettingsError(
                    f"{argument('recipe')} must be one of {', '.join(known)}, or the path of a "
                    f".toml file, got {str(recipe)!r}"
                )
        try:
            settings = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or error
            raise SettingsError(f"{path} cannot be read: {cause}") from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{path} is not TOML: {error}") from error
        try:
            return cls.from_mapping({**settings, **changes})
        except SettingsError as error:
            raise SettingsError(f"{path.name}: {error}" if not changes else str(error)) from error

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Self:
        """Settings by their names; SettingsError for one that does not exist."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                hint = suggest(name, known) or choose(
                    python="help(zoo.training.Settings) lists them", shell="see docs/training.md"
                )
                raise SettingsError(f"there is no setting {name!r}; {hint}")
        return cls(**settings)

    def replace(self, **changes: Any) -> Self:
        """The same with other values."""
        return self.from_mapping({**dataclasses.asdict(self), **changes})

    def to_toml(self) -> str:
        """The text of a file that `read` reads; settings without a value are left out."""
        return to_toml(self)


def to_toml(settings: Any) -> str:
    """The fields of a dataclass as TOML; those without a value are left out."""
    items = dataclasses.asdict(settings).items()
    return "".join(f"{name} = {_to_toml(value)}\n" for name, value in items if value is not None)


def parse(name: str, text: str) -> Any:
    """The value of a setting from the command line: TOML, or a word that needs no quotes.

    A setting that does not exist is not refused here, but by `Settings.from_mapping`.
    """
    kinds = {field.name: field.type for field in dataclasses.fields(Settings)}
    if kinds.get(name) == tuple[str, ...] and not text.startswith(("[", '"')):
        return tuple(part for part in text.split(",") if part)
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _check_type(name: str, kind: Any, value: Any) -> Any:
    """The value, NumPy's as Python's, and a list as a tuple; SettingsError for another type."""
    value = value.item() if isinstance(value, np.generic) else value
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if kind == tuple[str, ...]:
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
        expected = "a list of strings"
    else:
        allowed = (*kinds, int) if float in kinds else kinds
        if isinstance(value, allowed) and not (isinstance(value, bool) and bool not in kinds):
            return value
        names = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
        expected = " or ".join(names[k] for k in kinds if k in names)
    raise SettingsError(f"{name} must be {expected}, got {value!r}")


_CHOICES = {
    "dtype": DTYPES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "class_weights": CLASS_WEIGHTS,
}
# Of each other number: the least and the largest.
_FRACTION = (0.0, 1.0)
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("flip", "erasing", "max_skipped", "momentum", "label_smoothing"), _FRACTION),
    **dict.fromkeys(("validation", "step_factor", "layer_decay", "average_decay"), _FRACTION),
    "crop_scale": (0.01, 1.0),
    "color_jitter": _FRACTION,
    "rotate": (0.0, 180.0),
    "randaugment": (0, 8),
    "randaugment_magnitude": (0.0, 10.0),
    "batch_size": (1, 1 << 20),
    "accumulate": (1, 1 << 20),
    "max_boxes": (1, 1000),
    "zoom_out": (0.0, 10.0),
    "size": (8, 1 << 14),
    "seed": (0, (1 << 32) - 1),
}
_POSITIVE = ("epochs", "step_epochs", "evaluate_epochs", "layer_decay")
_BELOW_ONE = ("validation", "average_decay", "label_smoothing", "momentum")


def _check_range(name: str, value: Any) -> None:
    if name in _CHOICES and value not in _CHOICES[name]:
        raise SettingsError(f"{name} must be one of {', '.join(_CHOICES[name])}, got {value!r}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high = _RANGES.get(name, (0.0, 1e9))
    positive, below = name in _POSITIVE, name in _BELOW_ONE
    # Written so that NaN is refused.
    fits = (low < value if positive else low <= value) and (
        value < high if below else value <= high
    )
    if not fits:
        start = f"more than {low:g}" if positive else f"at least {low:g}"
        end = f"less than {high:g}" if below else f"at most {high:g}"
        raise SettingsError(f"{name} must be {start} and {end}, got {value!r}")


def _to_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(map(_to_toml, value))}]" if isinstance(value, tuple) else repr(value)
