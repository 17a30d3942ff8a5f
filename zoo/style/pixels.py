"""Photos as arrays in their own aspect."""

import numpy as np
from PIL import Image

from zoo.inference.images import ImageError, ImageSource, load_image

# A square picture of it takes 800 MB.
MAX_SIDE = 1 << 14


def load_pixels(
    source: ImageSource, size: int | None = None, *, shorter: bool = False
) -> np.ndarray:
    """An image of any kind, [H, W, 3] in RGB, uint8.

    Args:
      source: the image.
      size: of its longer side, to which it is resized, in pixels; None keeps the size.
      shorter: means the shorter side instead.

    Raises:
      ImageError: it is no image, or would have a side of more than 16,384 pixels.
    """
    image = load_image(source)
    if size is not None:
        factor = size / (min(image.size) if shorter else max(image.size))
        width, height = (max(1, round(side * factor)) for side in image.size)
        if max(width, height) > MAX_SIDE:
            raise ImageError(
                f"an image of {image.width}x{image.height} pixels would become {width}x{height}; "
                f"at most {MAX_SIDE} a side are possible"
            )
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)
