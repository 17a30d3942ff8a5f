"""What a generated picture is to raise: a channel, a neuron, a direction, a class."""

import dataclasses
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from zoo.inference.trained import Trained
from zoo.runtime.checks import check_count
from zoo.visualize.inputs import Target, find_class
from zoo.visualize.layers import LayerError, find_layer, layer_shapes

# The path of the model's own output, the logits.
LOGITS = ""
# The position that stands for the middle of a feature map.
CENTER = "center"


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """A part of an objective: weight × the output of a layer along a direction.

    Args:
      layer: a module path, or "" for the logits.
      what: a channel's number, a vector with a number for each channel, or a class.
      position: row and column in the feature map, or "center"; None is the mean of all.
      cosine_power: see `direction`.
      weight: of the part.
    """

    layer: str
    what: Any
    position: tuple[int, int] | str | None = None
    cosine_power: float = 0.0
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """What a generated picture is to raise; made by `channel`, `neuron`, `direction` and others.

    Objectives can be added, and multiplied by numbers: `channel("stage4", 3) - 0.5 *
    class_logit("tabby")`.

    Args:
      terms: its parts, which are added.
      title: what the picture is called.
    """

    terms: tuple[Term, ...]
    title: str

    def __add__(self, other: "Objective") -> "Objective":
        return Objective(self.terms + other.terms, f"{self.title} + {other.title}")

    def __sub__(self, other: "Objective") -> "Objective":
        opposite = -1 * other
        return Objective(self.terms + opposite.terms, f"{self.title} - {other.title}")

    def __mul__(self, factor: float) -> "Objective":
        return Objective(self._weighted(factor), f"{factor:g} * {self.title}")

    __rmul__ = __mul__

    def __neg__(self) -> "Objective":
        return Objective(self._weighted(-1), f"-{self.title}")

    def _weighted(self, factor: float) -> tuple[Term, ...]:
        return tuple(dataclasses.replace(t, weight=factor * t.weight) for t in self.terms)


def channel(layer: str, number: int) -> Objective:
    """The mean of a channel over all positions.

    Args:
      layer: a module path such as "stage4" or "stage4/block2/expand".
      number: the channel's, from 0.
    """
    return Objective((Term(layer, number),), f"{layer}:{number}")


def neuron(layer: str, number: int, position: tuple[int, int] | None = None) -> Objective:
    """A channel at one position.

    Args:
      layer: a module path.
      number: the channel's, from 0.
      position: row and column in the feature map, whose size follows from the picture's; by default
        its centre.
    """
    title = f"{layer}:{number} " + (f"at {position}" if position else "in the centre")
    return Objective((Term(layer, number, position or CENTER),), title)


def direction(layer: str, vector: ArrayLike, *, cosine_power: float = 1.0) -> Objective:
    """The mean over all positions of y · d × max(0.1, cos(y, d)) ** cosine_power.

    Here y is the layer's output at a position and d the vector, scaled to length 1.

    Args:
      layer: a module path.
      vector: a number for each of the layer's channels.
      cosine_power: with 0, what is large along d suffices; the larger it is, the less may point
        elsewhere.
    """
    return Objective((Term(layer, np.asarray(vector), None, cosine_power),), f"{layer} direction")


def class_logit(target: Target) -> Objective:
    """A class's logit, before the softmax.

    Args:
      target: the label or the index of a class.
    """
    return Objective((Term(LOGITS, target),), str(target))


def interpolate(a: "str | Objective", b: "str | Objective", count: int = 5) -> list[Objective]:
    """Objectives that go from one to another in equal steps, both included.

    With `feature(…, aligned=True)` the pictures change gradually.

    Args:
      a, b: the ends, such as "stage4:3".
      count: of objectives, 2 or more.

    Raises:
      ArgumentError: `count` is no integer of at least 2, as both ends are included.
      LayerError: a text is no objective.
    """
    count = check_count("count", count, 2)
    first, last = parse(a), parse(b)
    row = []
    for number in range(count):
        share = number / (count - 1)
        mixed = (1 - share) * first + share * last
        title = first.title if number == 0 else last.title if share == 1 else f"{share:.0%}"
        row.append(dataclasses.replace(mixed, title=title))
    return row


def parse(what: "str | Objective") -> Objective:
    """An objective, or the text of one: a layer and a channel, such as "stage4:12".

    Raises:
      LayerError: it is something else.
    """
    if isinstance(what, Objective):
        return what
    return channel(*parse_channel(what, " or an objective such as class_logit('tabby'),"))


