"""Passes of models and layers that `benchmarks.models` times, and the least time of each."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.models.layers import LAYERS, Layer

INFERENCE, FUSED_INFERENCE, LOSS_GRADIENT, TRAINING_STEP = PASSES = (
    "inference",
    "inference, fused",
    "loss gradient",
    "training step",
)
# A layer's backward pass gives gradients of its parameters and its input; the output stands for the
# gradient that the next layer would give.
LAYER_PASSES = INFERENCE, FORWARD_BACKWARD = "inference", "forward and backward"
# One member of each family.
DEFAULT_MODELS = (
    "MobileNetV1,MobileNetV2,MobileNetV3_Large,EfficientNetLite0,Xception,ResNet50,"
    "ResNeXt50_32x4d,DenseNet121,VGG16,GoogLeNet,SqueezeNet1_1"
)


class Workload(NamedTuple):
    """One pass of one model, or of one of `LAYERS`; `size` is the height and width of its input."""

    model: str
    pass_name: str
    batch: int
    size: int
    dtype: str = "float32"

    @property
    def training(self) -> bool:
        """Whether there is a backward pass."""
        return self.pass_name in (LOSS_GRADIENT, TRAINING_STEP, FORWARD_BACKWARD)

    @property
    def layer(self) -> Layer | None:
        """The layer; None if it is a model."""
        return LAYERS.get(self.model)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return (self.batch, *(self.layer.shape if self.layer else (self.size, self.size, 3)))

    def encode(self) -> str:
        """The text that a candidate is asked for."""
        return json.dumps(self)

    @classmethod
    def decode(cls, text: str) -> "Workload":
        """The workload of `encode`'s text."""
        return cls(*json.loads(text))

    def build(self) -> Any:
        """The zoo's model, without auxiliary classifiers, or its layer."""
        from zoo.models.base import MODELS

        if self.layer:
            return self.layer.ours(self.dtype)
        entry = MODELS[self.model]
        model = entry.constructor(dtype=self.dtype)
        return model.clone(**model.backbone_options)


def count_costs(workload: Workload) -> list[tuple[float, float]]:
    """(operations, bytes) of each layer of a workload.

    A layer of inference takes two operations a multiply-add, and moves its inputs, its output and
    its parameters once. Training takes three times as much of both: the forward pass, the
    gradient of the input and that of the weights. Norms of inference count as folded.
    """
    import jax

    from zoo.surgery.describe import describe
    from zoo.surgery.intercept import Call, intercept

    passes = 3 if workload.training else 1
    itemsize = 2 if workload.dtype == "bfloat16" else 4
    if workload.layer:
        operations, elements, parameters = workload.layer.costs(workload.batch)
        return [(passes * operations, passes * (itemsize * elements + 4 * parameters))]
    input_elements: dict[str, int] = {}

    def note_inputs(call: Call) -> Any:
        arrays = jax.tree.leaves((call.args, call.kwargs))
        input_elements[call.path] = sum(getattr(array, "size", 0) for array in arrays)
        return call.run()

    model = workload.build()
    if not workload.training:
        model = model.clone(fused=True)
    with intercept(note_inputs):
        layers = describe(model, size=workload.size).layers
    costs = []
    for layer in layers:
        operations = 2.0 * workload.batch * layer.multiply_adds
        activations = workload.batch * (itemsize * input_elements[layer.path] + layer.bytes)
        costs.append((passes * operations, passes * (activations + 4.0 * layer.parameters)))
    return costs


def least_seconds(costs: Sequence[tuple[float, float]], rate: float, bandwidth: float) -> float:
    """Sum over layers of the longer of operations over rate and bytes over bandwidth."""
    return math.fsum(max(operations / rate, moved / bandwidth) for operations, moved in costs)
