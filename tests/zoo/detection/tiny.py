"""A detector that compiles in seconds: two maps of a backbone of five convolutions."""

import contextlib
from typing import ClassVar

import flax.linen as nn

from zoo.detection.models.ssdlite import SSDLite
from zoo.models.base import DETECTORS, MODELS, Model, register
from zoo.models.layers import ConvNorm


class TinyBackbone(Model):
    """A convolution for each stride from 2 to 32."""

    input_conv: ClassVar[str] = "stage1/conv"

    @nn.compact
    def __call__(self, x, train=False):
        """[N, H, W, C] → [N, num_classes]."""
        for number, features in enumerate((8, 12, 16, 24, 32), start=1):
            layer = ConvNorm(features, 3, 2, options=self.layer_options, name=f"stage{number}")
            x = layer(x, train)
        return self.logits(x, train)


class TinyDetector(SSDLite, kw_only=True):
    """SSDLite without extra maps."""

    input_conv: ClassVar[str] = "backbone/stage1/conv"
    ratios: ClassVar[tuple] = ((2.0,), (2.0,))
    scales: ClassVar[tuple] = (0.3, 0.5, 0.8)

    backbone: str = "TinyBackbone"
    norm_momentum: float = 0.5
    candidates: int = 50

    @nn.nowrap
    def make_maps(self, x, train):
        """The backbone's maps of strides 16 and 32."""
        return list(self.make_backbone((16, 32))(x, train).values())


@contextlib.contextmanager
def registered():
    """Has both in the tables of models."""
    register(64)(TinyBackbone)
    register(64, DETECTORS)(TinyDetector)
    yield
    del MODELS["TinyBackbone"], DETECTORS["TinyDetector"]
