"""Elements by their positions: gathering, scattering, sorting, selecting."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.onnx.operators.shapes import check_size, to_ints
from zoo.onnx.registry import EVERY, Call, Value, numeric, operator


@operator("Gather")
def gather(call: Call, x: Value, indices: Value) -> Value:
    """Slices along an axis, by their numbers."""
    axis, m = call.get("axis", 0), numeric(x, indices)
    return m.take(x, _wrap(indices, x.shape[axis]), axis)


@operator("GatherElements")
def gather_elements(call: Call, x: Value, indices: Value) -> Value:
    """Elements whose place along one axis is given."""
    axis = call.get("axis", 0)
    m = numeric(x, indices)
    return m.take_along_axis(m.asarray(x), m.asarray(_wrap(indices, x.shape[axis])), axis)


@operator("GatherND")
def gather_nd(call: Call, x: Value, indices: Value) -> Value:
    """Slices whose places along the first axes are given."""
    batch = call.get("batch_dims", 0)

    def pick(x: jax.Array, indices: jax.Array) -> jax.Array:
        return x[tuple(jnp.moveaxis(indices, -1, 0))]

    for _ in range(batch):
        pick = jax.vmap(pick)
    return pick(jnp.asarray(x), jnp.asarray(indices))


@operator("ScatterElements", "Scatter")
def scatter_elements(call: Call, x: Value, indices: Value, updates: Value) -> Value:
    """An array with other elements at places along one axis."""
    axis = call.get("axis", 0)
    places = list(np.indices(indices.shape, sparse=True))
    places[axis] = _wrap(indices, x.shape[axis])
    return _update(call, x, tuple(places), updates)


@operator("ScatterND")
def scatter_nd(call: Call, x: Value, indices: Value, updates: Value) -> Value:
    """An array with other slices at places along the first axes."""
    return _update(call, x, tuple(jnp.moveaxis(jnp.asarray(indices), -1, 0)), updates)


def _update(call: Call, x: Value, places: tuple[Any, ...], updates: Value) -> jax.Array:
    target = jnp.asarray(x).at[places]
    match call.text("reduction", "none"):
        case "add":
            return target.add(updates)
        case "mul":
            return target.multiply(updates)
        case "max":
            return target.max(updates)
        case "min":
            return target.min(updates)
        case _:
            return target.set(updates)


@operator("OneHot", known=(1,))
def one_hot(call: Call, indices: Value, depth: Value, values: Value) -> Value:
    """One of two values where the place is an index, the other elsewhere."""
    count, axis = check_size(depth)[0], call.get("axis", -1)
    axis = axis % (indices.ndim + 1)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = count
    places = jnp.arange(count).reshape(shape)
    wrapped = jnp.expand_dims(jnp.mod(jnp.asarray(indices).astype(jnp.int32), count), axis)
    outside = jnp.expand_dims((indices < -count) | (indices >= count), axis)
    return jnp.where((places == wrapped) & ~outside, values[1], values[0])


@operator("TopK")
def top_k_by_attribute(call: Call, x: Value) -> Value:
    """The largest elements along an axis, and where they are."""
    return top_k(call, x, np.asarray(call.get("k")))


@operator("TopK", since=10, known=(1,))
def top_k(call: Call, x: Value, k: Value) -> Value:
    """The largest or smallest elements along an axis, and where they are; the first of equals."""
    axis, count = call.get("axis", -1), to_ints(k)[0]
    x = jnp.asarray(x)
    if call.get("largest", 1):
        # From the end on, so that a stable sort of equals gives the first ones.
        order = x.shape[axis] - 1 - jnp.flip(jnp.argsort(jnp.flip(x, axis), axis), axis)
    else:
        order = jnp.argsort(x, axis)
    order = jax.lax.slice_in_dim(order, 0, count, axis=axis % x.ndim)
    return jnp.take_along_axis(x, order, axis), order


@operator("NonZero", known=(0,))
def find_non_zero(call: Call, x: Value) -> Value:
    """The places of elements that are not 0, an axis a row."""
    return np.array(np.nonzero(x), np.int64).reshape(x.ndim, -1)


@operator("Compress", known=(1,))
def compress(call: Call, x: Value, condition: Value) -> Value:
    """Slices where a condition holds."""
    axis = call.get("axis")
    if axis is None:
        x, axis = numeric(x).reshape(x, -1), 0
    return numeric(x).take(x, np.nonzero(condition)[0], axis)


@operator("Unique", known=EVERY)
def unique(call: Call, x: Value) -> Value:
    """Different elements; where each is first, where each input's is, and how often it is."""
    axis = call.get("axis")
    values, first, inverse, counts = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    inverse = inverse.reshape(-1)
    if not call.get("sorted", 1):
        order = np.argsort(first)
        rank = np.argsort(order)
        values = np.take(values, order, 0 if axis is None else axis)
        first, counts, inverse = first[order], counts[order], rank[inverse]
    return values, *(each.astype(np.int64) for each in (first, inverse, counts))


@operator("NonMaxSuppression", known=EVERY)
def suppress_non_maxima(
    call: Call,
    boxes: Value,
    scores: Value,
    most: Value = None,
    overlap: Value = None,
    least: Value = None,
) -> Value:
    """The best boxes of each class that do not overlap a better one: [(image, class, box)]."""
    limit = 0 if most is None else int(most.reshape(()))
    threshold = 0.0 if overlap is None else float(overlap.reshape(()))
    corners = _to_corners(boxes, bool(call.get("center_point_box", 0)))
    areas = np.prod(corners[..., 2:] - corners[..., :2], -1)
    kept: list[tuple[int, int, int]] = []
    for image, of_image in enumerate(scores):
        for class_, of_class in enumerate(of_image):
            order = np.argsort(-of_class, kind="stable")
            if least is not None:
                order = order[of_class[order] > least.reshape(())]
            found: list[int] = []
            for box in order:
                if len(found) == limit:
                    break
                a, b = corners[image, box], corners[image, found]
                sides = np.minimum(a[2:], b[:, 2:]) - np.maximum(a[:2], b[:, :2])
                common = np.prod(np.maximum(sides, 0), -1)
                union = areas[image, box] + areas[image, found] - common
                if not np.any(common > threshold * union):
                    found.append(int(box))
            kept += [(image, class_, box) for box in found]
    return np.array(kept, np.int64).reshape(-1, 3)


def _to_corners(boxes: np.ndarray, centered: bool) -> np.ndarray:
    """[…, 4] → the smaller, then the larger corner."""
    if centered:
        center, half = boxes[..., :2], boxes[..., 2:] / 2
        return np.concatenate([center - half, center + half], -1)
    a, b = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([np.minimum(a, b), np.maximum(a, b)], -1)


def _wrap(indices: Value, length: int) -> Value:
    """Indices that may count from the end, as ones from the beginning."""
    m = numeric(indices)
    if m is np:
        return np.where(indices < 0, indices + length, indices)
    return jnp.where(indices < 0, indices + length, indices)
