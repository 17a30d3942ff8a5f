"""Models compiled ahead of time, for inference alone."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import zoo_kernels as kernels
from zoo.inference.images import ImageSource, is_single_image
from zoo.inference.native_layers import replace_layers, why_not_native
from zoo.inference.trained import Info, Trained
from zoo.runtime.checks import ArgumentError, check_count
from zoo.runtime.memory import keep_memory as keep_freed_memory
from zoo_pretrained.catalogue import Label

DEFAULT_BATCH_SIZES = (1, 8)
DTYPES = ("float32", "bfloat16")
NATIVE, XLA = "native", "xla"
# What a layer's output may take: the next layer then finds it in the cache. On 2 cores of an AMD
# EPYC with 32 MiB of third cache, Xception's largest output is 11 MB for an image: 8 images took
# 740 to 800 ms at once, and 710 one by one. ResNet50 (3.2 MB) was fastest by 2, 41 ms an image.
CACHE_BYTES = 8 << 20


class Program(NamedTuple):
    """A model's inference, yet to be compiled for a number of images.

    Args:
      function: (weights, x) → logits.
      weights: arrays in a list.
      implementation: "native" or "xla".
      remaining: the convolutions that are XLA's where the others are native.
      at_once: how many images to compute at once; more are computed one part after another.
    """

    function: Callable[[Any, Any], Any]
    weights: list[Any]
    implementation: str
    remaining: tuple[str, ...] = ()
    at_once: int | None = None

    def bind(self) -> Callable[[np.ndarray], Any]:
        """Returns (x) → logits, compiled at the first call for a shape."""
        weights = self.weights
        if self.implementation == XLA and jax.default_backend() == "cpu":
            # As constants: XLA then lays them out when it compiles, and not in each call.
            return kernels.jit(lambda x: self.function(weights, x))
        function, on_device = kernels.jit(self.function), jax.device_put(weights)
        return lambda x: function(on_device, x)


@dataclasses.dataclass(frozen=True, eq=False)
class Compiled:
    """A trained model as programs for a few batch sizes, which `Trained.compile` makes.

    Called on normalised images [N, size, size, C], it gives logits [N, num_classes] as a NumPy
    array. Any N will do: images are split into batches of its sizes, the last one filled with
    zeros. Several threads may call it at a time.

    Args:
      info: facts about the weights.
      size: height and width of the images.
      channels: of the images.
      batch_sizes: what it was compiled for, ascending.
      dtype: of the computation.
    """

    info: Info
    size: int
    channels: int
    batch_sizes: tuple[int, ...]
    dtype: str
    classifier: Trained = dataclasses.field(repr=False)  # without its weights
    program: Program = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        for count in self.program_sizes:  # compiles
            shape = (count, self.size, self.size, self.channels)
            np.asarray(self._run(np.zeros(shape, np.float32)))

    @property
    def program_sizes(self) -> tuple[int, ...]:
        """The numbers of images that there are programs for: large batches have several parts."""
        return tuple(sorted({self._part_size(size) for size in self.batch_sizes}))

    def _part_size(self, batch_size: int) -> int:
        """The largest divisor of a batch's size that may be computed at once."""
        most = self.program.at_once or batch_size
        return max(n for n in range(1, min(most, batch_size) + 1) if batch_size % n == 0)

    @functools.cached_property
    def _run(self) -> Callable[[np.ndarray], Any]:
        return self.program.bind()

    @property
    def implementation(self) -> str:
        """What computes: "native" for the layers of `zoo_kernels.native`, or "xla"."""
        return self.program.implementation

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """Logits [N, num_classes] of normalised images [N, size, size, C].

        Raises:
          ValueError: x has another shape.
        """
        images = np.asarray(x, np.float32)
        shape = (self.size, self.size, self.channels)
        if images.shape[1:] != shape or not len(images):
            raise ValueError(
                f"x must be images [N, {', '.join(map(str, shape))}], got shape {images.shape}; "
                f"`preprocess` makes them"
            )
        results, start = [], 0
        while start < len(images):
            size = self._choose_size(len(images) - start)
            batch = images[start : start + size]
            missing = size - len(batch)
            if missing:
                batch = np.concatenate([batch, np.zeros((missing, *shape), np.float32)])
            part = self._part_size(size)
            for first in range(0, size - missing, part):
                count = min(part, size - missing - first)
                results.append(np.asarray(self._run(batch[first : first + part]))[:count])
            start += size
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _choose_size(self, count: int) -> int:
        """The size of the next batch for so many images: the largest that is filled, if one is."""
        filled = [size for size in self.batch_sizes if size <= count]
        return filled[-1] if filled else self.batch_sizes[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, one for each logit."""
        return self.classifier.labels

    def preprocess(self, images: ImageSource | Iterable[ImageSource]) -> np.ndarray:
        """Images of any kind → [N, size, size, C], normalised; see `Trained.preprocess`."""
        return self.classifier.preprocess(images, size=self.size)

    def probabilities(self, x: ArrayLike) -> np.ndarray:
        """Class probabilities [N, num_classes] of normalised images."""
        logits = self(x)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: np.ndarray = exponentials / exponentials.sum(axis=1, keepdims=True)
        return probabilities

    def classify(
        self, images: ImageSource | Iterable[ImageSource], top: int | None = None
    ) -> list[tuple[str, float]] | list[list[tuple[str, float]]]:
        """The likeliest classes of one image, or of each of several; see `Trained.classify`."""
        probabilities = self.probabilities(self.preprocess(images))
        likeliest = [
            [(label.name, probability) for label, probability in ranked]
            for ranked in self.rank_labels(probabilities, self.count_top(top))
        ]
        return likeliest[0] if is_single_image(images) else likeliest

    def count_top(self, top: int | None = None) -> int:
        """How many classes to name: `top`, or by default 5, or all if there are fewer."""
        return self.classifier.count_top(top)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Saves the programs and their weights, for `zoo.load_compiled`: to start without tracing.

        They are for this version of the zoo, and for processors whose vectors are as long as those
        of this one; a checkpoint (`Trained.save`) is for all.

        Args:
          path: the folder to make; it appears complete or not at all.
          overwrite: replaces a compiled model that is there.

        Raises:
          FileExistsError: the path exists, and `overwrite` is False or it is no compiled model.
          MissingExtraError: the package flatbuffers is not installed (the extra `serve`).
        """
        from zoo.inference.saved_programs import save_compiled

        save_compiled(self, path, overwrite=overwrite)

    def rank_labels(self, probabilities: Any, top: int) -> list[list[tuple[Label, float]]]:
        """The `top` likeliest labels of each row of [N, num_classes], with their probabilities."""
        return self.classifier.rank_labels(probabilities, top)


def compile_model(
    trained: Trained,
    batch_sizes: int | Sequence[int] = DEFAULT_BATCH_SIZES,
    *,
    size: int | None = None,
    dtype: str = "float32",
    implementation: str | None = None,
    keep_memory: bool = False,
) -> Compiled:
    """Compiles a model; see `Trained.compile`."""
    trained.require_head()
    sizes = _check_sizes(batch_sizes)
    size = trained.info.preprocessing.size if size is None else check_count("size", size)
    if dtype not in DTYPES:
        raise ArgumentError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if implementation not in (None, NATIVE, XLA):
        raise ArgumentError(f"implementation must be native or xla, got {implementation!r}")
    if keep_memory and not keep_freed_memory():
        raise ArgumentError("keep_memory=True needs Linux with glibc")
    model, variables = trained.fused
    model = model.clone(dtype=jnp.dtype(dtype), remat=False)
    shape = (sizes[0], size, size, trained.channels)
    reason = "is not asked for" if implementation == XLA else why_not_native(model, variables)
    if implementation == NATIVE and reason is not None:
        raise NotImplementedError(f"implementation='native' {reason}")
    if reason is None:
        program = _make_native(model, variables, shape)
    else:
        leaves, tree = jax.tree.flatten(variables)

        def apply(weights: list[Any], x: Any) -> Any:
            return model.apply(jax.tree.unflatten(tree, weights), x)

        program = Program(apply, [np.asarray(leaf) for leaf in leaves], XLA)
    head: dict[str, Any] = {"params": {model.classifier[-1]: {}}}
    classifier = trained.replace(variables=head, info=trained.info)
    return Compiled(trained.info, size, trained.channels, sizes, dtype, classifier, program)


def _make_native(model: Any, variables: Mapping[str, Any], shape: tuple[int, ...]) -> Program:
    """A program of native layers."""
    replaced = replace_layers(model.apply, variables, shape)
    leaves, tree = jax.tree.flatten(replaced.weights)

    def apply(weights: list[Any], x: Any) -> Any:
        return replaced.function(jax.tree.unflatten(tree, weights), x)

    image = jax.ShapeDtypeStruct((1, *shape[1:]), jnp.float32)
    at_once = max(1, CACHE_BYTES // _largest_result(apply, leaves, image))
    return Program(apply, leaves, NATIVE, replaced.remaining, at_once)


def _largest_result(function: Callable[..., Any], *args: Any) -> int:
    """The bytes of the largest array that a function computes."""
    equations = jax.make_jaxpr(function)(*args).eqns
    avals: list[Any] = [out.aval for equation in equations for out in equation.outvars]
    return max(aval.size * aval.dtype.itemsize for aval in avals)


def _check_sizes(batch_sizes: int | Sequence[int]) -> tuple[int, ...]:
    several = list(batch_sizes) if isinstance(batch_sizes, Iterable) else [batch_sizes]
    if not several:
        raise ArgumentError("batch_sizes must name at least one size, got none")
    return tuple(sorted({check_count("batch_sizes", size) for size in several}))
