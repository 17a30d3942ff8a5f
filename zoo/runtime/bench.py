"""Times a model's passes on this machine: a quick look, without another framework beside it.

from zoo.runtime.bench import measure

for measurement in measure(zoo.MobileNetV2, batch=8):
    print(measurement.name, measurement.images_per_second)
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
from zoo.models.fold import fold_norms
from zoo.runtime.compiler import uncached
from zoo.surgery.describe import Description, describe
from zoo_kernels import jit

PASSES = ("inference", "inference, fused", "training step")
DTYPES = ("float32", "bfloat16")
# The first calls load code and data into caches and start threads.
WARM_UP = 2
# Rows and columns of the square matrices whose product is timed.
CPU_MATRIX_SIZE, ACCELERATOR_MATRIX_SIZE = 1024, 8192
# So small that the loss of no model diverges.
LEARNING_RATE = 1e-3

Arguments = tuple[Any, ...]
# (result of a call, its arguments) → the arguments of the next call.
NextArguments = Callable[[Any, Arguments], Arguments]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Measured cost of one pass of a model.

    Args:
      model: the model's name.
      name: the pass, one of `PASSES`.
      batch: the number of images.
      size: their height and width in pixels.
      dtype: the layers' compute dtype.
      device: the kind of device that ran it.
      seconds: of each round.
      compile: seconds of tracing and compiling, without a cache.
      peak: bytes of inputs, outputs and intermediate values, as XLA planned them; None where it
        does not say. Scratch memory of the libraries that it calls is not counted.
      operations: of convolutions and dense layers, where a multiplication with an addition counts
        as two; a training step takes three times as many as inference.
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
        """Images divided by the median of seconds."""
        return self.batch / self.quartiles[1]

    @property
    def reached(self) -> float:
        """Operations a second: operations divided by the median of seconds."""
        return self.operations / self.quartiles[1]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the fields, with the seconds as quartiles, and the derived figures."""
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
) -> Iterator[Measurement]:
    """Times a model's passes on jax's default device, with random weights and images.

    A training step is SGD with momentum, with dropout, and updates its state in place.

    Args:
      model: a constructor, its name, or a model.
      batch: the number of images.
      size: their height and width in pixels; by default what the model was designed for.
      passes: some of `PASSES`.
      dtype: the layers' compute dtype, "float32" or "bfloat16"; by default the model's.
      rounds: how often each pass is timed, after a warm-up.

    Returns:
      An iterator of a measurement for each pass, taken when it is asked for.

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
    return _measure(module, describe(module, size=size), batch, passes, rounds)


def _measure(
    module: Model, described: Description, batch: int, passes: Sequence[str], rounds: int
) -> Iterator[Measurement]:
    dtype = jnp.dtype(module.dtype)
    random = np.random.default_rng(0)
    shape = (batch, *described.input)
    x = jax.device_put(random.standard_normal(shape, np.float32)).astype(dtype)
    labels = jax.device_put(random.integers(module.num_classes, size=batch))
    variables = module.init(jax.random.key(0), x)
    rate = measure_matmul_rate(dtype)
    for name in passes:
        program, arguments, next_arguments = _program(name, module, variables, x, labels)
        with uncached():
            start = time.perf_counter()
            compiled = program.lower(*arguments).compile()
            compile_seconds = time.perf_counter() - start
        yield Measurement(
            described.name,
            name,
            batch,
            described.input[0],
            dtype.name,
            jax.devices()[0].device_kind,
            tuple(_time_rounds(compiled, arguments, next_arguments, rounds)),
            compile_seconds,
            _peak_bytes(compiled),
            2 * batch * described.multiply_adds * (3 if name == "training step" else 1),
            rate,
        )


def measure_matmul_rate(dtype: Any = jnp.float32, rounds: int = 5) -> float:
    """Operations a second of a large matrix product on jax's default device, in the best round."""
    on_cpu = jax.default_backend() == "cpu"
    side = CPU_MATRIX_SIZE if on_cpu else ACCELERATOR_MATRIX_SIZE
    a = jax.device_put(np.random.default_rng(0).random((side, side), np.float32)).astype(dtype)
    product = jax.jit(jnp.matmul)
    return 2 * side**3 / min(_time_rounds(product, (a, a), _same_arguments, rounds))


def _same_arguments(result: Any, arguments: Arguments) -> Arguments:
    return arguments


def _program(
    name: str, module: Model, variables: dict[str, Any], x: jax.Array, labels: jax.Array
) -> tuple[Any, Arguments, NextArguments]:
    """A pass: a jitted function, its first arguments, and what makes the next call's arguments."""
    if name == "training step":
        import optax  # only here: the other commands start faster without it

        from zoo.training.step import init_train_state, make_train_step

        optimizer = optax.sgd(LEARNING_RATE, momentum=0.9)
        state = init_train_state(jax.tree.map(jnp.copy, variables), optimizer)  # steps donate it
        return (
            make_train_step(module, optimizer),
            (state, x, labels),
            lambda result, arguments: (result[0], *arguments[1:]),
        )
    if name == "inference, fused":
        module, variables = fold_norms(module, variables)
        variables = jax.device_put(variables)
    return jit(module.apply), (variables, x), _same_arguments


def _time_rounds(
    call: Callable[..., Any], arguments: Arguments, next_arguments: NextArguments, rounds: int
) -> Iterator[float]:
    """Seconds of each round after the warm-up, from the call until its result is ready."""
    for number in range(WARM_UP + rounds):
        start = time.perf_counter()
        result = jax.block_until_ready(call(*arguments))
        seconds = time.perf_counter() - start
        arguments = next_arguments(result, arguments)
        if number >= WARM_UP:
            yield seconds


def _peak_bytes(compiled: Any) -> int | None:
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    inputs, outputs = memory.argument_size_in_bytes, memory.output_size_in_bytes
    return int(inputs + outputs - memory.alias_size_in_bytes + memory.temp_size_in_bytes)
