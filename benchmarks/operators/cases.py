"""The operators and shapes that `benchmarks.operators` times, and the least that each costs."""

import json
import math
from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """One operator on one shape. `kernel` 0 stands for an operator without one."""

    op: str
    where: str
    batch: int
    size: int
    channels: int
    out: int
    kernel: int = 0
    strides: int = 1
    act: str = "relu"
    dtype: str = "float32"

    def __str__(self) -> str:
        dtype = "" if self.dtype == "float32" else f" {self.dtype}"
        if not self.kernel:
            act = "" if self.act == "relu" else f" {self.act}"
            return f"{self.op}{act}: {self.batch}x{self.size}x{self.size}x{self.channels}{dtype}"
        wide = self.channels if self.channels == self.out else f"{self.channels}→{self.out}"
        stride = f" s{self.strides}" if self.strides > 1 else ""
        batch = "" if self.batch == 4 else f" N{self.batch}"
        name = f"{self.where}: {self.kernel}x{self.kernel}{stride}, {self.size}²x{wide}"
        return f"{name}{batch}{dtype}"

    @property
    def passes(self) -> tuple[str, ...]:
        """What is timed."""
        if self.kernel:
            return "forward", "input gradient", "weight gradient"
        return "forward", "forward and backward"

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of x, of the weights (or the scale, and the bias), and of y."""
        x = (self.batch, self.size, self.size, self.channels)
        if not self.kernel:
            return x, *[(self.channels,)] * (1 + (self.op == "batch_norm")), x
        inputs = 1 if self.op == "depthwise" else self.channels
        size = (self.size - 1) // self.strides + 1
        return x, (self.kernel, self.kernel, inputs, self.out), (self.batch, size, size, self.out)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Of the same; BatchNorm's scale and bias stay float32, as in mixed precision."""
        vectors = "float32" if self.op == "batch_norm" else self.dtype
        return self.dtype, *[vectors] * (len(self.shapes) - 2), self.dtype

    def cost(self, pass_: str) -> tuple[float, float]:
        """(bytes that must move, operations) of a pass."""
        each = 4.0 if self.dtype == "float32" else 2.0
        if self.kernel:
            _, _, inputs, out = self.shapes[1]
            elements = sum(math.prod(shape) for shape in self.shapes)
            return each * elements, 2.0 * self.batch * inputs * out * self._taps() ** 2
        reads = {"bias_act": (2, 5), "batch_norm": (3, 8)}[self.op]
        return each * math.prod(self.shapes[0]) * reads[pass_ != "forward"], 0.0

    def target(self, pass_: str, limit: float) -> float | None:
        """Seconds that a pass is to take at most on a GPU, where there is such an aim."""
        if self.op == "depthwise":
            return limit * (1.3 if self.kernel <= 5 else 2.0) if self.kernel <= 7 else None
        if self.op == "batch_norm" and pass_ != "forward" and str(self) == f"batch_norm: {LARGE}":
            return min(1.2 * limit, 0.65e-3)  # the predecessors took 1.860 and 2.782 ms
        return None if self.kernel else 1.2 * limit

    def _taps(self) -> int:
        """Taps that meet the image, not its padding, over all outputs of a row."""
        outputs, before = self.shapes[-1][1], self.kernel // 2
        return sum(
            0 <= o * self.strides + tap - before < self.size
            for o in range(outputs)
            for tap in range(self.kernel)
        )


def _depthwise(
    where: str, size: int, channels: int, kernel: int, strides: int = 1, batch: int = 4
) -> Case:
    return Case("depthwise", where, batch, size, channels, channels, kernel, strides)


def _dense(size: int, channels: int, out: int, kernel: int, strides: int = 1) -> Case:
    return Case("conv", "ResNet-50", 4, size, channels, out, kernel, strides)


def _pointwise(op: str, batch: int, size: int, channels: int, act: str = "relu") -> Case:
    return Case(op, "", batch, size, channels, channels, act=act)


