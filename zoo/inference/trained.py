"""Trained models: a definition, its weights, and facts about them."""

import dataclasses
import functools
import json
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import flax.linen as nn
import jax
import numpy as np
from jax.typing import ArrayLike

import zoo_kernels as kernels
from zoo.inference.images import ImageSource, is_single_image
from zoo.inference.preprocessing import Preprocessing
from zoo.models.base import Model
from zoo.models.fold import fold_norms
from zoo_pretrained import catalogue, checkpoint
from zoo_pretrained.catalogue import Label
from zoo_pretrained.printable import OneLineError

if TYPE_CHECKING:
    from zoo.inference.compiled import Compiled

DEFAULT_TOP = 5


class NoClassifierError(OneLineError, ValueError):
    """The weights have no classifier, which is asked for."""


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
      box_map: published mean average precision of a detector's boxes on COCO's validation set, in
        per cent; None if unknown.
      metadata: JSON of the metadata of the checkpoint that the weights were loaded from; a text, so
        that it can be hashed and compared.
    """

    model: str
    weights: str
    source: str
    licence: str
    preprocessing: Preprocessing
    labels: tuple[Label, ...] = dataclasses.field(repr=False)
    top1: float | None
    head: bool = True
    box_map: float | None = None
    metadata: str = dataclasses.field(default="{}", repr=False)

    def without_accuracy(self, **changes: Any) -> Self:
        """The same with changes, and without what was published of the accuracy before these."""
        return dataclasses.replace(self, top1=None, box_map=None, **changes)


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["variables"], meta_fields=["model", "info"]
)
@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A model, its variables and facts about them; as a pytree, it holds the variables.

    Called on normalised images [N, H, W, C], it gives logits [N, num_classes]. It unpacks as a
    pair: `model, variables = zoo.trained(zoo.VGG19)`.
    """

    model: Model
    variables: dict[str, Any] = dataclasses.field(repr=False)
    info: Info

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Logits [N, num_classes] of normalised images [N, H, W, C]."""
        self.require_head()
        return _logits(self.model)(self.variables, x)

    def __iter__(self) -> Iterator[Any]:
        """Yields the model, then the variables."""
        return iter((self.model, self.variables))

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, one for each logit."""
        return tuple(label.name for label in self.info.labels)

    @property
    def channels(self) -> int:
        """How many channels the images have: 3, or 1 for grey ones, or those of an array."""
        return self.model.count_channels(self.variables)

    def preprocess(
        self, images: ImageSource | Iterable[ImageSource], *, size: int | None = None
    ) -> np.ndarray:
        """Images of any kind → [N, size, size, C], normalised.

        Args:
          images: one or several; see `zoo.inference.images.load_image`. A model of one channel
            takes them as grey ones, and a model of more than three takes arrays [H, W, C].
          size: height and width of the result in pixels, of which as large a share of the image is
            shown; by default the model's own.

        Raises:
          ImageError: something is not an image.
          ValueError: `size` is not an integer of at least 1.
        """
        preprocessing = self.info.preprocessing
        return (preprocessing if size is None else preprocessing.resized(size))(images)

    def replace(self, **changes: Any) -> Self:
        """The same with other `variables`, or another `model` or `info`.

        The published accuracy is not that of other variables, and is left out.
        """
        if "variables" in changes and "info" not in changes:
            head = self.model.classifier[-1] in changes["variables"]["params"]
            changes["info"] = self.info.without_accuracy(head=head)
        return dataclasses.replace(self, **changes)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: not the fused variables, which can be computed again."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Saves a checkpoint, which `zoo.trained` loads as the same model.

        It holds the constructor's arguments, the preprocessing, the labels, the licence and the
        source. The weights' name becomes the folder's.

        Args:
          path: the folder to make; it appears complete or not at all.
          overwrite: replaces a checkpoint that is there.

        Raises:
          FileExistsError: the path exists, and `overwrite` is False or it is not a checkpoint.
          ValueError: the variables or the labels do not fit the model, or no constructor of the zoo
            makes it.
        """
        metadata = self.to_metadata(weights=Path(path).name)
        checkpoint.save(path, self.variables, metadata, overwrite=overwrite)

    def to_metadata(self, weights: str) -> dict[str, Any]:
        """The metadata of a checkpoint of these weights, by that name; see `save`."""
        info, old = self.info, json.loads(self.info.metadata)
        entries = {"extra": old["extra"]} if "extra" in old else {}
        if info.source:
            same = info.source == find_source(old)
            entries["source"] = old["source"] if same else {"url": info.source}
        published = {"top1": info.top1, "box_map": info.box_map}
        if published := {name: value for name, value in published.items() if value is not None}:
            accuracy = old.get("accuracy") or {}
            same = published.items() <= accuracy.items()
            entries["accuracy"] = accuracy if same else published
        return {
            **entries,
            "model": self.model.title,
            "weights": weights,
            "arguments": self.model.arguments,
            "head": self.model.classifier[-1] in self.variables["params"],
            "licence": info.licence,
            "preprocessing": dataclasses.asdict(info.preprocessing),
            "labels": _name_labels(info.labels),
        }

    def probabilities(self, x: ArrayLike) -> jax.Array:
        """Class probabilities [N, num_classes] of normalised images, by the fused model.

        By native layers, where they were compiled before; see `compile`.
        """
        self.require_head()
        arrays = jax.tree.leaves((self.variables, x))
        if not any(isinstance(array, jax.core.Tracer) for array in arrays) and self._native:
            return self._native(x)
        model, variables = self.fused
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
        if top is None:
            return min(DEFAULT_TOP, len(self.info.labels))
        try:
            return operator.index(top)
        except TypeError:
            raise ValueError(f"top must be an integer, got {top!r}") from None

    def rank_labels(self, probabilities: Any, top: int) -> list[list[tuple[Label, float]]]:
        """The `top` likeliest labels of each row of [N, num_classes], with their probabilities."""
        labels = self.info.labels
        if not 1 <= top <= len(labels):
            raise ValueError(f"top must be from 1 to {len(labels)}, got {top}")
        rows = np.asarray(probabilities)
        if not np.isfinite(rows).all():
            raise FloatingPointError(
                "the model's probabilities are not finite: its weights or the image may be damaged"
            )
        if rows.shape[1:] != (len(labels),):
            raise ValueError(
                f"the model has {rows.shape[-1]} classes, but its info has {len(labels)} labels"
            )
        order = np.argsort(-rows, axis=1, kind="stable")[:, :top]
        return [
            [(labels[index], float(row[index])) for index in indices]
            for row, indices in zip(rows, order, strict=True)
        ]

    def require_head(self) -> None:
        """Raises NoClassifierError if the weights have no classifier."""
        if not self.info.head:
            raise NoClassifierError(
                f"the weights {self.info.weights!r} of {self.info.model} have no classifier; "
                f"zoo.adapt(…, num_classes=…) gives them one"
            )

    def compile(
        self,
        batch_sizes: int | Sequence[int] = (1, 8),
        *,
        size: int | None = None,
        dtype: str = "float32",
        implementation: str | None = None,
        keep_memory: bool = False,
    ) -> "Compiled":
        """Compiles the model for inference: batch norms folded, weights fixed, a few batch sizes.

            net = zoo.trained(zoo.ResNet50).compile(batch_sizes=(1, 8))
            net.classify("cat.jpg")

        On a CPU (Linux, x86-64, with a C++ compiler) its layers are those of `zoo_kernels.native`,
        which take about ten seconds to be compiled once for a machine; elsewhere they are XLA's.

        Args:
          batch_sizes: the numbers of images that programs are made for.
          size: height and width of the images in pixels; by default the model's own.
          dtype: of the computation, "float32" or "bfloat16".
          implementation: "native" or "xla"; None chooses.
          keep_memory: the process keeps the memory that it frees (`zoo.keep_memory`): with XLA's
            layers large batches are faster.

        Returns:
          What is called on images, by several threads at a time; see `Compiled`.

        Raises:
          ArgumentError: an argument cannot be.
          NoClassifierError: the weights have no classifier.
          NotImplementedError: the implementation asked for cannot be had; the message says why.
        """
        from zoo.inference.compiled import compile_model

        return compile_model(
            self,
            batch_sizes,
            size=size,
            dtype=dtype,
            implementation=implementation,
            keep_memory=keep_memory,
        )

    @functools.cached_property
    def _native(self) -> Callable[[ArrayLike], jax.Array] | None:
        """(x) → probabilities by native layers; None where they are not at hand."""
        from zoo.inference.native_layers import run_natively

        return run_natively(self, _apply_softmax)

    @functools.cached_property
    def fused(self) -> tuple[Model, dict[str, Any]]:
        """The definition and variables without batch norms, by which inference is fastest."""
        if self.model.fused:
            return self.model, self.variables
        model, variables = fold_norms(self.model, self.variables)
        with jax.ensure_compile_time_eval():  # arrays rather than tracers, inside a jit too
            return model, jax.device_put(variables)


# What holds the models of some class, if not a `Trained`.
_CLASSES: dict[type[Model], type[Trained]] = {}


def register_trained(model: type[Model], trained: type[Trained]) -> None:
    """Makes a subclass of `Trained` what holds the models of a class."""
    _CLASSES[model] = trained


def make_trained(model: Model, variables: dict[str, Any], info: Info) -> Trained:
    """A trained model of the kind that its definition asks for."""
    for kind, trained in _CLASSES.items():
        if isinstance(model, kind):
            return trained(model, variables, info)
    return Trained(model, variables, info)


def find_source(metadata: Mapping[str, Any]) -> str:
    """Where a checkpoint's metadata say that the weights come from: an address or a file, or ""."""
    source = metadata.get("source") or {}
    if isinstance(source, str):
        return source
    hub = f"hf://{source['hub']}" if "hub" in source else ""
    return source.get("url") or hub or source.get("file", "")


