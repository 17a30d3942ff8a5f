"""How fast a model runs here: a quick look, without another framework beside it.

from zoo.runtime.bench import measure

for row in measure(zoo.MobileNetV2, batch=8):
    print(row.name, row.images_per_second)
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.models.base import Model, find_model
from zoo.runtime.compiler import uncached
from zoo.surgery.describe import Description, describe
from zoo.surgery.fuse import fuse
from zoo.training import step as training
from zoo_kernels import jit

PASSES = ("inference", "inference, fused", "training step")
DTYPES = ("float32", "bfloat16")
# The first calls fetch code and data, and threads start.
WARM_UP = 2
# Rows and columns of the matrices whose product tells a device's rate.
ON_CPU, ELSEWHERE = 1024, 8192
# So small that no loss grows beyond all bounds, whatever the model: it is the speed that counts.
LEARNING_RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Row:
    """What one pass of a model costs.

    Args:
      model: its name.
      name: of the pass, one of `PASSES`.
      batch, size: images, and their height and width in pixels.
      dtype: what the layers compute in.
      device: what ran it.
      seconds: of each round.
      compile: seconds of tracing and compiling, without a cache.
      peak: bytes of what goes in, what comes out and what is kept between, as XLA planned them;
        None where it does not tell. Scratch memory of the libraries that it calls is not in it.
      operations: of convolutions and dense layers, a multiplication with an addition being two;
        training takes three times as many as inference.
      rate: operations a second of a large matrix product in this dtype, measured just before.
    """

    model: str
    name: str
    batch: int
    size: int
    dtype: str
    device: str
    seconds: tuple[float, ...] = dataclasses.field(repr=False)
    compile: float
    peak: int | None
    operations: int
    rate: float

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Seconds of a round: the lower quartile, the median, the upper quartile."""
        lower, median, upper = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return lower, median, upper

    @property
    def images_per_second(self) -> float:
        """By the median."""
        return self.batch / self.quartiles[1]

    @property
    def reached(self) -> float:
        """Operations a second, by the median."""
        return self.operations / self.quartiles[1]

    def as_dict(self) -> dict[str, Any]:
        """The fields, with the seconds as quartiles, and what follows from them; for JSON."""
        lower, median, upper = self.quartiles
        fields = dataclasses.asdict(self)
        fields["pass"] = fields.pop("name")
        return fields | {
            "seconds": {"median": median, "lower": lower, "upper": upper},
            "images_per_second": self.images_per_second,
            "reached": self.reached,
        }


def measure(
    model: str | Callable[..., Model] | Model,
    *,
    batch: int = 8,
    size: int | None = None,
    passes: Sequence[str] = PASSES,
    dtype: str | None = None,
    rounds: int = 10,
) -> Iterator[Row]:
    """Times a model's passes on jax's default device, with random weights and images.

    A training step is SGD with momentum, dropout and all, and updates its state in place.

    Args:
      model: a constructor, its name, or a model.
      batch: how many images.
      size: their height and width; by default what the model was designed for.
      passes: some of `PASSES`.
      dtype: what the layers compute in, "float32" or "bfloat16"; by default what the model says.
      rounds: how often each pass is timed, after a warm-up.

    Returns:
      A row for each pass, each measured when it is asked for.

    Raises:
      UnknownModelError: no model has that name.
      ValueError: an argument is out of range, or the model does not take images of that size.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch!r}")
    if rounds < 2:
        raise ValueError(f"rounds must be at least 2, for quartiles; got {rounds!r}")
    if unknown := [name for name in passes if name not in PASSES]:
        raise ValueError(f"passes must be of {', '.join(map(repr, PASSES))}; got {unknown[0]!r}")
    if dtype not in (None, *DTYPES):
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    module = model if isinstance(model, Model) else find_model(model).constructor()
    if dtype is not None:
        module = module.clone(dtype=jnp.dtype(dtype))
    return _rows(module, describe(module, size=size), batch, passes, rounds)


def _rows(
    module: Model, described: Description, batch: int, passes: Sequence[str], rounds: int
) -> Iterator[Row]:
    dtype = jnp.dtype(module.dtype)
    random = np.random.default_rng(0)
    shape = (batch, *described.input)
    x = jax.device_put(random.standard_normal(shape, np.float32)).astype(dtype)
    labels = jax.device_put(random.integers(module.num_classes, size=batch))
    variables = module.init(jax.random.key(0), x)
    rate = matrix_rate(dtype)
    for name in passes:
        program, arguments, again = _program(name, module, variables, x, labels)
        with uncached():
            start = time.perf_counter()
            compiled = program.lower(*arguments).compile()
            compile_ = time.perf_counter() - start
        yield Row(
            described.name,
            name,
            batch,
            described.input[0],
            dtype.name,
            jax.devices()[0].device_kind,
            tuple(_seconds(compiled, arguments, again, rounds)),
            compile_,
            _peak(compiled),
            2 * batch * described.multiply_adds * (3 if name == "training step" else 1),
            rate,
        )


def matrix_rate(dtype: Any = jnp.float32, rounds: int = 5) -> float:
    """Operations a second of a large matrix product on jax's default device: the best round's."""
    side = ON_CPU if jax.default_backend() == "cpu" else ELSEWHERE
    a = jax.device_put(np.random.default_rng(0).random((side, side), np.float32)).astype(dtype)
    product = jax.jit(jnp.matmul)
    return 2 * side**3 / min(_seconds(product, (a, a), lambda out, arguments: arguments, rounds))


def _program(
    name: str, module: Model, variables: dict[str, Any], x: jax.Array, labels: jax.Array
) -> tuple[Any, tuple[Any, ...], Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]]:
    """What is compiled, its first arguments, and (result, arguments) → the next arguments."""
    if name == "training step":
        import optax  # here, for the command line's other commands

        optimizer = optax.sgd(LEARNING_RATE, momentum=0.9)
        own = jax.tree.map(jnp.copy, variables)  # which the steps use up
        arguments = (training.init_train_state(own, optimizer), x, labels, jax.random.key(1))
        return (
            training.make_train_step(module, optimizer),
            arguments,
            lambda out, old: (out[0], *old[1:]),
        )
    if name == "inference, fused":
        module, variables = fuse(module, variables)
        variables = jax.device_put(variables)
    return jit(module.apply), (variables, x), lambda out, old: old


def _seconds(
    call: Callable[..., Any],
    arguments: tuple[Any, ...],
    again: Callable[[Any, tuple[Any, ...]], tuple[Any, ...]],
    rounds: int,
) -> Iterator[float]:
    """Of each round after the warm-up, until its result is there."""
    for number in range(WARM_UP + rounds):
        start = time.perf_counter()
        out = jax.block_until_ready(call(*arguments))
        seconds = time.perf_counter() - start
        arguments = again(out, arguments)
        if number >= WARM_UP:
            yield seconds


def _peak(compiled: Any) -> int | None:
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return int(held + plan.temp_size_in_bytes)
