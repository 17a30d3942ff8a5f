"""A source of weights: where a family's weights come from, and what makes them ours."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from zoo_pretrained.convert.frameworks import TORCH, Framework
from zoo_pretrained.convert.rules import Rules


class Normalization(NamedTuple):
    """How pixels from 0 to 1 become a model's input: (pixel − mean) / std, a channel each.

    Args:
      mean, std: in the order of `channels`.
      channels: "RGB" or "BGR".
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: str = "RGB"


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MINUS_ONE_TO_ONE = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Caffe's models take pixels from 0 to 255, less these means.
CAFFE = Normalization(
    (103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255, 1 / 255, 1 / 255), "BGR"
)

# What models that were trained in TensorFlow need of our constructors.
TENSORFLOW = {"padding": "SAME", "norm_eps": 1e-3}
# The hint for those of timm's models that come from TensorFlow, which have the same layer names as
# timm's own, but another padding and epsilon.
TIMM_TF = 'models whose names begin with "tf_"'


@dataclasses.dataclass(frozen=True)
class Source:
    """One source of a family's weights, such as torchvision.

    Args:
      rules: which of our modules each of the source's modules becomes; see `rules`.
      framework: how it names and lays out arrays.
      arguments: of our constructors, which make the source's architecture: the original
        definition's padding, epsilon and so on.
      normalization: of its images.
      interpolation: by which its images are resized.
      sizes: the input's size, and the shorter side that images are resized to before they are
        cropped, by the model's name, where they are not those the model was designed for.
      crops: whether images are cropped, as usual for classifiers.
      labels: the name of the set of labels that weights with as many classes have.
      hint: which of a library's models these are, where layer names do not tell.
    """

    rules: Rules
    framework: Framework = TORCH
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    normalization: Normalization = IMAGENET
    interpolation: str = "bilinear"
    sizes: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    crops: bool = True
    labels: str = "imagenet1k"
    hint: str = ""

    def preprocessing_of(self, model: str, size: int) -> dict[str, Any]:
        """The preprocessing of a model that was designed for images of `size` pixels."""
        own_size, resize = self.sizes.get(model, (size, None))
        metadata = self.preprocessing(own_size)
        return metadata if resize is None else {**metadata, "resize": resize}

    def preprocessing(self, size: int) -> dict[str, Any]:
        """Metadata of how images become input of `size` pixels; of crops an eighth is left out."""
        return {
            "size": size,
            "resize": round(size / 0.875) if self.crops else size,
            "interpolation": self.interpolation,
            "mean": list(self.normalization.mean),
            "std": list(self.normalization.std),
            "channels": self.normalization.channels,
        }