LARGE = "10x224x224x100"
CPU_CASES = (
    _depthwise("MobileNetV2", 112, 32, 3),
    _depthwise("MobileNetV2", 112, 96, 3, 2),
    _depthwise("MobileNetV2", 56, 144, 3),
    _depthwise("MobileNetV2", 14, 576, 3),
    _depthwise("MobileNetV2", 7, 960, 3),
    _depthwise("Xception", 147, 128, 3),
    _depthwise("Xception", 37, 728, 3),
    _depthwise("Xception", 19, 728, 3),
    _depthwise("EfficientNet-Lite", 56, 144, 5, 2),
    _depthwise("EfficientNet-Lite", 28, 240, 5),
    _depthwise("EfficientNet-Lite", 14, 672, 5),
    _depthwise("EfficientNet-Lite", 7, 1152, 5),
    _depthwise("ConvNeXt", 56, 96, 7),
    _depthwise("ConvNeXt", 14, 384, 7),
    _depthwise("ConvNeXt", 7, 768, 7),
    _depthwise("RepLKNet", 56, 128, 31),
    _depthwise("RepLKNet", 28, 256, 29),
    _dense(224, 3, 64, 7, 2),
    _dense(56, 64, 64, 1),
    _dense(56, 64, 256, 1),
    _dense(56, 256, 64, 1),
    _dense(56, 256, 512, 1, 2),
    _dense(14, 1024, 256, 1),
    _dense(56, 64, 64, 3),
    _dense(28, 128, 128, 3),
    _dense(14, 256, 256, 3),
    _dense(7, 512, 512, 3),
    _dense(56, 128, 128, 3, 2),
    *(
        _pointwise(op, *shape)
        for op in ("bias_act", "batch_norm")
        for shape in ((10, 224, 100), (4, 112, 64), (4, 56, 256), (4, 14, 1024), (4, 7, 2048))
    ),
)
# Batches that fill a GPU. Dense convolutions are cuDNN's there, whoever calls it.
GPU_CASES = (
    _depthwise("MobileNetV2", 112, 32, 3, batch=128),
    _depthwise("MobileNetV2", 112, 96, 3, 2, batch=128),
    _depthwise("MobileNetV2", 56, 144, 3, batch=128),
    _depthwise("MobileNetV2", 14, 576, 3, batch=128),
    _depthwise("Xception", 147, 128, 3, batch=64),
    _depthwise("Xception", 37, 728, 3, batch=64),
    _depthwise("Xception", 19, 728, 3, batch=64),
    _depthwise("EfficientNet-Lite", 56, 144, 5, 2, batch=128),
    _depthwise("EfficientNet-Lite", 28, 240, 5, batch=128),
    _depthwise("ConvNeXt", 56, 96, 7, batch=128),
    _depthwise("ConvNeXt", 14, 384, 7, batch=128),
    _depthwise("RepLKNet", 56, 128, 31, batch=64),
    *(
        _pointwise(op, *shape, act)
        for op, act, shapes in (
            ("bias_act", "relu", 3),
            ("bias_act", "silu", 2),
            ("batch_norm", "relu", 3),
        )
        for shape in ((10, 224, 100), (64, 56, 256), (64, 14, 1024))[:shapes]
    ),
)


class Device(NamedTuple):
    """What is timed on a device, and how.

    Args:
      platform: its name in jax and in PyTorch.
      cases: what is timed by default.
      copied, multiplied: floats, and rows and columns, whose copy and product give its rates.
      rotated: bytes that the operands in turn hold at least; 0 is a single set of them, and the
        wall clock in place of the device's own.
      longest: seconds that the rounds of one job take, about.
    """

    platform: str
    cases: tuple[Case, ...]
    copied: int
    multiplied: int
    rotated: int
    longest: float

    @property
    def gpu(self) -> bool:
        """Whether it is timed as a GPU."""
        return self.rotated > 0

    def sets(self, case: Case) -> int:
        """How many sets of operands are taken in turn."""
        each = 4 if case.dtype == "float32" else 2
        # A pass may read the smaller one of x and y alone.
        smaller = each * min(math.prod(case.shapes[0]), math.prod(case.shapes[-1]))
        return max(3, math.ceil(self.rotated / smaller))


DEVICES = {
    "cpu": Device("cpu", CPU_CASES, 2**24, 1536, 0, 12.0),
    # 128 MiB are more than twice the L2 cache of an H100 (50 MB) or H200 (60 MB).
    "gpu": Device("cuda", GPU_CASES, 2**28, 8192, 2**27, 3.0),
    # All of the GPU's path but the GPU; the figures mean nothing.
    "rehearsal": Device(
        "cpu", tuple(case._replace(batch=1) for case in GPU_CASES), 2**20, 256, 2**21, 0.1
    ),
}
COPY, PRODUCT = "copy", "product"


def job(case: Case, pass_: str) -> str:
    """What `find` makes the case and the pass of again."""
    return json.dumps([*case, pass_])


def find(job: str) -> tuple[Case, str]:
    """The case and the pass of a job."""
    *fields, pass_ = json.loads(job)
    return Case(*fields), pass_


def arrays(case: Case, pass_: str) -> list[np.ndarray]:
    """What a pass takes, in float32: x, the weights and, unless it is the forward pass, dy."""
    rng = np.random.default_rng(0)
    # A few million random numbers, repeated, are as random to an operator and are drawn faster.
    few = [rng.normal(size=min(math.prod(shape), 2**22)) for shape in case.shapes]
    made = [np.resize(a.astype(np.float32), s) for a, s in zip(few, case.shapes, strict=True)]
    return made[:-1] if pass_ == "forward" else made
