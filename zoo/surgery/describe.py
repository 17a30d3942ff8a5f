"""What a model costs, layer by layer, computed by tracing it."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.models.base import MODELS, Model, find_model


class Layer(NamedTuple):
    """A layer: a module that holds parameters of its own.

    Args:
      path: where it is.
      kind: what it is, such as "Conv".
      output: the shape of what it gives for one image, [H, W, C] or [C].
      parameters: how many there are.
      multiply_adds: how many multiplications with an addition one image takes; those of
        convolutions and dense layers are counted.
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
    """What a model costs in inference, for one image.

    Args:
      name: the model's.
      input: the image's shape, [H, W, C].
      layers: in the order of computation.
    """

    name: str
    input: tuple[int, int, int]
    layers: tuple[Layer, ...] = dataclasses.field(repr=False)

    @property
    def parameters(self) -> int:
        """How many parameters inference uses; running statistics are none."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiplications with an addition, of convolutions and dense layers."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """The outputs of all layers together: about what training keeps for one image."""
        return sum(layer.bytes for layer in self.layers)

    def by(self, depth: int) -> list[Layer]:
        """The layers gathered by the first `depth` names of their paths.

        Parameters, multiply-adds and bytes are sums, the output is the last layer's.
        """
        gathered: dict[str, list[Layer]] = {}
        for layer in self.layers:
            head = "/".join(layer.path.split("/")[:depth])
            gathered.setdefault(head, []).append(layer)
        return [
            Layer(
                head,
                group[0].kind if len(group) == 1 else "",
                group[-1].output,
                *(sum(column) for column in list(zip(*group, strict=True))[3:]),
            )
            for head, group in gathered.items()
        ]

    def table(self, depth: int = 1) -> str:
        """The layers gathered by the first `depth` names of their paths, and their sums."""
        total = (self.parameters, self.multiply_adds, self.activation_bytes)
        rows = [
            ("", "output", "parameters", "multiply-adds", "bytes"),
            *(
                (layer.path, "×".join(map(str, layer.output)), *(f"{n:,}" for n in layer[3:]))
                for layer in self.by(depth)
            ),
            ("together", "", *(f"{n:,}" for n in total)),
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        return "\n".join([f"{self.name}, image {'×'.join(map(str, self.input))}", *lines])

    def __str__(self) -> str:
        """The table of the stages."""
        return self.table()


def describe(
    model: str | Callable[..., Model] | Model,
    *,
    size: int | Sequence[int] | None = None,
    channels: int = 3,
) -> Description:
    """What a model costs: parameters, multiply-adds, memory of activations, and its layers.

    Args:
      model: a constructor, its name, or a model.
      size: height and width of the image, or one number for both; by default what the model was
        designed for.
      channels: the image's.

    Returns:
      A description; `print` shows it as a table.

    Raises:
      UnknownModelError: no model has that name.
      ValueError: the model does not take images of that size.
    """
    module = model if isinstance(model, Model) else find_model(model).constructor()
    if size is None:
        size = MODELS[module.title].input_size if module.title in MODELS else 224
    height, width = size if isinstance(size, Sequence) else (size, size)
    layers: list[Layer] = []

    def note(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        y = call(*args, **kwargs)
        inner, own = context.module, context.module.variables.get("params", {})
        own = {name: array for name, array in own.items() if not isinstance(array, dict)}
        if context.method_name == "__call__" and own:
            kernel = own.get("kernel")
            products = 0 if kernel is None else math.prod(kernel.shape[:-1]) * y.size
            layers.append(
                Layer(
                    "/".join(inner.path),
                    type(inner).__name__,
                    y.shape[1:],
                    sum(array.size for array in own.values()),
                    products,
                    y.size * y.dtype.itemsize,
                )
            )
        return y

    x = jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    with nn.intercept_methods(note):
        jax.eval_shape(module.clone(remat=False).apply, variables, x)
    return Description(module.title, (height, width, channels), tuple(layers))
