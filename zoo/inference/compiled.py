"""Models compiled ahead of time, for inference alone."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import zoo_kernels as kernels
from zoo.inference.images import ImageSource, is_single_image
from zoo.inference.native_layers import replace_layers
from zoo.inference.trained import Info, Trained
from zoo.runtime.checks import ArgumentError, check_count
from zoo.runtime.memory import keep_memory as keep_freed_memory
from zoo_kernels import native
from zoo_pretrained.catalogue import Label

DEFAULT_BATCH_SIZES = (1, 8)
DTYPES = ("float32", "bfloat16")
NATIVE, XLA = "native", "xla"


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
      implementation: "native" for the C++ layers of `zoo_kernels.native`, or "xla".
      remaining: the convolutions that are XLA's where the others are native.
    """

    info: Info
    size: int
    channels: int
    batch_sizes: tuple[int, ...]
    dtype: str
    implementation: str
    remaining: tuple[str, ...]
    _classifier: Trained = dataclasses.field(repr=False)
    _run: Callable[[np.ndarray], Any] = dataclasses.field(repr=False)

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
            results.append(np.asarray(self._run(batch))[: size - missing])
            start += size
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _choose_size(self, count: int) -> int:
        """The size of the next batch for so many images: the largest that is filled, if one is."""
        filled = [size for size in self.batch_sizes if size <= count]
        return filled[-1] if filled else self.batch_sizes[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, one for each logit."""
        return self._classifier.labels

    def preprocess(self, images: ImageSource | Iterable[ImageSource]) -> np.ndarray:
        """Images of any kind → [N, size, size, C], normalised; see `Trained.preprocess`."""
        return self._classifier.preprocess(images, size=self.size)

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
        return self._classifier.count_top(top)

    def rank_labels(self, probabilities: Any, top: int) -> list[list[tuple[Label, float]]]:
        """The `top` likeliest labels of each row of [N, num_classes], with their probabilities."""
        return self._classifier.rank_labels(probabilities, top)


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
    if keep_memory and not keep_freed_memory():
        raise ArgumentError("keep_memory=True needs Linux with glibc")
    model, variables = trained.fused
    model = model.clone(dtype=jnp.dtype(dtype))
    shape = (sizes[0], size, size, trained.channels)
    reason = _why_not_native(model, variables, dtype)
    if implementation not in (None, NATIVE, XLA):
        raise ArgumentError(f"implementation must be native or xla, got {implementation!r}")
    if implementation == NATIVE and reason is not None:
        raise NotImplementedError(f"implementation='native' {reason}")
    chosen = NATIVE if reason is None and implementation != XLA else XLA
    if chosen == NATIVE:
        run, remaining = _compile_natively(model, variables, shape)
    else:
        run, remaining = _compile_by_xla(model, variables), ()
    for batch_size in sizes:  # compiles
        np.asarray(run(np.zeros((batch_size, *shape[1:]), np.float32)))
    return Compiled(
        trained.info,
        size,
        trained.channels,
        sizes,
        dtype,
        chosen,
        remaining,
        trained.replace(variables={"params": {model.classifier[-1]: {}}}, info=trained.info),
        run,
    )


def _check_sizes(batch_sizes: int | Sequence[int]) -> tuple[int, ...]:
    several = [batch_sizes] if isinstance(batch_sizes, int) else list(batch_sizes)
    if not several:
        raise ArgumentError("batch_sizes must name at least one size, got none")
    return tuple(sorted({check_count("batch_sizes", size) for size in several}))


def _why_not_native(model: Any, variables: Mapping[str, Any], dtype: str) -> str | None:
    """Why a model's layers cannot be native here; None if they can."""
    if jax.default_backend() != "cpu":
        return f"is for CPUs, and jax runs on {jax.default_backend()}"
    if dtype != "float32" or any(a.dtype != jnp.float32 for a in jax.tree.leaves(variables)):
        return "computes in float32 only"
    if model.is_imported:
        return "is for the zoo's own models; this one was imported"
    return native.unavailable()


def _compile_natively(
    model: Any, variables: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[Callable[[np.ndarray], Any], tuple[str, ...]]:
    """Logits by native layers, and the paths of the convolutions that stay XLA's."""
    program = replace_layers(model, variables, shape)
    weights = jax.device_put(program.weights)
    function = kernels.jit(program.function)
    return lambda x: function(weights, x), program.remaining


def _compile_by_xla(model: Any, variables: Mapping[str, Any]) -> Callable[[np.ndarray], Any]:
    """Logits by XLA. On a CPU the weights are constants, which it then lays out only once."""
    if jax.default_backend() == "cpu":
        weights = jax.tree.map(np.asarray, variables)
        return kernels.jit(lambda x: model.apply(weights, x))
    weights = jax.device_put(variables)
    function = kernels.jit(model.apply)
    return lambda x: function(weights, x)
