"""Matches detections with true objects as COCO's evaluation does, for all images at once.

A detection may only match an object of its own image and class: its group. In each group the
detections choose one after another, the highest score first; those of equal rank in different
groups choose at once.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

IOUS = np.linspace(0.5, 0.95, 10)
# The first detections of an image and class, by score, that count; those after them are left out.
MAX_DETECTIONS = 100
# How many pairs of boxes are compared at once, which takes some 100 bytes for each.
CHUNK = 1 << 20


class Objects(NamedTuple):
    """The true objects of all images, sorted by group.

    Args:
      boxes: [n, 4], float64.
      labels: the number of each one's class [n].
      groups: a number for each pair of class and image [n], ascending.
      crowd: whether the box is around a crowd, not one object [n].
      areas: in pixels [n].
    """

    boxes: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray


class Guesses(NamedTuple):
    """The detections of all images that count, sorted by group and in it by falling score.

    Args:
      boxes: [m, 4], float64.
      labels: the number of each one's class [m].
      groups: a number for each pair of class and image [m], ascending.
      scores: [m].
      ranks: each one's place in its group [m], from 0.
    """

    boxes: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray


class Pairs(NamedTuple):
    """The pairs of a detection and an object of one group whose IoU reaches the lowest limit.

    Args:
      guesses: the index of each pair's detection [P].
      objects: the index of its object [P].
      ious: how much they overlap [P].
    """

    guesses: np.ndarray
    objects: np.ndarray
    ious: np.ndarray


def join_groups(labels: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The labels of all images as one array [n], and the group of each [n]."""
    images = np.repeat(np.arange(len(labels)), [len(one) for one in labels])
    joined = np.concatenate(labels).astype(np.int64)
    return joined, joined * len(labels) + images


def rank_guesses(
    boxes: np.ndarray, labels: np.ndarray, groups: np.ndarray, scores: np.ndarray
) -> Guesses:
    """Sorts detections by group and falling score, and leaves out those that do not count.

    Of equal scores the earlier detection comes first.
    """
    order = np.lexsort((-scores, groups))
    sorted_groups = groups[order]
    ranks = np.arange(len(order)) - np.searchsorted(sorted_groups, sorted_groups)
    counts = ranks < MAX_DETECTIONS
    order = order[counts]
    return Guesses(boxes[order], labels[order], groups[order], scores[order], ranks[counts])


def measure_areas(boxes: np.ndarray) -> np.ndarray:
    """The areas of boxes [..., 4] as (x1, y1, x2, y2)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def measure_overlaps(guesses: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """The IoU of each box with the object of the same index [n]; 0 where a box is empty.

    For a crowd, which many detections may lie in, it is the share of the detection inside it.

    Args:
      guesses: boxes [n, 4].
      objects: boxes [n, 4].
      crowd: whether each object is a crowd [n].
    """
    low = np.maximum(guesses[:, :2], objects[:, :2])
    high = np.minimum(guesses[:, 2:], objects[:, 2:])
    inside = np.maximum(high - low, 0).prod(axis=1)
    areas = measure_areas(guesses)
    whole = np.where(crowd, areas, areas + measure_areas(objects) - inside)
    return np.divide(inside, whole, out=np.zeros_like(inside), where=inside > 0)


def find_pairs(guesses: Guesses, objects: Objects) -> Pairs:
    """The pairs of one group that overlap enough to match at the lowest of `IOUS`."""
    first = np.searchsorted(objects.groups, guesses.groups, side="left")
    counts = np.searchsorted(objects.groups, guesses.groups, side="right") - first
    found = []
    for part in np.array_split(np.arange(len(counts)), counts.sum() // CHUNK + 1):
        one = np.repeat(part, counts[part])
        begins = np.cumsum(counts[part]) - counts[part]
        other = np.arange(len(one)) + np.repeat(first[part] - begins, counts[part])
        ious = measure_overlaps(guesses.boxes[one], objects.boxes[other], objects.crowd[other])
        near = ious >= IOUS[0]
        found.append((one[near], other[near], ious[near]))
    return Pairs(*map(np.concatenate, zip(*found, strict=True)))


def match(pairs: Pairs, guesses: Guesses, objects: Objects, ignored: np.ndarray) -> np.ndarray:
    """Which object each detection matches at each of `IOUS` [m, 10]; -1 for none.

    A detection takes the object that it overlaps most among those that are not yet taken, an
    ignored one only if there is no other; of equal overlaps the last one. A crowd is never taken.

    Args:
      pairs: what `find_pairs` found.
      guesses, objects: what it found them in.
      ignored: the objects that neither reward nor punish a detection [n].
    """
    ranks = guesses.ranks[pairs.guesses]
    # Each detection's objects from the best to the worst, all detections of one rank together.
    order = np.lexsort((-pairs.objects, -pairs.ious, ignored[pairs.objects], pairs.guesses, ranks))
    guess, candidate, ious = (values[order] for values in pairs)
    enough = ious[:, None] >= IOUS
    matches = np.full((len(guesses.ranks), len(IOUS)), -1)
    taken = np.zeros((len(objects.groups), len(IOUS)), bool)
    steps = np.searchsorted(ranks[order], np.arange(MAX_DETECTIONS + 1))
    for begin, end in itertools.pairwise(steps):
        if begin == end:
            continue
        here, count = slice(begin, end), end - begin
        free = enough[here] & ~taken[candidate[here]]
        starts = np.flatnonzero(np.diff(guess[here], prepend=-1))
        place = np.where(free, np.arange(count)[:, None], count)
        best = np.minimum.reduceat(place, starts, axis=0)  # [detections of this rank, 10]
        chosen = np.append(candidate[here], -1)[best]
        matches[guess[here][starts]] = chosen
        rows, columns = np.nonzero(chosen >= 0)
        matched = chosen[rows, columns]
        taken[matched, columns] = ~objects.crowd[matched]
    return matches