def make_labels(labels: Any, num_classes: int) -> tuple[Label, ...]:
    """Labels from the name of a known set, or a list of names or of (synset, name).

    None makes "class 0", "class 1" and so on.
    """
    if labels is None:
        return tuple(Label("", f"class {number}") for number in range(num_classes))
    if isinstance(labels, str):
        return catalogue.labels(labels)
    return tuple(Label("", item) if isinstance(item, str) else Label(*item) for item in labels)


def _name_labels(labels: tuple[Label, ...]) -> str | list[Any] | None:
    """Labels as a checkpoint's metadata has them."""
    if labels == make_labels(None, len(labels)):
        return None
    for name in catalogue.label_sets():
        if labels == catalogue.labels(name):
            return name
    return [[*label] if label.synset else label.name for label in labels]


@functools.lru_cache(maxsize=64)
def _logits(model: nn.Module) -> Callable[..., jax.Array]:
    return kernels.jit(lambda variables, x: model.apply(variables, x))


@functools.lru_cache(maxsize=64)
def _probabilities(model: nn.Module) -> Callable[..., jax.Array]:
    return kernels.jit(_apply_softmax(model))


def _apply_softmax(model: nn.Module) -> Callable[..., jax.Array]:
    """(variables, x) → class probabilities."""

    def probabilities(variables: Any, x: ArrayLike) -> jax.Array:
        logits: Any = model.apply(variables, x)
        return jax.nn.softmax(logits)

    return probabilities
