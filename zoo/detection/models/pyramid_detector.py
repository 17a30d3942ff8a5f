"""What detectors of one stage on a feature pyramid share."""

import flax.linen as nn
import jax

from zoo.detection.models.candidates import find_detections
from zoo.detection.models.detector import Detector, DetectorOptions, HeadOutputs, Predictions
from zoo.detection.models.pyramid import FeaturePyramid, Tower

STRIDES = (8, 16, 32)  # of the maps that are read; the pyramid adds 64 and 128
CHANNELS, DEPTH = 256, 4
# The first probability of an object is 0.01: nearly all anchors are background.
PRIOR_LOGIT = -4.59511985013459


class PyramidDetector(Detector, kw_only=True):
    """A detector of one stage: two towers of convolutions on a feature pyramid.

    Args:
      candidates: how many of each map's likeliest boxes are looked at.
    """

    candidates: int = 1000

    @nn.nowrap
    def apply_towers(
        self, x: jax.Array, train: bool, *, extra: str, group_norm: bool, use_bias: bool
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """Images → what the heads for the classes and for the boxes read.

        Args:
          x: the images [N, H, W, C].
          train: as of every model.
          extra: of the pyramid.
          group_norm, use_bias: of the towers.
        """
        options = self.layer_options
        maps = self.make_backbone(STRIDES)(x, train)
        pyramid = FeaturePyramid(CHANNELS, extra, False, options, name="pyramid")
        levels = pyramid(list(maps.values()), train)
        by_class, by_box = (
            Tower(DEPTH, group_norm, use_bias, options, name=f"{name}_tower")(levels)
            for name in ("class", "box")
        )
        return by_class, by_box

    @nn.nowrap
    def anchors(self, outputs: HeadOutputs) -> tuple[jax.Array, ...]:
        """The anchors of each map, [H · W · anchors, 4]."""
        raise NotImplementedError

    @nn.nowrap
    def decode(self, deltas: jax.Array, anchors: jax.Array) -> jax.Array:
        """The boxes that the heads mean, [A, 4]."""
        raise NotImplementedError

    @nn.nowrap
    def predict(self, outputs: HeadOutputs, sizes: jax.Array) -> Predictions:
        """The objects in a batch; see `Detector.predict`."""
        return find_detections(
            outputs,
            sizes,
            self.anchors(outputs),
            self.decode,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            max_detections=self.max_detections,
            candidates=self.candidates,
        )


class PyramidDetectorOptions(DetectorOptions, total=False):
    """Arguments of the constructors; see `PyramidDetector`."""

    candidates: int
