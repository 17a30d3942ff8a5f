"""The models and passes that `benchmarks.models` times, the least that each costs, and the aims."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

INFERENCE, FUSED, GRADIENT, STEP = PASSES = (
    "inference",
    "inference, fused",
    "loss gradient",
    "training step",
)
# One member of each family.
MODELS = (
    "MobileNetV1,MobileNetV2,MobileNetV3_Large,EfficientNetLite0,Xception,ResNet50,"
    "ResNeXt50_32x4d,DenseNet121,VGG16,GoogLeNet,SqueezeNet1_1"
)


class Case(NamedTuple):
    """One pass of one model."""

    model: str
    pass_: str
    batch: int
    size: int
    dtype: str = "float32"

    @property
    def training(self) -> bool:
        """Whether there is a backward pass."""
        return self.pass_ in (GRADIENT, STEP)

    @property
    def job(self) -> str:
        """What `find` makes the case of again."""
        return json.dumps(self)

    def constructed(self) -> Any:
        """The zoo's model, without auxiliary classifiers."""
        from zoo.models.base import MODELS

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

    from zoo.describe import describe

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
    times, each = 3 if case.training else 1, 2 if case.dtype == "bfloat16" else 4
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


class Target(NamedTuple):
    """An aim of batch 8, 224x224, float32, on a CPU.

    Args:
      model, pass_: of which row.
      most: our time over PyTorch eager's at most (over that of its unfused inference).
    """

    model: str
    pass_: str
    most: float


TARGETS = (
    *(Target(name, FUSED, 0.8) for name in ("MobileNetV2", "EfficientNetLite0", "Xception")),
    *(Target(name, FUSED, 1.0) for name in ("ResNet50", "VGG16", "DenseNet121")),
    *(Target(name, STEP, 1.3) for name in ("MobileNetV2", "Xception")),
    Target("ResNet50", STEP, 1.2),
)
# On jax 0.10, in place of the above.
OLD_JAX = {FUSED: 1.5, STEP: 2.0}
# Flax's time over ours, at least.
TIMES_FLAX = ("MobileNetV2", STEP, 6.0)
# Seconds that compiling takes at most, on 2 cores.
COMPILE = 20.0
