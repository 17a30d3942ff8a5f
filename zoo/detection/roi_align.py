"""RoIAlign: the features inside boxes of any size, as maps of one size.

He et al. 2017, "Mask R-CNN", arXiv 1703.06870, section 3. A box is divided into bins; a bin's value
is the mean of the features at points inside it, each interpolated between four pixels.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from zoo.detection.boxes import box_area
from zoo.detection.regions import Grid, Regions, pool
from zoo.runtime.checks import ArgumentError, check_count, check_number

# Where a box is pooled from, of the square root of its area (Lin et al. 2017, arXiv 1612.03144,
# equation 1): boxes of an ImageNet photo's size from the map of stride 2 ** 4.
CANONICAL_SIZE, CANONICAL_LEVEL, LEVEL_EPS = 224, 4, 1e-6


def roi_align(
    features: jax.Array,
    boxes: jax.Array,
    batch_indices: jax.Array | None = None,
    *,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = False,
) -> jax.Array:
    """The features inside boxes, equal to torchvision's `roi_align`.

    It has a gradient for the features, and none for the boxes. Points that are more than a pixel
    outside the map count as 0, as do boxes that are NaN.

    Args:
      features: [H, W, C] or [N, H, W, C].
      boxes: (x1, y1, x2, y2) in pixels of the image, [R, 4].
      batch_indices: which of the N maps each box is of, integers [R] from 0 to N - 1, to which they
        are clipped; None for the first one.
      output_size: the numbers of bins down and across; an integer is both.
      spatial_scale: of the features, relative to the image, such as 1 / 16.
      sampling_ratio: the number of points in a bin, down as well as across. 0: as many as a bin has
        pixels of the map, rounded up, for each box; the time is then that of the largest box.
      aligned: whether the centre of the first pixel is at 0.5, as in Detectron2. Otherwise it is at
        0, as in the paper's own code, and boxes are at least one pixel of the map wide and high.

    Returns:
      [R, bins down, bins across, C], of the features' type.
    """
    if features.ndim == 3:
        features = features[None]
    if features.ndim != 4 or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ArgumentError(
            f"features must be [H, W, C] or [N, H, W, C] and boxes [R, 4], got {features.shape} "
            f"and {boxes.shape}"
        )
    check_number("spatial_scale", spatial_scale, included=False)
    count = len(boxes)
    if batch_indices is None:
        batch_indices = jnp.zeros(count, jnp.int32)
    if batch_indices.shape != (count,):
        raise ArgumentError(f"batch_indices must be [R] = ({count},), got {batch_indices.shape}")
    batch, height, width, _ = features.shape
    regions = Regions(
        boxes=boxes * spatial_scale - (0.5 if aligned else 0),
        heights=jnp.full(count, height),
        widths=jnp.full(count, width),
        offsets=jnp.clip(batch_indices, 0, batch - 1).astype(jnp.int32) * (height * width),
    )
    table = jnp.asarray(features).reshape(-1, features.shape[-1])
    grid = _make_grid(output_size, sampling_ratio, aligned, len(table))
    return pool(grid, table, regions)


def multiscale_roi_align(
    features: Sequence[jax.Array],
    boxes: jax.Array,
    image_size: tuple[int, int],
    *,
    output_size: int | tuple[int, int],
    sampling_ratio: int = 0,
) -> jax.Array:
    """The features inside boxes, each from the level of a pyramid that fits its size.

    Equal to torchvision's `MultiScaleRoIAlign`: the scale of a level is the power of 2 nearest to
    the ratio of its height to the image's, and a box of area 224² is pooled from the level of
    stride 16.

    Args:
      features: of each level, [N, H, W, C] with one C, the finest first.
      boxes: in pixels of the image, [N, R, 4].
      image_size: height and width of the image that the features are of.
      output_size, sampling_ratio: see `roi_align`.

    Returns:
      [N, R, bins down, bins across, C].
    """
    first = features[0]
    batch, channels = first.shape[0], first.shape[-1]
    if boxes.ndim != 3 or boxes.shape[0] != batch or boxes.shape[2] != 4:
        raise ArgumentError(f"boxes must be [N, R, 4] with N = {batch}, got {boxes.shape}")
    sizes = np.array([level.shape[1:3] for level in features])
    strides = np.array([round(math.log2(image_size[0] / height)) for height in sizes[:, 0]])
    wanted = CANONICAL_LEVEL + jnp.log2(jnp.sqrt(box_area(boxes)) / CANONICAL_SIZE) + LEVEL_EPS
    wanted = jnp.clip(jnp.floor(wanted), strides[0], strides[-1])
    level = jnp.nan_to_num(wanted - strides[0]).astype(jnp.int32).reshape(-1)
    pixels = sizes.prod(axis=1)
    starts = batch * np.concatenate(([0], np.cumsum(pixels[:-1])))  # of levels in the table
    image = jnp.repeat(jnp.arange(batch), boxes.shape[1])
    scales = jnp.asarray(2.0**-strides, boxes.dtype)[level]
    regions = Regions(
        boxes=boxes.reshape(-1, 4) * scales[:, None],
        heights=jnp.asarray(sizes[:, 0])[level],
        widths=jnp.asarray(sizes[:, 1])[level],
        offsets=jnp.asarray(starts)[level] + image * jnp.asarray(pixels)[level],
    )
    table = jnp.concatenate([level.reshape(-1, channels) for level in features])
    grid = _make_grid(output_size, sampling_ratio, False, len(table))
    pooled = pool(grid, table, regions)
    return pooled.reshape(*boxes.shape[:2], *pooled.shape[1:])


def _make_grid(output_size: int | tuple[int, int], points: int, aligned: bool, rows: int) -> Grid:
    down, across = (output_size, output_size) if isinstance(output_size, int) else output_size
    return Grid(
        check_count("output_size", down),
        check_count("output_size", across),
        check_count("sampling_ratio", points, 0),
        aligned,
        rows,
    )
