"""Compiles whole models for an H100 without having one, and counts their kernels and bytes.

    pip install jax-cuda12-plugin jax-cuda12-pjrt     # of jax's version; nothing else of CUDA
    python -m benchmarks.gpu_model.steps VGG16 ResNet50 [--kind training] [--batch 128] [--by-kind]

What is counted is what XLA makes of a step in bfloat16, of SGD with momentum or of fused inference.
A kernel's bytes are its operands and results, so that what the caches hold counts as memory, and
a part of an array as the whole; a loop counts as one kernel. Without a GPU nothing is tuned, and
nothing is timed.
"""

import argparse
import collections
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import zoo
from zoo.models.base import MODELS

TARGET = Path(__file__).parent / "h100.pbtxt"
BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}
ARRAY = re.compile(r"\b(pred|token|opaque|bf16|[suf]\d+)\[([\d,]*)\]")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
# What is no kernel of its own.
FREE = ("parameter", "constant", "bitcast", "get-tuple-element", "tuple", "after-all")


class Kernel(NamedTuple):
    """A kernel of a compiled program: its kind, and the bytes of operands and results."""

    kind: str
    bytes: int


def list_kernels(text: str) -> Iterator[Kernel]:
    """The kernels of an optimised HLO module, as text."""
    entry = re.search(r"^ENTRY .*?\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    if entry is None:
        raise ValueError("expected the text of an HLO module, with an ENTRY")
    types: dict[str, str] = {}
    for line in entry[1].splitlines():
        found = INSTRUCTION.match(line)
        if found is None:
            continue
        name, types[name], op, rest = found[1], found[2], found[3], found[4]
        if op in FREE:
            continue
        operands = re.findall(r"%([\w.\-]+)", rest.partition("), ")[0])
        moved = [types[name], *(types[operand] for operand in operands if operand in types)]
        yield Kernel(_name_kind(op, rest), sum(map(count_bytes, moved)))


def count_bytes(shape: str) -> int:
    """The bytes of a type as HLO writes it, an array's or a tuple's."""
    total = 0
    for dtype, sides in ARRAY.findall(shape):
        bits = BITS[dtype] if dtype in BITS else int(dtype[1:])
        total += bits * math.prod(int(side) for side in sides.split(",") if side) // 8
    return total


def _name_kind(op: str, rest: str) -> str:
    target = re.search(r'custom_call_target="([^"]*)"', rest)
    if target is None:
        return op
    if "triton" in target[1]:
        name = re.search(r'op_name="[^"]*?(\w+)/pallas_call', rest)
        return f"Triton: {name[1]}" if name else "Triton"
    return target[1]


def compile_step(name: str, kind: str, batch: int, size: int) -> str:
    """The optimised HLO of a model's step on an H100, as text."""
    import optax
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(
        "one", "cuda", target_config=TARGET.read_text(), topology="1x1x1"
    )
    place = jax.sharding.SingleDeviceSharding(topology.devices[0])
    model = zoo.create(name, dtype="bfloat16", **({"fused": True} if kind == "inference" else {}))
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    optimizer = optax.sgd(1e-3, momentum=0.9)
    variables = model.variable_shapes()

    def train(state: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> Any:
        variables, moments = state

        def compute_loss(params: Any) -> Any:
            logits, new = model.apply(
                {**variables, "params": params},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            logits = logits[0] if isinstance(logits, tuple) else logits  # beside auxiliary ones
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), new

        params = variables["params"]
        (loss, new), gradients = jax.value_and_grad(compute_loss, has_aux=True)(params)
        updates, moments = optimizer.update(gradients, moments, params)
        params = optax.apply_updates(params, updates)
        return ({**variables, **new, "params": params}, moments), loss

    if kind == "training":
        state = variables, jax.eval_shape(optimizer.init, variables["params"])
        labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
        step = jax.jit(train, donate_argnums=0)
        arguments: tuple[Any, ...] = (state, images, labels, jax.eval_shape(jax.random.key, 0))
    else:
        step, arguments = jax.jit(model.apply), (variables, images)
    placed = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), arguments
    )
    lowered = step.trace(*placed).lower(lowering_platforms=("cuda",))
    return str(lowered.compile().as_text())


def main() -> None:
    """Compiles, and prints the counts."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_model.steps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="+", choices=MODELS, metavar="MODEL")
    parser.add_argument("--kind", choices=("training", "inference"), default="training")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--by-kind", action="store_true", help="list the kinds of kernels, too")
    options = parser.parse_args()
    flags = "--xla_gpu_autotune_level=0"  # nothing can be tried out
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    jax.config.update("jax_platforms", "cpu")  # or the plug-in asks for a driver
    for name in options.models:
        text = compile_step(name, options.kind, options.batch, MODELS[name].input_size)
        kernels = list(list_kernels(text))
        total = sum(kernel.bytes for kernel in kernels)
        small = sum(kernel.bytes < 1 << 20 for kernel in kernels)
        print(
            f"{name}, {options.kind}: {len(kernels)} kernels, {small} of them of less than 1 MiB, "
            f"{total / 1e9:.2f} GB",
            flush=True,
        )
        if options.by_kind:
            sums: collections.Counter[str] = collections.Counter()
            counts: collections.Counter[str] = collections.Counter()
            for kernel in kernels:
                sums[kernel.kind] += kernel.bytes
                counts[kernel.kind] += 1
            for kind, moved in sums.most_common():
                print(f"    {kind:50} {counts[kind]:5} {moved / 1e9:8.2f} GB")


if __name__ == "__main__":
    main()
