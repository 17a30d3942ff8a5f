"""Operators and shapes that `benchmarks.operators` times; the bytes and operations of a pass."""

import json
import math
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """One operator on one shape, [batch, size, size, channels].

    Args:
      op: "depthwise", "conv", "bias_act" or "batch_norm".
      network: where a convolution of this shape stands.
      batch, size, channels: of the input.
      out_channels: of the output.
      kernel: height and width; 0 for an operator without a kernel.
      strides: of a convolution.
      act: activation of an operator without a kernel.
      dtype: of the activations.
    """

    op: str
    network: str
    batch: int
    size: int
    channels: int
    out_channels: int
    kernel: int = 0
    strides: int = 1
    act: str = "relu"
    dtype: str = "float32"

    def __str__(self) -> str:
        dtype = "" if self.dtype == "float32" else f" {self.dtype}"
        if not self.kernel:
            act = "" if self.act == "relu" else f" {self.act}"
            return f"{self.op}{act}: {self.batch}x{self.size}x{self.size}x{self.channels}{dtype}"
        channels: Any = self.channels
        if self.channels != self.out_channels:
            channels = f"{self.channels}→{self.out_channels}"
        stride = f" s{self.strides}" if self.strides > 1 else ""
        batch = "" if self.batch == 4 else f" N{self.batch}"
        name = f"{self.network}: {self.kernel}x{self.kernel}{stride}, {self.size}²x{channels}"
        return f"{name}{batch}{dtype}"

    @property
    def passes(self) -> tuple[str, ...]:
        """Names of the passes that are timed."""
        if self.kernel:
            return "forward", "input gradient", "weight gradient"
        return "forward", "forward and backward"

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of x, the weights (or the scale and the bias, or the bias alone), and y."""
        x = (self.batch, self.size, self.size, self.channels)
        if not self.kernel:
            return x, *[(self.channels,)] * (1 + (self.op == "batch_norm")), x
        inputs = 1 if self.op == "depthwise" else self.channels
        size = (self.size - 1) // self.strides + 1
        kernel = (self.kernel, self.kernel, inputs, self.out_channels)
        return x, kernel, (self.batch, size, size, self.out_channels)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Dtypes of the same; BatchNorm's scale and bias stay float32, as in mixed precision."""
        vectors = "float32" if self.op == "batch_norm" else self.dtype
        return self.dtype, *[vectors] * (len(self.shapes) - 2), self.dtype

    def cost(self, pass_name: str) -> tuple[float, float]:
        """(least bytes that a pass moves, its operations)."""
        itemsize = 4.0 if self.dtype == "float32" else 2.0
        if self.kernel:
            _, _, inputs, outputs = self.shapes[1]
            elements = sum(math.prod(shape) for shape in self.shapes)
            return (
                itemsize * elements,
                2.0 * self.batch * inputs * outputs * self._count_taps() ** 2,
            )
        # How often an activation's bytes are read or written: forward, forward and backward.
        transfers = {"bias_act": (2, 5), "batch_norm": (3, 8)}[self.op]
        activation = math.prod(self.shapes[0])
        return itemsize * activation * transfers[pass_name != "forward"], 0.0

    def target(self, pass_name: str, limit: float) -> float | None:
        """The most seconds that a pass should take on a GPU; None without a target."""
        if self.op == "depthwise":
            return limit * (1.3 if self.kernel <= 5 else 2.0) if self.kernel <= 7 else None
        if (
            self.op == "batch_norm"
            and pass_name != "forward"
            and str(self) == f"batch_norm: {LARGE}"
        ):
            return min(1.2 * limit, 0.65e-3)  # a predecessor took 2.782 ms
        return None if self.kernel else 1.2 * limit

    def _count_taps(self) -> int:
        """Taps that meet the image, not its padding, summed over the outputs of a row."""
        outputs, padding = self.shapes[-1][1], self.kernel // 2
        return sum(
            0 <= output * self.strides + tap - padding < self.size
            for output in range(outputs)
            for tap in range(self.kernel)
        )


def _depthwise(
    network: str, size: int, channels: int, kernel: int, strides: int = 1, batch: int = 4
) -> Case:
    return Case("depthwise", network, batch, size, channels, channels, kernel, strides)


def _dense(size: int, channels: int, out_channels: int, kernel: int, strides: int = 1) -> Case:
    return Case("conv", "ResNet-50", 4, size, channels, out_channels, kernel, strides)


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
# Batches that fill a GPU. Dense convolutions are missing: they are cuDNN's in every framework.
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


class DeviceSettings(NamedTuple):
    """What is timed on a device, and how.

    Args:
      platform: its name in jax and in PyTorch.
      cases: what is timed by default.
      copy_size: floats in the array whose copy gives the bandwidth.
      product_size: rows and columns of the matrix whose product gives the rate of operations.
      rotated_bytes: the least bytes of all sets of operands together, if the device's own time is
        measured; 0: a single set of operands and the wall clock.
      longest: seconds that the rounds of one workload may take, roughly.
    """

    platform: str
    cases: tuple[Case, ...]
    copy_size: int
    product_size: int
    rotated_bytes: int
    longest: float

    @property
    def gpu(self) -> bool:
        """Whether it is timed as a GPU."""
        return self.rotated_bytes > 0

    def count_operand_sets(self, case: Case) -> int:
        """How many sets of operands are used in rotation."""
        itemsize = 4 if case.dtype == "float32" else 2
        # A pass may read only the smaller one of x and y.
        smaller = itemsize * min(math.prod(case.shapes[0]), math.prod(case.shapes[-1]))
        return max(3, math.ceil(self.rotated_bytes / smaller))

    def bandwidth(self, copy_seconds: float) -> float:
        """Bytes a second that a copy reads and writes."""
        return 8 * self.copy_size / copy_seconds

    def rate(self, product_seconds: float) -> float:
        """Operations a second of a float32 matrix product."""
        return 2 * self.product_size**3 / product_seconds


DEVICES = {
    "cpu": DeviceSettings("cpu", CPU_CASES, 2**24, 1536, 0, 12.0),
    # 128 MiB are more than twice the L2 cache of an H100 (50 MB) or H200 (60 MB).
    "gpu": DeviceSettings("cuda", GPU_CASES, 2**28, 8192, 2**27, 3.0),
    # The code path of a GPU on a CPU, to try it out; its figures mean nothing.
    "rehearsal": DeviceSettings(
        "cpu", tuple(case._replace(batch=1) for case in GPU_CASES), 2**20, 256, 2**21, 0.1
    ),
}
# Workloads that give the machine's rates.
COPY, PRODUCT = "copy", "product"


def encode_workload(case: Case, pass_name: str) -> str:
    """The text that a candidate is asked for."""
    return json.dumps([*case, pass_name])


def decode_workload(workload: str) -> tuple[Case, str]:
    """The case and the pass of `encode_workload`'s text."""
    *fields, pass_name = json.loads(workload)
    return Case(*fields), pass_name


def make_operands(case: Case, pass_name: str) -> list[np.ndarray]:
    """Random float32 operands of a pass: x, the weights and, unless it is the forward pass, dy."""
    rng = np.random.default_rng(0)
    # A few million random numbers, repeated, are as random to an operator and are drawn faster.
    samples = [rng.normal(size=min(math.prod(shape), 2**22)) for shape in case.shapes]
    operands = [
        np.resize(sample.astype(np.float32), shape)
        for sample, shape in zip(samples, case.shapes, strict=True)
    ]
    return operands[:-1] if pass_name == "forward" else operands
