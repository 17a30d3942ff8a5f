"""Measures the seconds of a model's `init`, and the memory of its training step with remat.

    python -m benchmarks.models.costs [--model ResNet50] [--batch 32] [--size 160]

Prints the seconds that `jax.jit(model.init)` takes in this fresh process, compilation included, and
the temporary memory of a compiled training step without and with `remat`.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp

from zoo.models.base import find_model


def temporary_bytes(model: Any, variables: Any, x: jax.ShapeDtypeStruct) -> int:
    """Temporary memory of a compiled step: the gradient of a loss in training mode."""

    def loss(params: Any, x: jax.Array, key: jax.Array) -> Any:
        logits, new = model.apply(
            {**variables, "params": params},
            x,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        return (logits**2).sum(), new

    step = jax.jit(jax.grad(loss, has_aux=True))
    compiled = step.lower(variables["params"], x, jax.random.key(0)).compile()
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise SystemExit(f"jax {jax.__version__} reports no memory on {jax.default_backend()}")
    return int(analysis.temp_size_in_bytes)


def main() -> None:
    """Measures, and prints the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models.costs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="ResNet50")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=160, help="height and width in pixels")
    options = parser.parse_args()
    model: Any = find_model(options.model).constructor()
    x = jax.ShapeDtypeStruct((options.batch, options.size, options.size, 3), jnp.float32)
    start = time.perf_counter()
    variables = jax.block_until_ready(jax.jit(lambda key: model.init(key, x))(jax.random.key(0)))
    print(f"jax {jax.__version__}, init of {model.title}: {time.perf_counter() - start:.1f} s")
    for remat in (False, True):
        temporary = temporary_bytes(model.clone(remat=remat), variables, x)
        print(f"a training step of {x.shape} with remat={remat}: {temporary / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
