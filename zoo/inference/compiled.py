"""Models compiled ahead of time, for inference alone."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

import zoo_kernels as kernels
from zoo.inference.images import ImageSource
from zoo.inference.trained import Info, Trained

DEFAULT_BATCH_SIZES = (1, 8)


@dataclasses.dataclass(frozen=True, eq=False)
class Compiled:
    """stub."""

    info: Info
    size: int
    channels: int
    batch_sizes: tuple[int, ...]
    trained: Trained
    _programs: Mapping[int, Callable[..., Any]]

    def __call__(self, x: ArrayLike) -> np.ndarray:
        images = np.asarray(x, np.float32)
        parts = []
        while len(images):
            n = self._choose(len(images))
            chunk, images = images[:n], images[n:]
            pad = n - len(chunk)
            if pad:
                chunk = np.concatenate([chunk, np.zeros((pad, *chunk.shape[1:]), np.float32)])
            parts.append(np.asarray(self._programs[n](chunk))[: n - pad])
        return np.concatenate(parts)

    def _choose(self, count: int) -> int:
        fitting = [n for n in self.batch_sizes if n >= count]
        return min(fitting) if fitting else max(self.batch_sizes)

    def probabilities(self, x: ArrayLike) -> np.ndarray:
        logits = self(x)
        e = np.exp(logits - logits.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def preprocess(self, images: ImageSource | Iterable[ImageSource]) -> np.ndarray:
        return self.trained.preprocess(images, size=self.size)

    def count_top(self, top: int | None = None) -> int:
        return self.trained.count_top(top)

    def rank_labels(self, probabilities: Any, top: int) -> Any:
        return self.trained.rank_labels(probabilities, top)


def compile_model(
    trained: Trained, batch_sizes: Sequence[int] = DEFAULT_BATCH_SIZES, size: int | None = None
) -> Compiled:
    model, variables = trained.fused
    weights = jax.tree.map(np.asarray, variables)
    size = trained.info.preprocessing.size if size is None else size
    programs = {}
    for n in sorted(set(batch_sizes)):
        shape = jax.ShapeDtypeStruct((n, size, size, trained.channels), np.float32)
        program = kernels.jit(functools.partial(model.apply, weights))
        programs[n] = program.lower(shape).compile()
    return Compiled(
        trained.info, size, trained.channels, tuple(programs), trained, programs
    )
