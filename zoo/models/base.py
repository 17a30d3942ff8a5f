"""What every model is, and the table of all of them."""

import dataclasses
import difflib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.layers import ConvNorm, Dtype


class Model(nn.Module):
    """A classifier: a frozen definition that holds no arrays.

    Args:
      num_classes: the number of logits.
      dtype: what the layers compute in.
      param_dtype: what the parameters are kept in.
      norm_eps, norm_momentum: batch normalisation's epsilon, and decay of running statistics.
      fused: the norms are folded into the convolutions; set by `zoo.fuse`.
    """

    num_classes: int = 1000
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    norm_eps: float = 1e-5
    norm_momentum: float = 0.9
    fused: bool = False

    def conv_norm(self) -> Callable[..., ConvNorm]:
        """`ConvNorm` with this model's norm and dtypes filled in."""
        return functools.partial(
            ConvNorm,
            eps=self.norm_eps,
            momentum=self.norm_momentum,
            fused=self.fused,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )

    def check(self, x: jax.Array, train: bool) -> None:
        """Raises ValueError or TypeError for what is no batch of images for this model."""
        name = type(self).__name__
        if jnp.ndim(x) != 4:
            raise ValueError(f"{name} takes images [N, H, W, C], got shape {jnp.shape(x)}")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"{name} takes normalised floating-point images, got {x.dtype}; "
                f"`preprocess` of a trained model makes them"
            )
        if train and self.fused:
            raise ValueError(f"{name}: a fused model has no batch norms left to train")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One constructor of the zoo.

    Args:
      name: the constructor's name, which is the model's.
      constructor: makes the model.
      input_size: the height and width in pixels that the model was designed for.
    """

    name: str
    constructor: Callable[..., Model]
    input_size: int


Constructor = TypeVar("Constructor", bound=Callable[..., Model])


class UnknownModelError(ValueError):
    """No model has that name; the message lists the nearest."""


MODELS: dict[str, Entry] = {}


def register(input_size: int) -> Callable[[Constructor], Constructor]:
    """Enters a constructor into the table of models, under its own name."""

    def enter(constructor: Constructor) -> Constructor:
        name = constructor.__name__
        MODELS[name] = Entry(name, constructor, input_size)
        return constructor

    return enter


def find(model: str | Callable[..., Any]) -> Entry:
    """The entry of a constructor or of its name; UnknownModelError if there is none."""
    name = model if isinstance(model, str) else getattr(model, "__name__", repr(model))
    entry = MODELS.get(name)
    if entry is not None and (isinstance(model, str) or entry.constructor is model):
        return entry
    by_lower = {known.lower(): known for known in MODELS}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(by_lower[n] for n in near)}?" if near else "see list_models()"
    )
    raise UnknownModelError(f"no model is named {name!r}; {hint}")
