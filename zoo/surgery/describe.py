"""Parameters, multiply-adds and activation memory of a model, layer by layer, by tracing it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zoo.checkpoints.load import ModelWithWeights, as_trained, find_definition
from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.runtime.columns import format_columns
from zoo.surgery.intercept import Call, intercept


class Layer(NamedTuple):
    """A module that holds parameters of its own, not only submodules.

    Args:
      path: its module path, such as "stage2/block3/conv1".
      kind: its class, such as "Conv".
      output: the shape of its output for one image, [H, W, C] or [C]; of the first one, where it
        runs several times.
      parameters: how many it has.
      multiply_adds: multiplications with an addition for one image; those of convolutions and
        dense layers are counted.
      bytes: of the output for one image.
    """

    path: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Description:
    """The cost of a model's inference, for one image.

    Args:
      name: the model's name.
      input: the image's shape, [H, W, C].
      layers: in the order of computation.
    """

    name: str
    input: tuple[int, int, int]
    layers: tuple[Layer, ...] = dataclasses.field(repr=False)

    @property
    def parameters(self) -> int:
        """The number of parameters; running statistics do not count."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiplications with an addition, in convolutions and dense layers."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all layers' outputs: about what training keeps for one image."""
        return sum(layer.bytes for layer in self.layers)

    def by(self, depth: int) -> list[Layer]:
        """The layers grouped by the first `depth` names of their paths.

        Parameters, multiply-adds and bytes of a group are sums, its output is its last layer's.
        """
        groups: dict[str, list[Layer]] = {}
        for layer in self.layers:
            prefix = "/".join(layer.path.split("/")[:depth])
            groups.setdefault(prefix, []).append(layer)
        return [
            Layer(
                prefix,
                group[0].kind if len(group) == 1 else "",
                group[-1].output,
                *(sum(column) for column in list(zip(*group, strict=True))[3:]),
            )
            for prefix, group in groups.items()
        ]

    def table(self, depth: int = 1, *, width: int | None = None) -> str:
        """Text: the layers grouped by the first `depth` names of their paths, and the totals.

        Lines are at most `width` long; None for any length.
        """
        totals = (self.parameters, self.multiply_adds, self.activation_bytes)
        rows = [
            ("", "output", "parameters", "multiply-adds", "bytes"),
            *(
                (layer.path, "×".join(map(str, layer.output)), *(f"{n:,}" for n in layer[3:]))
                for layer in self.by(depth)
            ),
            ("total", "", *(f"{n:,}" for n in totals)),
        ]
        heading = f"{self.name}, image {'×'.join(map(str, self.input))}"
        return f"{heading}\n{format_columns(rows, align_right=True, width=width)}"

    def __str__(self) -> str:
        """The table by stages."""
        return self.table()


def describe(
    model: ModelWithWeights | Model,
    *,
    size: int | Sequence[int] | None = None,
    channels: int | None = None,
) -> Description:
    """Counts a model's parameters, multiply-adds and bytes of activations, layer by layer.

    Args:
      model: a constructor, its name, a definition, what `zoo.trained` returns, or a pair (model,
        variables).
      size: height and width of the image in pixels, or one number for both; by default what the
        model was designed for.
      channels: of the image; by default those that the model's weights are for, or 3.

    Returns:
      A description; `print` shows it as a table.

    Raises:
      UnknownModelError: no model has that name.
      ValueError: the model does not take images of that size.
    """
    module = find_definition(model)
    if channels is None:
        channels = as_trained(model).channels if isinstance(model, Trained | tuple | list) else 3
    if size is None:
        size = module.usual_size
    height, width = size if isinstance(size, Sequence) else (size, size)
    layers: dict[str, Layer] = {}

    def measure(call: Call) -> Any:
        y = call.run()
        kind, parameters, products = _count(call.module)
        if parameters:
            layer = Layer(
                call.path,
                kind,
                y.shape[1:],
                parameters,
                products * y.size,
                y.size * y.dtype.itemsize,
            )
            layers[call.path] = _add(layers.get(call.path), layer)
        return y

    x = jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    with intercept(measure):
        jax.eval_shape(module.clone(remat=False).apply, variables, x)
    return Description(module.title, (height, width, channels), tuple(layers.values()))


def _add(before: Layer | None, layer: Layer) -> Layer:
    """A layer that may have run before, as those of a detector do on each of several maps."""
    if before is None:
        return layer
    return before._replace(
        multiply_adds=before.multiply_adds + layer.multiply_adds, bytes=before.bytes + layer.bytes
    )


def _count(module: Any) -> tuple[str, int, int]:
    """What a module is, its own parameters, and the products of each of its outputs."""
    if getattr(module, "is_imported", False):  # whose parameters are those of its nodes
        return "", 0, 0
    if hasattr(module, "counted"):
        counted: tuple[str, int, int] = module.counted
        return counted
    params = module.variables.get("params", {})
    arrays = {name: array for name, array in params.items() if not isinstance(array, dict)}
    products = math.prod(arrays["kernel"].shape[:-1]) if "kernel" in arrays else 0
    return type(module).__name__, sum(array.size for array in arrays.values()), products
