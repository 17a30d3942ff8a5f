"""Non-maximum suppression: of boxes that overlap, only the best is kept.

Greedy, as everywhere since Girshick et al. 2014: from the best score to the worst, a box is kept
unless its intersection over union with one that is kept already is above a threshold. All functions
have fixed shapes, so that they go through jit and vmap; what is found is counted beside. None has a
gradient: they return indices.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zoo.detection.boxes import box_iou
from zoo.detection.selection import NONE, present, top_k
from zoo.runtime.checks import ArgumentError, check_count, check_number

# Candidates are sorted so many at a time, and as many times as needed, as most are never looked at:
# of 300,000 scores on a CPU, the best 2,048 take 1.5 ms, and sorting all takes 80 ms.
CHUNK = 2048
# So many are compared with each other at once: half as many take as long, twice as many longer.
TILE = 256


def nms(
    boxes: jax.Array,
    scores: jax.Array,
    iou_threshold: float,
    *,
    max_outputs: int,
    score_threshold: float | jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Greedy non-maximum suppression, equal to torchvision's.

    Boxes with equal scores are taken in their order. A box or a score that is NaN is treated as
    absent: it is not kept and suppresses no other. So is a score of -inf, which padding has.

    Args:
      boxes: [N, 4]; N may be 0.
      scores: [N].
      iou_threshold: boxes are suppressed whose intersection over union is above it, from 0 to 1.
      max_outputs: how many boxes are kept at most.
      score_threshold: only boxes with scores above it count; None for no threshold.

    Returns:
      The indices of the boxes that are kept, the best first, int32 [max_outputs], and their number.
      What follows them is -1.
    """
    return batched_nms(
        boxes,
        scores,
        jnp.zeros(scores.shape, jnp.int32),
        iou_threshold,
        max_outputs=max_outputs,
        score_threshold=score_threshold,
    )