def parse_channel(text: Any, other: str = "") -> tuple[str, int]:
    """A layer's path and a channel's number from a text such as "stage4:12".

    Args:
      text: the text.
      other: what else is taken, for the message.

    Raises:
      LayerError: the text has another form.
    """
    layer, _, number = text.strip().rpartition(":") if isinstance(text, str) else ("", "", "")
    if not (layer and number.strip().isdecimal()):
        raise LayerError(
            f"a feature is a layer and the number of a channel, such as 'stage4:12',{other} "
            f"got {text!r}"
        )
    return layer, int(number)


def parse_all(what: "str | Objective | Sequence[str | Objective]") -> list[Objective]:
    """Objectives from one, or several, or their texts; see `parse`."""
    items = list(what) if isinstance(what, Iterable) and not isinstance(what, str) else [what]
    if not items:
        raise LayerError("what to visualise must be named, such as 'stage4:12', got nothing")
    return [parse(item) for item in items]


@dataclasses.dataclass(frozen=True)
class ResolvedTerm:
    """A term in a model's numbers; see `zoo.visualize.optimization.scores.Goal`."""

    layer: str
    vector: np.ndarray
    position: tuple[int, int]
    cosine_power: float
    weight: float


def resolve(trained: Trained, term: Term, size: int) -> ResolvedTerm:
    """Checks a term with a model.

    Args:
      trained: the model.
      term: the term.
      size: the picture's height and width.

    Raises:
      LayerError: the model lacks the layer or the channel, or a vector or a position does not fit.
      TargetError: the model has no such class.
      ValueError: the weights have no classifier, which the term needs.
    """
    if term.layer == LOGITS:
        trained.require_head()
        number = find_class(trained, term.what)
        vector = np.eye(1, trained.model.num_classes, number, dtype=np.float32)[0]
        return ResolvedTerm(LOGITS, vector, (-1, -1), term.cosine_power, term.weight)
    require_layer(trained, term.layer, size)
    shape = layer_shapes(trained, size)[term.layer]
    vector = _find_vector(trained, term, size)
    position = (-1, -1)
    if term.position is not None:
        find_layer(trained, term.layer, spatial=True, size=size)
        position = _find_position(term, shape[0], shape[1])
    return ResolvedTerm(term.layer, vector, position, term.cosine_power, term.weight)


def require_layer(trained: Trained, layer: str, size: int | None = None) -> None:
    """Raises an error if a model has no such layer, or no weights for it, or it has no channels."""
    find_layer(trained, layer, spatial=False, size=size)
    if layer.split("/")[0] in trained.model.classifier:
        trained.require_head()
    shape = layer_shapes(trained, size)[layer]
    if len(shape) not in (1, 3):
        raise LayerError(
            f"layer {layer!r} has an output of {list(shape)}; one of [channels] or [height, width, "
            f"channels] is needed"
        )


def check_channel(trained: Trained, layer: str, number: Any, size: int | None = None) -> int:
    """A channel's number; LayerError unless the layer has that channel."""
    channels = layer_shapes(trained, size)[layer][-1]
    try:
        index = -1 if isinstance(number, bool) else operator.index(number)
    except TypeError:
        index = -1
    if not 0 <= index < channels:
        raise LayerError(
            f"layer {layer!r} of {trained.model.title} has the channels 0 to {channels - 1}, got "
            f"{number!r}"
        )
    return index


def _find_vector(trained: Trained, term: Term, size: int) -> np.ndarray:
    channels = layer_shapes(trained, size)[term.layer][-1]
    if isinstance(term.what, np.ndarray):
        vector = np.asarray(term.what, np.float32)
        length = float(np.linalg.norm(vector))
        if vector.shape != (channels,) or not np.isfinite(length) or length == 0:
            raise LayerError(
                f"a direction of layer {term.layer!r} must be {channels} finite numbers that are "
                f"not all 0, got {list(vector.shape)}"
                + (f" of length {length:g}" if vector.shape == (channels,) else "")
            )
        return vector / np.float32(length)
    number = check_channel(trained, term.layer, term.what, size)
    return np.eye(1, channels, number, dtype=np.float32)[0]


def _find_position(term: Term, height: int, width: int) -> tuple[int, int]:
    if term.position == CENTER:
        return height // 2, width // 2
    try:
        row, column = map(operator.index, term.position)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        row = column = -1
    if not (0 <= row < height and 0 <= column < width):
        raise LayerError(
            f"position must be a row and a column in the {height}x{width} map of layer "
            f"{term.layer!r}, got {term.position!r}"
        )
    return row, column
