"""What is timed, and the pictures whose losses are compared."""

from typing import NamedTuple

ZOO, TORCH = "ours", "torch"
PAINT, STEP = "paint", "training step"
# A photo as it is, the picture of a network, and one that L-BFGS finds from the photo.
PICTURES = UNPAINTED, NETWORK, OPTIMIZED = "unpainted", "network", "optimized"


class Case(NamedTuple):
    """A workload.

    Args:
      work: PAINT or STEP.
      width: of the network.
      size: of the photos, in pixels.
      batch: the number of photos.
    """

    work: str
    width: float
    size: int
    batch: int

    @property
    def name(self) -> str:
        """As it is printed and selected."""
        return f"{self.work}, width {self.width:g}, {self.batch} x {self.size}²"


CASES = [Case(PAINT, width, size, 1) for width in (0.5, 1.0) for size in (256, 512, 1024)]
CASES += [Case(STEP, 0.5, 128, 4), Case(STEP, 0.5, 256, 4), Case(STEP, 1.0, 256, 4)]
