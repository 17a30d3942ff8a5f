"""Targets for models: time beside other libraries, peak memory, compile time."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.models.cases import FUSED_INFERENCE, INFERENCE, TRAINING_STEP
from benchmarks.models.deployed import COMPILED, ONNXRUNTIME
from benchmarks.report.records import Record, ResultRow, row_key

# Where the targets hold, on a CPU.
CONDITIONS = {"batch": 8, "size": 224, "dtype": "float32"}
TIME_RATIO = "ours / torch"
# The most that ours may take, over PyTorch eager. Fused inference is compared with its unfused
# inference, which is what PyTorch's users run.
MAX_TIME_RATIO = {
    FUSED_INFERENCE: {
        **dict.fromkeys(("MobileNetV2", "EfficientNetLite0", "Xception"), 0.8),
        **dict.fromkeys(("ResNet50", "VGG16", "DenseNet121"), 1.0),
    },
    TRAINING_STEP: {"MobileNetV2": 1.3, "Xception": 1.3, "ResNet50": 1.2},
}
# The same on jax before 0.11.
MAX_TIME_RATIO_OLD_JAX = {FUSED_INFERENCE: 1.5, TRAINING_STEP: 2.0}
# The least that plain flax may take, over ours.
MIN_FLAX_RATIO = {(TRAINING_STEP, "MobileNetV2"): 6.0}
MAX_COMPILE_SECONDS = 20.0
# The most that a call of a compiled model may take over onnxruntime, at each batch and in each
# mode: of all these models at these sizes, and of so many of them.
LATENCY_SIZES = {
    **dict.fromkeys(("MobileNetV2", "EfficientNetLite0", "ResNet50", "DenseNet121"), 224),
    "Xception": 299,
}
LATENCY_BATCHES = (1, 8)
LATENCY_RATIO = f"{COMPILED} / {ONNXRUNTIME}"
MAX_LATENCY_RATIO, EQUAL_LATENCY_RATIO, MIN_EQUAL_MODELS = 1.15, 1.0, 3


class TargetCheck(NamedTuple):
    """A figure beside its target.

    Args:
      name: of the figure.
      figure: the measured value.
      target: its bound.
      upper: whether the bound is the largest value allowed, not the smallest.
    """

    name: str
    figure: float
    target: float
    upper: bool = True

    @property
    def reached(self) -> bool:
        """Whether the figure is within its bound, which is included."""
        return self.figure <= self.target if self.upper else self.figure >= self.target

    @property
    def text(self) -> str:
        """The figure and the target."""
        relation = ("≤" if self.reached else ">") if self.upper else ("≥" if self.reached else "<")
        return f"{self.figure:.2f} {relation} {self.target:g}"


def check_targets(record: Record, row: ResultRow) -> Iterator[TargetCheck]:
    """The targets of a row of `benchmarks.models`.

    There are none unless it is a model under the `CONDITIONS` on a CPU, and its peer was timed.
    """
    if record.kind != "models" or record.gpu:
        return
    if any(row.get(name, value) != value for name, value in CONDITIONS.items()):
        return
    model, pass_name = row["model"], row["pass"]
    ours, flax = _median(row, "ours"), _median(row, "flax")
    torch_row = _find_pass(record, row, INFERENCE) if pass_name == FUSED_INFERENCE else row
    torch = _median(torch_row, "torch")
    max_ratio = MAX_TIME_RATIO.get(pass_name, {}).get(model)
    if max_ratio and ours and torch:
        old_jax = (0,) < record.jax_numbers < (0, 11)
        bound = MAX_TIME_RATIO_OLD_JAX[pass_name] if old_jax else max_ratio
        yield TargetCheck(TIME_RATIO, ours / torch, bound)
    if ours and flax and (min_ratio := MIN_FLAX_RATIO.get((pass_name, model))):
        yield TargetCheck("flax / ours", flax / ours, min_ratio, upper=False)
    peak: Mapping[str, Any] = row.get("peak", {})
    if pass_name == TRAINING_STEP and peak.get("ours") and peak.get("torch"):
        yield TargetCheck("peak, ours / torch", peak["ours"] / peak["torch"], 1.0)
    if compile_seconds := row.get("compile", {}).get("ours"):
        yield TargetCheck("compile, s", compile_seconds, MAX_COMPILE_SECONDS)


def check_latency(row: ResultRow) -> TargetCheck | None:
    """The target of a row of `benchmarks.models.latency`, if it has one and both were timed."""
    ratio = find_ratio(row, COMPILED, ONNXRUNTIME)
    if ratio is None or row["batch"] not in LATENCY_BATCHES:
        return None
    if LATENCY_SIZES.get(row["model"]) != row["size"]:
        return None
    return TargetCheck(LATENCY_RATIO, ratio, MAX_LATENCY_RATIO)


def check_latencies(record: Record) -> Iterator[tuple[str, TargetCheck]]:
    """(where, target) of each row, then of each batch and mode in which all models were timed."""
    groups: dict[str, list[float]] = {}
    for row in record.rows:
        if check := check_latency(row):
            setting = f"batch {row['batch']}, {row['mode']}"
            groups.setdefault(setting, []).append(check.figure)
            yield f"{row['model']}, {setting}", check
    for setting, ratios in groups.items():
        if len(ratios) == len(LATENCY_SIZES):
            name = f"models of {len(ratios)} with {LATENCY_RATIO} ≤ {EQUAL_LATENCY_RATIO:g}"
            count = sum(ratio <= EQUAL_LATENCY_RATIO for ratio in ratios)
            yield setting, TargetCheck(name, count, MIN_EQUAL_MODELS, upper=False)


def find_ratio(row: ResultRow, ours: str, peer: str) -> float | None:
    """One candidate's median over another's; None where either was not timed."""
    ours_median, peer_median = _median(row, ours), _median(row, peer)
    return ours_median / peer_median if ours_median and peer_median else None


def _find_pass(record: Record, row: ResultRow, pass_name: str) -> ResultRow:
    """The row of another pass under the same settings; one without timings if there is none."""
    wanted = row_key(record, {**row, "pass": pass_name})
    found = (each for each in record.rows if row_key(record, each) == wanted)
    return next(found, {"seconds": {}})


def _median(row: ResultRow, candidate: str) -> float | None:
    timing = row["seconds"].get(candidate)
    return timing["median"] if timing else None
