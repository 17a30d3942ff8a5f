"""Trained styles: a network, its variables, and the names of its styles."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zoo_kernels as kernels
from zoo.models.suggest import suggest
from zoo.runtime.checks import ArgumentError, check_number
from zoo.style.network import StyleNetwork
from zoo_pretrained import catalogue, checkpoint
from zoo_pretrained.checkpoint import CheckpointError, flatten_variables
from zoo_pretrained.printable import OneLineError

# The checkpoint that comes with the package.
EMBEDDED = "styles"
MODEL = "StyleNetwork"


class StyleError(OneLineError, ValueError):
    """No style has that name, or a checkpoint holds none."""


@dataclasses.dataclass(frozen=True, eq=False)
class Styles:
    """A trained network for one style or several.

    Args:
      network: the definition.
      variables: {"params": …}.
      names: of the styles, in the order of the network's.
      noise: the standard deviation of the noise that photos get before they are painted, where
        white is 1: that of the training.
      licence: of the weights.
      source: where they come from.
      extra: JSON of what else is known, such as the settings of the training.
    """

    network: StyleNetwork
    variables: dict[str, Any] = dataclasses.field(repr=False)
    names: tuple[str, ...]
    noise: float = 0.0
    licence: str = ""
    source: str = ""
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def __call__(self, x: Any, weights: Any) -> jax.Array:
        """Photos [N, H, W, 3] from 0 to 1 → pictures; see `StyleNetwork`."""
        return _compiled(self.network)(self.variables, x, weights)

    def weigh(self, style: str | Mapping[str, float] | None = None) -> np.ndarray:
        """The weights [styles] of a style, or of several by name, which add up to 1.

        None is the only style.

        Raises:
          StyleError: there is no such style; or there are several, and none is named.
          ArgumentError: a weight is negative or no number, or all are 0.
        """
        if style is None:
            if len(self.names) > 1:
                raise StyleError(f"style must be one of {', '.join(self.names)}, got None")
            style = self.names[0]
        if not isinstance(style, str | Mapping):
            raise ArgumentError(f"style must be a name or {{name: weight}}, got {style!r}")
        wanted = {style: 1.0} if isinstance(style, str) else dict(style)
        weights = np.zeros(len(self.names))
        for name, weight in wanted.items():
            if name not in self.names:
                raise StyleError(describe_unknown(name, self.names))
            weights[self.names.index(name)] = check_number(f"the weight of {name!r}", weight)
        if not weights.sum():
            raise ArgumentError(f"style must have a weight above 0, got {style!r}")
        weights /= weights.max()  # first, as the sum of very large ones overflows
        return (weights / weights.sum()).astype(np.float32)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Saves a checkpoint, whose path `apply` takes as a style.

        Args:
          path: the folder to make; it appears complete or not at all.
          overwrite: replaces a checkpoint that is there.

        Raises:
          FileExistsError: the path exists, and `overwrite` is False or it is not a checkpoint.
        """
        network = self.network
        metadata: dict[str, Any] = {
            "extra": {
                **self.extra,
                "network": MODEL,
                "arguments": {"width": network.width, "upsampling": network.upsampling},
                "styles": list(self.names),
                "noise": self.noise,
            },
        }
        if self.licence:
            metadata["licence"] = self.licence
        if self.source:
            metadata["source"] = {"url": self.source}
        checkpoint.save(path, self.variables, metadata, overwrite=overwrite)


def list_styles() -> list[str]:
    """The names of the styles that come with the package."""
    return list(load_styles().names)


def load_styles(path: str | os.PathLike[str] | None = None) -> Styles:
    """Loads trained styles.

    Args:
      path: of a checkpoint that `Styles.save` or a training wrote; None loads those that come with
        the package.

    Raises:
      CheckpointError: there is no checkpoint of styles, or it is damaged.
    """
    return _load_embedded() if path is None else _load(Path(path))


@functools.cache
def _load_embedded() -> Styles:
    return _load(catalogue.embedded_checkpoint_path({"checkpoint": EMBEDDED}))


def _load(path: Path) -> Styles:
    variables, metadata = checkpoint.restore(path)
    extra = metadata.get("extra")
    extra = dict(extra) if isinstance(extra, Mapping) else {}
    names, arguments = extra.pop("styles", None), extra.pop("arguments", {})
    noise = extra.pop("noise", 0.0)
    if extra.pop("network", None) != MODEL or not isinstance(names, list) or not names:
        found = metadata.get("model") or "something else"
        raise CheckpointError(f"the checkpoint {path} holds no styles, but {found}")
    try:
        if len(set(map(str, names))) < len(names):
            raise ValueError(f"two styles have one name: {names}")
        network = StyleNetwork(styles=len(names), **arguments)
        check_variables(network, variables)
        check_number("noise", noise, 0, 1)
    except (ArgumentError, TypeError, ValueError) as error:
        raise CheckpointError(f"the styles of {path} cannot be used: {error}") from error
    source = (metadata.get("source") or {}).get("url", "")
    licence = metadata.get("licence") or ""
    on_device = jax.device_put(variables)
    return Styles(network, on_device, tuple(map(str, names)), noise, licence, source, extra)


def variable_shapes(network: StyleNetwork) -> Any:
    """Shapes and dtypes of a network's variables."""
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    weights = jax.ShapeDtypeStruct((1, network.styles), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), x, weights)


def check_variables(network: StyleNetwork, variables: Mapping[str, Any]) -> None:
    """Raises ValueError unless variables have the shapes that a network needs."""
    expected = {path: leaf.shape for path, leaf in flatten_variables(variable_shapes(network))}
    found = {path: np.shape(leaf) for path, leaf in flatten_variables(variables)}
    for path in (*expected, *found):
        if expected.get(path) != found.get(path):
            raise ValueError(
                f"{path} has shape {found.get(path)}, but the network needs {expected.get(path)}"
            )


def describe_unknown(name: str, known: tuple[str, ...]) -> str:
    """The message for a style that does not exist."""
    hint = suggest(name, known)
    return f"there is no style {name!r}; there are {', '.join(known)}{hint and f'; {hint}'}"


@functools.lru_cache(maxsize=16)
def _compiled(network: StyleNetwork) -> Callable[..., jax.Array]:
    return kernels.jit(lambda variables, x, weights: network.apply(variables, x, weights))
