"""The models, layers and passes that `benchmarks.models` times, and the least that each costs."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.models.layers import LAYERS, Layer

INFERENCE, FUSED, GRADIENT, STEP = PASSES = (
    "inference",
    "inference, fused",
    "loss gradient",
    "training step",
)
# A layer's gradients are those of its parameters and its input, from its own output as gradient.
LAYER_PASSES = INFERENCE, BOTH = "inference", "forward and backward"
# One member of each family.
MODELS = (
    "MobileNetV1,MobileNetV2,MobileNetV3_Large,EfficientNetLite0,Xception,ResNet50,"
    "ResNeXt50_32x4d,DenseNet121,VGG16,GoogLeNet,SqueezeNet1_1"
)


class Case(NamedTuple):
    """One pass of one model, or of one of `LAYERS`; `size` is the height and width of its input."""

    model: str
    pass_: str
    batch: int
    size: int
    dtype: str = "float32"

    @property
    def training(self) -> bool:
        """Whether there is a backward pass."""
        return self.pass_ in (GRADIENT, STEP, BOTH)

    @property
    def layer(self) -> Layer | None:
        """The layer, where it is one."""
        return LAYERS.get(self.model)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the input."""
        return (self.batch, *(self.layer.shape if self.layer else (self.size, self.size, 3)))

    @property
    def job(self) -> str:
        """What `find` makes the case of again."""
        return json.dumps(self)

    def constructed(self) -> Any:
        """The zoo's model, without auxiliary classifiers, or its layer."""
        from zoo.models.base import MODELS

        if self.layer:
            return self.layer.ours(self.dtype)
        entry = MODELS[self.model]
        options = {"auxiliary": False} if entry.family == "googlenet" else {}
        return entry.constructor(dtype=self.dtype, **options)


def find(job: str) -> Case:
    """The case of a job."""
    return Case(*json.loads(job))


def costs(case: Case) -> list[tuple[float, float]]:
    """(operations, bytes) of each layer of a case.

    A layer of inference takes two operations a multiply-add, and moves its inputs, its output and
    its parameters once. Training takes three times as much of both: the forward pass, the
    gradient of the input and that of the weights. Norms of inference count as folded.
    """
    import flax.linen as nn
    import jax

    from zoo.surgery.describe import describe

    times, each = 3 if case.training else 1, 2 if case.dtype == "bfloat16" else 4
    if case.layer:
        operations, elements, parameters = case.layer.costs(case.batch)
        return [(times * operations, times * (each * elements + 4 * parameters))]
    inputs: dict[str, int] = {}

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        arrays = jax.tree.leaves((args, kwargs))
        inputs["/".join(context.module.path)] = sum(getattr(a, "size", 0) for a in arrays)
        return call(*args, **kwargs)

    model = case.constructed()
    if not case.training:
        model = model.clone(fused=True)
    with nn.intercept_methods(note):
        layers = describe(model, size=case.size).layers
    return [
        (
            2.0 * times * case.batch * layer.multiply_adds,
            times
            * (case.batch * (each * inputs[layer.path] + layer.bytes) + 4.0 * layer.parameters),
        )
        for layer in layers
    ]


def limit(costs: Sequence[tuple[float, float]], rate: float, bandwidth: float) -> float:
    """Seconds: of each layer the larger of operations over rate and bytes over bandwidth."""
    return math.fsum(max(ops / rate, moved / bandwidth) for ops, moved in costs)
