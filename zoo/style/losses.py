"""The loss that a picture in a style is judged by: content, style and total variation.

Gatys, Ecker and Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks"; Johnson,
Alahi and Fei-Fei 2016, arXiv 1603.08155.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.models.vgg import VGG
from zoo.runtime.checks import ArgumentError
from zoo.surgery.features import backbone, features

# Of the feature maps that are taken by default, of other networks than VGG.
CONTENT_STRIDE, MAX_STYLE_STRIDE = 8, 16

Maps = Mapping[str, jax.Array]
Grams = dict[str, jax.Array]
Losses = dict[str, jax.Array]


def gram_matrix(maps: jax.Array) -> jax.Array:
    """The mean products of all pairs of channels, [N, H, W, C] → [N, C, C].

    They are divided by the number of an image's values, H · W · C (Johnson et al., equation 3).
    """
    n, height, width, channels = maps.shape
    flat = maps.reshape(n, height * width, channels)
    return jnp.einsum("npc,npd->ncd", flat, flat) / (height * width * channels)


def total_variation(images: jax.Array) -> jax.Array:
    """The mean square of the differences of neighbouring pixels, down and to the right, added.

    Args:
      images: [N, H, W, C].
    """
    down, right = jnp.diff(images, axis=1), jnp.diff(images, axis=2)
    return jnp.square(down).mean() + jnp.square(right).mean()


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """What each part of the loss counts.

    Args:
      content: of the content, see `StyleLoss`.
      style: of the style.
      total_variation: of `total_variation`, for pictures where black is 0 and white is 1.
    """

    content: float = 1.0
    style: float = 5.0
    total_variation: float = 0.5


@dataclasses.dataclass(frozen=True)
class StyleLoss:
    """The perceptual loss of a network that sees: how far pictures are from content and style.

    Both distances are relative, so that one set of weights suits all networks: 0 is equal, and 1 is
    as far away as features of 0 would be.

    * content: the squared distance of the features to the photos', over the photos' squared length,
      of all photos together: a photo with little in it counts little, and gets its style too;
    * style: for each layer, the squared distance of the Gram matrices to the style's, over the
      squared length of the style's; the mean over layers.

    Args:
      model: the definition of the network.
      preprocessing: of the network.
      content_layers, style_layers: paths of modules.
      weights: of the parts.
    """

    model: Model
    preprocessing: Preprocessing
    content_layers: tuple[str, ...]
    style_layers: tuple[str, ...]
    weights: LossWeights = LossWeights()

    def maps(self, variables: Any, images: jax.Array, layers: Sequence[str]) -> Maps:
        """The outputs of layers for images [N, H, W, 3] in RGB, where black is 0 and white is 1."""
        x = self.preprocessing.normalize(images * 255)
        return features((self.model, variables), x, list(layers))

    def grams(self, variables: Any, images: jax.Array) -> Grams:
        """The Gram matrices of the style layers, {layer: [N, C, C]}."""
        maps = self.maps(variables, images, self.style_layers)
        return {layer: gram_matrix(maps[layer]) for layer in self.style_layers}

    def __call__(
        self, variables: Any, pictures: jax.Array, content: Maps, grams: Grams
    ) -> tuple[jax.Array, Losses]:
        """The total loss, and its parts by name, as means over pictures.

        Args:
          variables: of the network.
          pictures: [N, H, W, 3].
          content: the outputs of the content layers for the photos.
          grams: of the wanted styles, {layer: [N, C, C]}.
        """
        layers = dict.fromkeys((*self.content_layers, *self.style_layers))
        maps = self.maps(variables, pictures, [*layers])
        content_losses = [
            relative_distance(maps[layer][None], content[layer][None])
            for layer in self.content_layers
        ]
        style_losses = [
            relative_distance(gram_matrix(maps[layer]), grams[layer]) for layer in self.style_layers
        ]
        parts = {
            "content": sum(content_losses, jnp.zeros(())) / len(content_losses),
            "style": sum(style_losses, jnp.zeros(())) / len(style_losses),
            "total_variation": total_variation(pictures),
        }
        total = sum(getattr(self.weights, name) * value for name, value in parts.items())
        return jnp.asarray(total), parts


def relative_distance(x: jax.Array, reference: jax.Array) -> jax.Array:
    """The mean over images [N, …] of their squared distance over the reference's squared length."""
    axes = tuple(range(1, x.ndim))
    squares = jnp.square(x - reference).sum(axes)
    return (squares / (jnp.square(reference).sum(axes) + 1e-12)).mean()


def make_style_loss(
    trained: Trained,
    weights: LossWeights,
    content_layers: str | Iterable[str] | None = None,
    style_layers: str | Iterable[str] | None = None,
) -> StyleLoss:
    """The loss of a trained network, with the usual layers where none are given.

    By default the content is taken at the end of VGG's third stage, and the style at the ends of
    its first four; of other networks at stride 8, and in the stem and at strides 4 to 16.

    Raises:
      ArgumentError: the network has no such layer, or takes no photos.
    """
    if trained.info.preprocessing.channels not in ("RGB", "BGR"):
        raise ArgumentError(
            f"model must take photos in colour, got one of "
            f"{trained.info.preprocessing.channels} images"
        )
    loss = StyleLoss(trained.model, trained.info.preprocessing, (), (), weights)
    size = max(32, trained.model.min_size)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)

    def find(
        argument: str, given: str | Iterable[str] | None, default: Callable[[Model], Sequence[str]]
    ) -> tuple[str, ...]:
        if given is None:
            given = default(trained.model)
        layers = [given] if isinstance(given, str) else list(given)
        if not layers:
            raise ArgumentError(f"{argument} must name at least one layer, got none")
        try:
            maps = jax.eval_shape(lambda x: loss.maps(trained.variables, x, layers), images)
        except ValueError as error:
            raise ArgumentError(f"{argument}: {error}") from None
        for layer, array in maps.items():
            if array.ndim != 4:
                raise ArgumentError(
                    f"{argument}: the output of {layer!r} has no positions, its shape is "
                    f"{array.shape}"
                )
        return tuple(maps)

    return dataclasses.replace(
        loss,
        content_layers=find("content_layers", content_layers, _content_layers),
        style_layers=find("style_layers", style_layers, _style_layers),
    )


def _content_layers(model: Model) -> Sequence[str]:
    if isinstance(model, VGG):
        return _stage_ends(model)[2:3]
    return [path for stride, path in backbone(model).paths if stride == CONTENT_STRIDE]


def _style_layers(model: Model) -> Sequence[str]:
    if isinstance(model, VGG):
        return _stage_ends(model)[:4]
    stem = ["stem"] if "stem" in model.variable_shapes()["params"] else []  # has the colours
    return stem + [path for stride, path in backbone(model).paths if stride <= MAX_STYLE_STRIDE]


def _stage_ends(model: VGG) -> list[str]:
    return [f"stage{number}/conv{depth}" for number, depth in enumerate(model.depths, start=1)]
