"""What the figures of models are held against: PyTorch's and flax's time, memory, compile time."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.models.cases import FUSED, INFERENCE, STEP
from benchmarks.report.records import Record, Row, key

# Where the targets hold, on a CPU.
CONDITIONS = {"batch": 8, "size": 224, "dtype": "float32"}
# Ours over PyTorch eager at most. Fused inference is held against PyTorch's unfused one, which is
# what its users run.
TIMES = {
    FUSED: {
        **dict.fromkeys(("MobileNetV2", "EfficientNetLite0", "Xception"), 0.8),
        **dict.fromkeys(("ResNet50", "VGG16", "DenseNet121"), 1.0),
    },
    STEP: {"MobileNetV2": 1.3, "Xception": 1.3, "ResNet50": 1.2},
}
# The same on jax before 0.11.
OLD_JAX = {FUSED: 1.5, STEP: 2.0}
# Plain flax over ours at least.
FLAX = {(STEP, "MobileNetV2"): 6.0}
# Seconds to compile at most.
COMPILE = 20.0


class Verdict(NamedTuple):
    """A figure beside its target.

    Args:
      what: the figure's name.
      figure: what was measured.
      target: what it may be at most (`most`), or has to be at least.
      most: whether the target is an upper bound.
    """

    what: str
    figure: float
    target: float
    most: bool = True

    @property
    def reached(self) -> bool:
        """Whether the figure is within its target; one that is exactly on it is."""
        return self.figure <= self.target if self.most else self.figure >= self.target

    @property
    def words(self) -> str:
        """The figure and the target."""
        relation = ("≤" if self.reached else ">") if self.most else ("≥" if self.reached else "<")
        return f"{self.figure:.2f} {relation} {self.target:g}"


def verdicts(record: Record, row: Row) -> Iterator[Verdict]:
    """What a row of a run of `benchmarks.models` is held against.

    Nothing unless it is a model under the `CONDITIONS` on a CPU, and its peer was timed.
    """
    if record.kind != "models" or record.gpu:
        return
    if any(row.get(name, wanted) != wanted for name, wanted in CONDITIONS.items()):
        return
    model, pass_ = row["model"], row["pass"]
    ours, flax = _median(row, "ours"), _median(row, "flax")
    torch = _median(_beside(record, row, INFERENCE) if pass_ == FUSED else row, "torch")
    most = TIMES.get(pass_, {}).get(model)
    if most and ours and torch:
        bound = OLD_JAX[pass_] if (0,) < record.jax_numbers < (0, 11) else most
        yield Verdict("ours / torch", ours / torch, bound)
    if ours and flax and (least := FLAX.get((pass_, model))):
        yield Verdict("flax / ours", flax / ours, least, most=False)
    peak: Mapping[str, Any] = row.get("peak", {})
    if pass_ == STEP and peak.get("ours") and peak.get("torch"):
        yield Verdict("peak, ours / torch", peak["ours"] / peak["torch"], 1.0)
    if compiling := row.get("compile", {}).get("ours"):
        yield Verdict("compile, s", compiling, COMPILE)


def _beside(record: Record, row: Row, pass_: str) -> Row:
    """The row of another pass of the same model, an empty one where there is none."""
    same = key(record, {**row, "pass": pass_})
    found = (each for each in record.rows if key(record, each) == same)
    return next(found, {"seconds": {}})


def _median(row: Row, candidate: str) -> float | None:
    timing = row["seconds"].get(candidate)
    return timing["median"] if timing else None
