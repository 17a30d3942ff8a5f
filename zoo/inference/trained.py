"""Trained models: a definition, its weights, and facts about them."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.typing import ArrayLike

import zoo_kernels as kernels
from zoo.checkpoints.validate import constructor_arguments
from zoo.checkpoints.weights import load_weights
from zoo.inference.images import ImageSource, Preprocessing, is_single_image
from zoo.models.base import MODELS, Model, ModelEntry, find_model
from zoo.models.suggest import matches
from zoo.surgery.fuse import fuse
from zoo_pretrained import catalogue
from zoo_pretrained.catalogue import Label
from zoo_pretrained.checkpoint import CheckpointError
from zoo_pretrained.convert import default_preprocessing

DEFAULT_TOP = 5


@dataclasses.dataclass(frozen=True)
class Info:
    """Facts about trained weights.

    Args:
      model, weights: the names that `trained` takes.
      source: the address or the file that the weights come from.
      licence: of the weights.
      preprocessing: makes the model's input from images.
      labels: a (synset, name) for each logit.
      top1: published top-1 accuracy on ImageNet's validation set, in per cent; None if unknown.
      head: whether there are weights for the classifier; without them `zoo.features`,
        `zoo.backbone` and `zoo.adapt` work, and logits are an error.
    """

    model: str
    weights: str
    source: str
    licence: str
    preprocessing: Preprocessing
    labels: tuple[Label, ...] = dataclasses.field(repr=False)
    top1: float | None
    head: bool = True


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["variables"], meta_fields=["model", "info"]
)
@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A model, its variables and facts about them; as a pytree, it holds the variables.

    Called on normalised images [N, H, W, C], it gives logits [N, num_classes].
    """

    model: Model
    variables: dict[str, Any] = dataclasses.field(repr=False)
    info: Info

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Logits [N, num_classes] of normalised images [N, H, W, C]."""
        self._require_head()
        return _logits(self.model)(self.variables, x)

    def preprocess(self, images: ImageSource | Iterable[ImageSource]) -> np.ndarray:
        """Images of any kind (see `zoo.inference.images.load_image`) → [N, H, W, C], normalised."""
        return self.info.preprocessing(images)

    def probabilities(self, x: ArrayLike) -> jax.Array:
        """Class probabilities [N, num_classes] of normalised images, by the fused model."""
        self._require_head()
        model, variables = self._fused
        return _probabilities(model)(variables, x)

    def classify(
        self, images: ImageSource | Iterable[ImageSource], top: int | None = None
    ) -> list[tuple[str, float]] | list[list[tuple[str, float]]]:
        """The likeliest classes of one image, or of each of several.

        Args:
          images: an image of any kind, or several.
          top: the number of classes, the likeliest first; by default 5, or all if there are fewer.

        Returns:
          [(label, probability), …] for one image; a list of those for a sequence or a batch.

        Raises:
          ImageError: something is not an image.
          ValueError: `top` is not between 1 and the number of classes, or the numbers of labels and
            of classes differ.
        """
        x = self.preprocess(images)
        likeliest = [
            [(label.name, probability) for label, probability in ranked]
            for ranked in self.rank_labels(self.probabilities(x), self.count_top(top))
        ]
        return likeliest[0] if is_single_image(images) else likeliest

    def count_top(self, top: int | None = None) -> int:
        """How many classes to name: `top`, or by default 5, or all if there are fewer."""
        return min(DEFAULT_TOP, len(self.info.labels)) if top is None else top

    def rank_labels(self, probabilities: Any, top: int) -> list[list[tuple[Label, float]]]:
        """The `top` likeliest labels of each row of [N, num_classes], with their probabilities."""
        labels = self.info.labels
        if not 1 <= top <= len(labels):
            raise ValueError(f"top must be from 1 to {len(labels)}, got {top}")
        rows = np.asarray(probabilities)
        if rows.shape[1:] != (len(labels),):
            raise ValueError(
                f"the model has {rows.shape[-1]} classes, but its info has {len(labels)} labels"
            )
        order = np.argsort(-rows, axis=1, kind="stable")[:, :top]
        return [
            [(labels[index], float(row[index])) for index in indices]
            for row, indices in zip(rows, order, strict=True)
        ]

    def _require_head(self) -> None:
        """Raises ValueError if the weights have no classifier."""
        if not self.info.head:
            raise ValueError(
                f"the weights {self.info.weights!r} of {self.info.model} have no classifier; "
                f"zoo.adapt(…, num_classes=…) gives them one"
            )

    @functools.cached_property
    def _fused(self) -> tuple[Model, dict[str, Any]]:
        model, variables = fuse(self.model, self.variables)
        with jax.ensure_compile_time_eval():  # arrays rather than tracers, inside a jit too
            return model, jax.device_put(variables)


def trained(
    model: str | Callable[..., Model], *, weights: str | os.PathLike[str] | None = None
) -> Trained:
    """Loads a model with trained weights.

    Weights are looked for among the embedded ones, in the cache (`ZOO_CACHE`), in the stores that
    `ZOO_STORES` lists, and at their publisher's, in this order; they are verified and kept in the
    cache.

    Args:
      model: a constructor such as `zoo.ResNet50`, or its name.
      weights: the name of weights, such as "IMAGENET1K_V1"; a checkpoint's folder or archive; or
        an archive's address in a store. By default the embedded weights, or else the most accurate
        ones that may be used for any purpose.

    Raises:
      UnknownModelError: no model has that name.
      NoWeightsError: there are no weights for it, or none of that name.
      FetchError: the weights cannot be downloaded: OfflineError if `ZOO_OFFLINE` forbids it,
        DigestError if the file is not the one that was published.
      CheckpointError: the checkpoint is damaged, or another model's.
    """
    entry = find_model(model)
    variables, metadata = load_weights(entry, weights)
    built = entry.constructor(**constructor_arguments(variables, metadata))
    try:
        info = _info(entry, built, metadata, built.classifier[-1] in variables["params"])
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # anybody may have written it
        cause = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"the metadata of these weights cannot be used: {cause}") from error
    return Trained(built, jax.device_put(variables), info)


def _info(entry: ModelEntry, model: Model, metadata: dict[str, Any], head: bool) -> Info:
    """The facts that the metadata holds, with defaults for those that it lacks."""
    preprocessing = metadata.get("preprocessing")
    if preprocessing is None:
        preprocessing = default_preprocessing(entry.family, entry.input_size)
    source = metadata.get("source") or {}
    if isinstance(source, str):
        source = {"url": source}
    hub = f"hf://{source['hub']}" if "hub" in source else ""
    return Info(
        model=entry.name,
        weights=metadata.get("weights", ""),
        source=source.get("url") or hub or source.get("file", ""),
        licence=metadata.get("licence", ""),
        preprocessing=Preprocessing.from_metadata(preprocessing),
        labels=_labels(metadata.get("labels"), model.num_classes),
        top1=(metadata.get("accuracy") or {}).get("top1"),
        head=head,
    )


def _labels(labels: Any, num_classes: int) -> tuple[Label, ...]:
    """From the name of a known set, or a list of names or of (synset, name); else numbers."""
    if labels is None:
        return tuple(Label("", f"class {number}") for number in range(num_classes))
    if isinstance(labels, str):
        return catalogue.labels(labels)
    return tuple(Label("", item) if isinstance(item, str) else Label(*item) for item in labels)


def list_models(
    pattern: str = "*", *, trained: bool | None = None, family: str | None = None
) -> list[str]:
    """The names of the models.

    Args:
      pattern: a shell pattern such as "efficientnet*", or a part of a name, in any case.
      trained: True for models with public weights, False for the others, None for all. Stores may
        have weights for any model.
      family: the name of a family's file in `zoo/models`, such as "resnet", which holds ResNeXt
        and Wide ResNet too; None for all.

    Raises:
      ValueError: no family has that name.
    """
    entries, families = catalogue.entries(), sorted({entry.family for entry in MODELS.values()})
    if family is not None and family not in families:
        raise ValueError(f"family must be one of {', '.join(families)}, got {family!r}")
    return [
        name
        for name, entry in MODELS.items()
        if matches(name, pattern)
        and (trained is None or trained == (name in entries))
        and family in (None, entry.family)
    ]


@functools.lru_cache(maxsize=64)
def _logits(model: nn.Module) -> Callable[..., jax.Array]:
    return kernels.jit(lambda variables, x: model.apply(variables, x))


@functools.lru_cache(maxsize=64)
def _probabilities(model: nn.Module) -> Callable[..., jax.Array]:
    def probabilities(variables: Any, x: ArrayLike) -> jax.Array:
        logits: Any = model.apply(variables, x)
        return jax.nn.softmax(logits)

    return kernels.jit(probabilities)