def batched_nms(
    boxes: jax.Array,
    scores: jax.Array,
    classes: jax.Array,
    iou_threshold: float,
    *,
    max_outputs: int,
    score_threshold: float | jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """`nms` where boxes of different classes do not suppress each other.

    Args:
      boxes, scores: [N, 4] and [N].
      classes: [N], integers of any value, such as classes or levels of a pyramid.
      iou_threshold, max_outputs, score_threshold: see `nms`.

    Returns:
      Indices and their number, as `nms`.
    """
    if scores.ndim != 1 or boxes.shape != (*scores.shape, 4) or classes.shape != scores.shape:
        raise ArgumentError(
            f"boxes must be [N, 4], scores and classes [N], got {boxes.shape}, {scores.shape} and "
            f"{classes.shape}"
        )
    boxes, classes = jnp.asarray(boxes), jnp.asarray(classes)
    search = _Search(lambda indices: (boxes[indices], classes[indices]), iou_threshold, max_outputs)
    return search.run(present(scores, score_threshold))


def multiclass_nms(
    boxes: jax.Array,
    scores: jax.Array,
    iou_threshold: float,
    *,
    max_outputs: int,
    score_threshold: float | jax.Array | None = None,
    max_per_class: int | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`batched_nms` of boxes that each have a score for every class.

    Args:
      boxes: [N, 4], or [N, classes, 4] where they differ by class.
      scores: [N, classes].
      iou_threshold, max_outputs, score_threshold: see `nms`.
      max_per_class: only so many boxes of each class are candidates, those with the best scores,
        as in torchvision's SSD; None for no limit.

    Returns:
      The indices of the boxes that are kept, from 0 to N - 1, the best first, their classes (both
      int32 [max_outputs]), and their number. What follows them is -1.
    """
    if scores.ndim != 2 or boxes.shape not in ((scores.shape[0], 4), (*scores.shape, 4)):
        raise ArgumentError(
            f"scores must be [N, classes] and boxes [N, 4] or [N, classes, 4], got {scores.shape} "
            f"and {boxes.shape}"
        )
    boxes, classes = jnp.asarray(boxes), scores.shape[1]
    if max_per_class is not None:
        check_count("max_per_class", max_per_class)

    def look_up(indices: jax.Array) -> tuple[jax.Array, jax.Array]:
        row, class_ = indices // classes, indices % classes
        return boxes[row] if boxes.ndim == 2 else boxes[row, class_], class_

    search = _Search(look_up, iou_threshold, max_outputs, classes, max_per_class)
    indices, count = search.run(present(scores, score_threshold).reshape(-1))
    found = indices != NONE
    rows, kept_classes = indices // max(classes, 1), indices % max(classes, 1)
    return jnp.where(found, rows, NONE), jnp.where(found, kept_classes, NONE), count


class _State(NamedTuple):
    """What is kept after some tiles. The arrays have room for one more tile at their end."""

    boxes: jax.Array
    classes: jax.Array
    indices: jax.Array
    total: jax.Array  # how many are kept
    seen: jax.Array  # the number of candidates of each class so far; empty where there is no limit


@dataclasses.dataclass(frozen=True)
class _Search:
    """The greedy search over tiles of candidates in descending order, until enough are kept.

    Args:
      look_up: the boxes [T, 4] and classes [T] of candidates' indices [T].
      iou_threshold, max_outputs: see `nms`.
      classes: how many there are; for a limit.
      limit: the number of candidates of a class.
    """

    look_up: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    iou_threshold: float
    max_outputs: int
    classes: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_number("iou_threshold", self.iou_threshold, 0, 1)
        check_count("max_outputs", self.max_outputs)

    def run(self, scores: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The indices of scores [N] that are kept, and their number; -inf is no candidate."""
        size = scores.shape[0]
        if size == 0:
            return jnp.full(self.max_outputs, NONE, jnp.int32), jnp.zeros((), jnp.int32)
        chunk = min(size, CHUNK)

        def add_chunk(
            carry: tuple[_State, jax.Array, jax.Array],
        ) -> tuple[_State, jax.Array, jax.Array]:
            state, score, index = carry
            after = (scores < score) | ((scores == score) & (jnp.arange(size) > index))
            if self.limit is not None:
                open_ = state.seen < self.limit
                after &= jnp.broadcast_to(open_, (size // self.classes, self.classes)).reshape(-1)
            best, indices = top_k(jnp.where(after, scores, -jnp.inf), chunk)
            return self._add_chunk(state, best, indices), best[-1], indices[-1]

        def more(carry: tuple[_State, jax.Array, jax.Array]) -> jax.Array:
            state, score, _ = carry
            return (score > -jnp.inf) & (state.total < self.max_outputs)

        boxes, classes = jax.eval_shape(self.look_up, jax.ShapeDtypeStruct((1,), jnp.int32))
        rows = self.max_outputs + TILE
        state = _State(
            boxes=jnp.zeros((rows, 4), boxes.dtype),
            classes=jnp.zeros(rows, classes.dtype),
            indices=jnp.full(rows, NONE, jnp.int32),
            total=jnp.zeros((), jnp.int32),
            seen=jnp.zeros(0 if self.limit is None else self.classes, jnp.int32),
        )
        # All candidates come after an infinite score with index -1.
        first = jnp.asarray(jnp.inf, scores.dtype), jnp.asarray(-1, jnp.int32)
        state, _, _ = lax.while_loop(more, add_chunk, (state, *first))
        return state.indices[: self.max_outputs], state.total

    def _add_chunk(self, state: _State, scores: jax.Array, indices: jax.Array) -> _State:
        missing = (0, -len(scores) % TILE)
        tiles = (-1, TILE)
        scores = jnp.pad(scores, missing, constant_values=-jnp.inf).reshape(tiles)
        indices = jnp.pad(indices, missing).reshape(tiles)

        def more(carry: tuple[_State, jax.Array]) -> jax.Array:
            state, number = carry
            # Beyond the end, `scores` is read at its last tile.
            some = (number < len(scores)) & (scores[number, 0] > -jnp.inf)
            return some & (state.total < self.max_outputs)

        def add(carry: tuple[_State, jax.Array]) -> tuple[_State, jax.Array]:
            state, number = carry
            return self._add_tile(state, scores[number], indices[number]), number + 1

        return lax.while_loop(more, add, (state, jnp.zeros((), jnp.int32)))[0]

    def _add_tile(self, state: _State, scores: jax.Array, indices: jax.Array) -> _State:
        boxes, classes = self.look_up(indices)
        alive = (scores > -jnp.inf) & ~jnp.isnan(boxes).any(axis=1)
        earlier = jnp.arange(TILE)[:, None] < jnp.arange(TILE)
        seen = state.seen
        if self.limit is not None:
            rank = seen[classes] + _count(alive, earlier & (classes[:, None] == classes))
            seen = seen + _count(alive, classes[:, None] == jnp.arange(self.classes))
            alive &= rank < self.limit
        # Places where nothing is kept yet have boxes without area, which suppress none.
        rows = slice(self.max_outputs)
        alive &= ~self._conflicts(boxes, classes, state.boxes[rows], state.classes[rows]).any(
            axis=1
        )
        kept = _resolve(alive, self._conflicts(boxes, classes, boxes, classes) & earlier)
        # Those that are kept move to the front, by a stable sort. The others are overwritten by the
        # next tile, or cut off.
        order = jnp.argsort(~kept, stable=True)

        def put(array: jax.Array, values: jax.Array) -> jax.Array:
            return lax.dynamic_update_slice_in_dim(array, values[order], state.total, axis=0)

        return _State(
            boxes=put(state.boxes, jnp.where(kept[:, None], boxes, 0)),
            classes=put(state.classes, classes),
            indices=put(state.indices, jnp.where(kept, indices, NONE)),
            total=jnp.minimum(state.total + kept.sum(dtype=jnp.int32), self.max_outputs),
            seen=seen,
        )

    def _conflicts(
        self, boxes: jax.Array, classes: jax.Array, others: jax.Array, other_classes: jax.Array
    ) -> jax.Array:
        """Whether boxes [T, 4] and others [M, 4] cannot both be kept [T, M]."""
        overlaps = box_iou(boxes, others) > _round_down(self.iou_threshold)
        return overlaps & (classes[:, None] == other_classes)


def _resolve(alive: jax.Array, conflicts: jax.Array) -> jax.Array:
    """Which of the boxes of a tile are kept.

    A box is kept if no earlier one that is kept conflicts with it. Applied to a guess, this rule
    makes right at least one more box of each chain of conflicts, so what no longer changes is the
    greedy result. Few rounds are needed, as chains are short.

    Args:
      alive: which are not suppressed by boxes before the tile [T].
      conflicts: whether box i conflicts with the later box j [T, T].
    """
    conflicts = conflicts.astype(jnp.float32)

    def step(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        kept, _ = carry
        new = alive & (kept.astype(jnp.float32) @ conflicts == 0)
        return new, (new != kept).any()

    return lax.while_loop(lambda carry: carry[1], step, (alive, jnp.asarray(True)))[0]


def _count(which: jax.Array, sets: jax.Array) -> jax.Array:
    """How many elements [T] are in each of some sets [T, M]."""
    return (which[:, None] & sets).sum(axis=0, dtype=jnp.int32)


def _round_down(threshold: float) -> float:
    """The greatest float32 that is not above a threshold.

    torchvision compares in float64, where the float32 nearest to 0.6 is above 0.6; so is it above
    the result of this function.
    """
    nearest = np.float32(threshold)
    below = np.nextafter(nearest, np.float32(-1))
    # As Python's numbers: NumPy would compare in float32.
    return float(nearest) if float(nearest) <= threshold else float(below)
