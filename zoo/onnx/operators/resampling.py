"""Arrays of other sizes, and values between pixels."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from zoo.onnx.operators.shapes import check_size
from zoo.onnx.registry import Call, Value, numeric, operator

# The coefficient of a cubic's shape that is usual.
CUBIC = -0.75


@operator("Upsample")
def upsample_by_attributes(call: Call, x: Value) -> Value:
    """An array in another size."""
    scales = call.get("scales") or [1, 1, call.get("height_scale"), call.get("width_scale")]
    return upsample(call, x, np.asarray(scales))


@operator("Upsample", since=9, known=(1,))
def upsample(call: Call, x: Value, scales: Value) -> Value:
    """An array in another size."""
    size = [math.floor(n * scale) for n, scale in zip(x.shape, scales, strict=True)]
    mode = call.text("mode", "nearest")
    return _Resampling(mode, "asymmetric", "floor").resize(x, range(x.ndim), size, scales)


@operator("Resize", known=(1,))
def resize_by_scales(call: Call, x: Value, scales: Value) -> Value:
    """An array in another size, as of version 10."""
    return upsample(call, x, scales)


@operator("Resize", since=11, known=(1, 2, 3))
def resize(
    call: Call, x: Value, roi: Value = None, scales: Value = None, sizes: Value = None
) -> Value:
    """An array in another size, or of one side another part."""
    axes = [axis % x.ndim for axis in call.get("axes", list(range(x.ndim)))]
    lengths = [x.shape[axis] for axis in axes]
    if sizes is not None and sizes.size:
        size = [int(n) for n in sizes]
        ratios = [n / length for n, length in zip(size, lengths, strict=True)]
        policy = call.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [ratio] * len(axes)
            size = [math.floor(ratio * length + 0.5) for length in lengths]
    elif scales is not None and scales.size:
        ratios = [float(ratio) for ratio in scales]
        # The product is one of float32, as the scales are.
        size = [math.floor(n * ratio) for n, ratio in zip(lengths, scales, strict=True)]
    else:
        raise ValueError("it needs scales or sizes")
    transformation = call.text("coordinate_transformation_mode", "half_pixel")
    resampling = _Resampling(
        call.text("mode", "nearest"),
        transformation,
        call.text("nearest_mode", "round_prefer_floor"),
        call.get("cubic_coeff_a", CUBIC),
        bool(call.get("antialias", 0)),
        bool(call.get("exclude_outside", 0)),
        call.get("extrapolation_value", 0.0) if transformation == "tf_crop_and_resize" else None,
    )
    parts = None
    if transformation == "tf_crop_and_resize":
        flat = [float(value) for value in roi]
        parts = list(zip(flat[: len(axes)], flat[len(axes) :], strict=True))
    return resampling.resize(x, axes, size, ratios, parts)


class _Resampling:
    """How values between those of an array are computed.

    Args:
      mode: "nearest", "linear" or "cubic".
      transformation: where the pixels of the result lie in the array.
      nearest: how positions are rounded.
      cubic: the coefficient of the cubic's shape.
      antialias: takes wider filters where the result is smaller.
      exclude_outside: weights outside of the array are 0, and others share them.
      extrapolation: the value outside of the array; None repeats its border.
    """

    def __init__(
        self,
        mode: str,
        transformation: str,
        nearest: str,
        cubic: float = CUBIC,
        antialias: bool = False,
        exclude_outside: bool = False,
        extrapolation: float | None = None,
    ) -> None:
        self.mode, self.transformation, self.nearest = mode, transformation, nearest
        self.cubic, self.antialias = cubic, antialias
        self.exclude_outside, self.extrapolation = exclude_outside, extrapolation

    def resize(
        self,
        x: Value,
        axes: Sequence[int],
        size: Sequence[int],
        ratios: Sequence[float],
        parts: Sequence[tuple[float, float]] | None = None,
    ) -> jax.Array:
        """An array in another size along axes."""
        dtype = x.dtype
        exact = self.mode == "nearest"
        wide = dtype if exact else jnp.promote_types(dtype, jnp.float32)
        y = jnp.asarray(x).astype(jax.dtypes.canonicalize_dtype(wide))
        check_size([*size])
        outside = []
        for number, (axis, length) in enumerate(zip(axes, size, strict=True)):
            part = (0.0, 1.0) if parts is None else parts[number]
            at = self._find_positions(x.shape[axis], length, float(ratios[number]), part)
            outside.append((axis, (at < 0) | (at > x.shape[axis] - 1)))
            same = length == x.shape[axis] and np.array_equal(at, np.arange(length))
            if not same:
                y = self._resize_axis(y, axis, at, float(ratios[number]))
        if self.extrapolation is not None:
            for axis, where in outside:
                shape = [1] * y.ndim
                shape[axis] = -1
                y = jnp.where(where.reshape(shape), np.asarray(self.extrapolation, y.dtype), y)
        if np.issubdtype(dtype, np.integer) and not exact:
            limits = np.iinfo(dtype)
            y = jnp.clip(jnp.round(y), limits.min, limits.max)
        return y.astype(jax.dtypes.canonicalize_dtype(dtype))

    def _find_positions(
        self, length: int, wanted: int, ratio: float, part: tuple[float, float]
    ) -> np.ndarray:
        """Where pixels of the result lie along an axis of the array."""
        at = np.arange(wanted, dtype=np.float64)
        match self.transformation:
            case "half_pixel":
                return (at + 0.5) / ratio - 0.5
            case "half_pixel_symmetric":
                shift = length / 2 * (1 - wanted / (ratio * length))
                return shift + (at + 0.5) / ratio - 0.5
            case "pytorch_half_pixel":
                return (at + 0.5) / ratio - 0.5 if wanted > 1 else np.zeros(1)
            case "align_corners":
                last = ratio * length - 1  # the result's, which may lie between pixels
                return at * (length - 1) / last if last > 0 else np.zeros(wanted)
            case "asymmetric":
                return at / ratio
            case "tf_half_pixel_for_nn":
                return (at + 0.5) / ratio
            case "tf_crop_and_resize":
                low, high = part
                if wanted == 1:
                    return np.array([0.5 * (low + high) * (length - 1)])
                return low * (length - 1) + at * (high - low) * (length - 1) / (wanted - 1)
        raise NotImplementedError(f"coordinate_transformation_mode {self.transformation!r}")

    def _resize_axis(self, x: jax.Array, axis: int, at: np.ndarray, ratio: float) -> jax.Array:
        length = x.shape[axis]
        if self.mode == "nearest":
            return jnp.take(x, np.clip(self._round(at), 0, length - 1), axis)
        shrink = min(ratio, 1.0) if self.antialias else 1.0
        radius = (1 if self.mode == "linear" else 2) / shrink
        first = np.floor(at - radius).astype(int) + 1
        places = first[:, None] + np.arange(math.ceil(2 * radius))
        weights = self._filter((places - at[:, None]) * shrink)
        if self.exclude_outside:
            weights = np.where((places >= 0) & (places < length), weights, 0)
        weights = weights / weights.sum(1, keepdims=True)
        places = np.clip(places, 0, length - 1)
        shape = [1] * x.ndim
        shape[axis] = -1
        return sum(
            (
                jnp.take(x, places[:, tap], axis) * weights[:, tap].reshape(shape).astype(x.dtype)
                for tap in range(places.shape[1])
            ),
            jnp.zeros((), x.dtype),
        )

    def _round(self, at: np.ndarray) -> np.ndarray:
        match self.nearest:
            case "round_prefer_floor":
                return np.ceil(at - 0.5).astype(int)
            case "round_prefer_ceil":
                return np.floor(at + 0.5).astype(int)
            case "floor":
                return np.floor(at).astype(int)
            case "ceil":
                return np.ceil(at).astype(int)
        raise NotImplementedError(f"nearest_mode {self.nearest!r}")

    def _filter(self, distance: np.ndarray) -> np.ndarray:
        """The weights of values at distances in pixels."""
        d = np.abs(distance)
        if self.mode == "linear":
            return np.maximum(0, 1 - d)
        if self.mode != "cubic":
            raise NotImplementedError(f"mode {self.mode!r}")
        weights: np.ndarray = weigh_cubic(d, self.cubic)
        return weights


def weigh_cubic(distance: Value, a: float) -> Value:
    """The weights of values at distances that are not negative, in a cubic convolution.

    Keys 1981, "Cubic convolution interpolation for digital image processing".
    """
    d, m = distance, numeric(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return m.where(d <= 1, near, m.where(d < 2, far, 0))


@operator("AffineGrid", known=(1,))
def make_affine_grid(call: Call, theta: Value, size: Value) -> Value:
    """Where affine maps [N, d, d + 1] take the pixels of an image, from −1 to 1."""
    sides = check_size(size)[2:]
    corners = call.get("align_corners", 0)
    steps = [np.linspace(-1, 1, n) if corners else (2 * np.arange(n) + 1) / n - 1 for n in sides]
    grid = np.stack([*np.meshgrid(*steps, indexing="ij")[::-1], np.ones(sides)], -1)
    return jnp.einsum("...k,ndk->n...d", grid.astype(theta.dtype), theta)


@operator("GridSample")
def sample_grid(call: Call, x: Value, grid: Value) -> Value:
    """Values of [N, C, …] at positions [N, …, d] from −1 to 1, the last axis first."""
    x, grid = jnp.asarray(x), jnp.asarray(grid)
    mode = call.text("mode", "linear")
    order = {"nearest": 0, "linear": 1, "bilinear": 1, "cubic": 3, "bicubic": 3}[mode]
    padding = call.text("padding_mode", "zeros")
    corners = bool(call.get("align_corners", 0))
    sides = np.array(x.shape[2:])
    at = jnp.flip(grid, -1)
    at = (at + 1) / 2 * (sides - 1) if corners else ((at + 1) * sides - 1) / 2
    positions = [at[..., axis] for axis in range(len(sides))]
    taps = [_find_taps(p, order) for p in positions]

    def sample(image: jax.Array, taps: list[tuple[jax.Array, jax.Array]]) -> jax.Array:
        total = jnp.zeros((), image.dtype)
        counts = [weights.shape[-1] for _, weights in taps]
        for numbers in np.ndindex(*counts):
            weight, index = jnp.ones((), image.dtype), []
            for (places, weights), number, length in zip(
                taps, numbers, image.shape[1:], strict=True
            ):
                place, inside = _fold(places[..., number], length, padding, corners)
                weight = weight * weights[..., number] * inside
                index.append(place)
            total = total + weight * image[(slice(None), *index)]
        return total

    if padding != "zeros" and order < 3:  # these fold the position, and not each tap's
        folded = [
            _fold_position(p, int(n), padding, corners)
            for p, n in zip(positions, sides, strict=True)
        ]
        taps = [_find_taps(p, order) for p in folded]
    return jax.vmap(sample)(x, taps)


def _find_taps(at: jax.Array, order: int) -> tuple[jax.Array, jax.Array]:
    """Positions of the values around one, and their weights, in a new last axis."""
    if order == 0:
        return jnp.round(at).astype(jnp.int32)[..., None], jnp.ones((*at.shape, 1), at.dtype)
    first = jnp.floor(at)
    t = (at - first)[..., None]
    first = first.astype(jnp.int32)[..., None]
    if order == 1:
        return first + np.arange(2), jnp.concatenate([1 - t, t], -1)
    return first + np.arange(-1, 3), weigh_cubic(jnp.abs(t - np.arange(-1, 3)), CUBIC)


def _fold(
    place: jax.Array, length: int, padding: str, corners: bool
) -> tuple[jax.Array, jax.Array]:
    """Places inside of an axis, and whether they count."""
    inside = (place >= 0) & (place < length)
    if padding == "zeros":
        return jnp.clip(place, 0, length - 1), inside
    folded = _fold_position(place.astype(jnp.float32), length, padding, corners)
    return jnp.round(folded).astype(jnp.int32), jnp.ones_like(inside)


def _fold_position(at: jax.Array, length: int, padding: str, corners: bool) -> jax.Array:
    """Positions inside of an axis: those of its border, or mirrored at it."""
    if padding == "reflection":
        low, high = (0.0, length - 1.0) if corners else (-0.5, length - 0.5)
        span = high - low
        if span == 0:
            return jnp.zeros_like(at)
        at = jnp.mod(at - low, 2 * span)
        at = jnp.minimum(at, 2 * span - at) + low
    return jnp.clip(at, 0, length - 1)


@operator("RoiAlign")
def align_regions(call: Call, x: Value, boxes: Value, images: Value) -> Value:
    """The means or maxima of cells of boxes [K, 4] in feature maps [N, C, H, W]."""
    rows, columns = call.get("output_height", 1), call.get("output_width", 1)
    ratio, scale = call.get("sampling_ratio", 0), call.get("spatial_scale", 1.0)
    default = "output_half_pixel" if call.version < 16 else "half_pixel"
    half = 0.5 if call.text("coordinate_transformation_mode", default) == "half_pixel" else 0.0
    x, boxes = jnp.asarray(x), np.asarray(boxes) if isinstance(boxes, np.ndarray) else boxes
    if ratio <= 0 and not isinstance(boxes, np.ndarray):
        raise NotImplementedError("without sampling_ratio its boxes must be known")
    pooled = []
    for number in range(boxes.shape[0]):
        left, top, right, bottom = (boxes[number, i] * scale - half for i in range(4))
        width, height = right - left, bottom - top
        if not half:
            m = np if isinstance(boxes, np.ndarray) else jnp
            width, height = m.maximum(width, 1.0), m.maximum(height, 1.0)
        cell = height / rows, width / columns
        counts = [ratio, ratio] if ratio > 0 else [max(1, math.ceil(side)) for side in cell]
        y = top + cell[0] * (np.arange(rows * counts[0]) + 0.5) / counts[0]
        z = left + cell[1] * (np.arange(columns * counts[1]) + 0.5) / counts[1]
        values = _sample_lines(x[images[number]], jnp.asarray(y), jnp.asarray(z))
        if call.text("mode", "avg") == "avg":
            values = values.sum(0)
            cells = values.reshape(-1, rows, counts[0], columns, counts[1])
            pooled.append(cells.mean((2, 4)))
        else:
            cells = values.max(0).reshape(-1, rows, counts[0], columns, counts[1])
            pooled.append(cells.max((2, 4)))
    shape = (0, x.shape[1], rows, columns)
    return jnp.stack(pooled) if pooled else jnp.zeros(shape, x.dtype)


def _sample_lines(image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """The four weighted neighbours of each crossing of lines, [4, C, H, W]."""
    parts = []
    for at, length in ((y, image.shape[1]), (x, image.shape[2])):
        inside = (at >= -1) & (at <= length)
        clipped = jnp.clip(at, 0, length - 1)
        low = jnp.floor(clipped).astype(jnp.int32)
        t = clipped - low
        high = jnp.minimum(low + 1, length - 1)
        parts.append([(low, (1 - t) * inside), (high, t * inside)])
    neighbours = [
        image[:, rows[:, None], columns] * weight[:, None] * other
        for rows, weight in parts[0]
        for columns, other in parts[1]
    ]
    return jnp.stack(neighbours)
