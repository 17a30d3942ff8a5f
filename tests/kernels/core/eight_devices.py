"""Gradients of every operator with a batch sharded over 8 devices, against one device.

    python -m tests.kernels.core.eight_devices jit|explicit|shard_map [triton]     (with 8 devices)

With "triton", the Triton kernels run by Pallas's interpreter, against the default on one device.

On a mesh of automatic or explicit axes the compiled program is read too: it may sum gradients over
the devices, but must not move an activation. The one exception is algo="fft", which says so: XLA
does not partition transforms.
"""

import functools
import re
import sys
import unittest.mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import zoo_kernels as kernels
from zoo_kernels.conv import gemm
from zoo_kernels.core import dispatch
from zoo_kernels.implementations import triton_implementations

BATCH = 16
rng = np.random.default_rng(0)


def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


# Name → operator, its batched operand, its weights.
X, CHANNELS = (BATCH, 11, 10, 8), draw(8)
CASES = {
    "depthwise": (kernels.depthwise_conv, draw(*X), [draw(3, 3, 1, 8)]),
    "depthwise, strides": (
        functools.partial(kernels.depthwise_conv, strides=2),
        draw(*X),
        [draw(5, 5, 1, 16)],
    ),
    "depthwise, large": (kernels.depthwise_conv, draw(*X), [draw(11, 11, 1, 8)]),
    "conv, direct": (
        functools.partial(kernels.conv, algo="direct", strides=2),
        draw(*X),
        [draw(3, 3, 8, 6)],
    ),
    "conv, gemm": (
        functools.partial(kernels.conv, algo="gemm"),
        draw(*X),
        [draw(3, 3, 8, 6)],
    ),
    "conv, winograd": (
        functools.partial(kernels.conv, algo="winograd"),
        draw(*X),
        [draw(3, 3, 8, 6)],
    ),
    "conv, fft": (functools.partial(kernels.conv, algo="fft"), draw(*X), [draw(3, 3, 8, 6)]),
    "conv, 1x1": (kernels.conv, draw(*X), [draw(1, 1, 8, 6)]),
    "conv, groups": (functools.partial(kernels.conv, groups=2), draw(*X), [draw(3, 3, 4, 6)]),
    "bias_act, residual": (
        lambda x, b: kernels.bias_act(x, b, "relu6", residual=jnp.cos(x)),
        draw(*X),
        [CHANNELS],
    ),
    "bias_act": (functools.partial(kernels.bias_act, act="silu"), draw(*X), [CHANNELS]),
    "batch_norm_inference": (
        functools.partial(kernels.batch_norm_inference, act="relu"),
        draw(*X),
        [CHANNELS, CHANNELS, CHANNELS, CHANNELS**2],
    ),
    "batch_norm": (
        lambda x, *w, **axis: kernels.batch_norm(x, *w, act="relu", **axis),
        draw(*X),
        [CHANNELS, CHANNELS],
    ),
    "max_pool": (functools.partial(kernels.max_pool, size=3, strides=2, padding=1), draw(*X), []),
    "depthwise, bias": (
        lambda x, w, b: kernels.depthwise_conv(x, w, bias=b, act="relu"),
        draw(*X),
        [draw(3, 3, 1, 8) / 3, CHANNELS],
    ),
}

# One for each way in which the Triton kernels divide the batch.
TRITON_CASES = ("depthwise", "depthwise, bias", "bias_act, residual", "batch_norm")


def loss(op, x, weights, **options):
    """A sum over examples of something that every output counts in, statistics included."""
    out = op(x, *weights, **options)
    y, *statistics = out if isinstance(out, tuple) else (out,)
    return (jnp.sin(y) * y).sum() + sum(BATCH * (a**2).sum() for a in statistics)


COLLECTIVES = "all-gather|all-to-all|all-reduce|collective-permute"


def gathered_activations(text, x):
    """The collectives of a compiled program that give more than a tenth of an activation."""
    found = re.findall(rf"= (?:\()?\w+\[([\d,]*)\][^=]*? ((?:{COLLECTIVES})\S*)\(", text)
    return [f"{op} of [{dims}]" for dims, op in found if count_elements(dims) > x.size / 10]


def count_elements(dims):
    return int(np.prod([int(n) for n in dims.split(",") if n]))


def gradients(op):
    return jax.value_and_grad(functools.partial(loss, op), argnums=(0, 1))


def run_on_mesh(kind, name, op, x, weights, jit=jax.jit):
    """Runs with the batch sharded by its placement alone."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        x = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
        weights = jax.device_put(weights, NamedSharding(mesh, PartitionSpec()))
        compiled = jit(gradients(op)).lower(x, weights).compile()
        result = compiled(x, weights)
    assert result[1][0].sharding.spec[0] == "data", result[1][0].sharding
    gathered = gathered_activations(compiled.as_text(), x)
    assert bool(gathered) == (name == "conv, fft"), gathered
    return result


def run_in_shard_map(name, op, x, weights):
    """Runs each device on its own examples; shard_map sums the gradients of the weights."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    data, none = PartitionSpec("data"), PartitionSpec()
    axis = {"axis_name": "data"} if name == "batch_norm" else {}

    def local(x, weights):
        out = op(x, *weights, **axis)
        y, *statistics = out if isinstance(out, tuple) else (out,)
        penalty = sum(BATCH * (a**2).sum() for a in statistics)  # the same on every device
        return jax.lax.psum((jnp.sin(y) * y).sum(), "data") + penalty

    mapped = jax.shard_map(local, mesh=mesh, in_specs=(data, none), out_specs=none)
    return jax.jit(jax.value_and_grad(mapped, argnums=(0, 1)))(x, weights)


RUNS = {
    "jit": functools.partial(run_on_mesh, AxisType.Auto),
    "kernels.jit": functools.partial(run_on_mesh, AxisType.Auto, jit=kernels.jit),
    "explicit": functools.partial(run_on_mesh, AxisType.Explicit),
    "shard_map": run_in_shard_map,
}


def main():
    check, *implementation = sys.argv[1:]
    assert jax.device_count() == 8
    gemm.MIN_ROWS = 1  # so that the two images of a device take two steps
    kernels_by_op = triton_implementations(interpret=True) if implementation else {}
    for name, (op, x, weights) in CASES.items():
        if implementation and name not in TRITON_CASES:
            continue
        print(name, flush=True)
        want = jax.jit(gradients(op))(x, weights)
        with unittest.mock.patch.dict(dispatch._registry) as registry:
            for key, kernel in kernels_by_op.items():
                registry[key] = {**registry[key], kernel.name: kernel}
            got = RUNS[check](name, op, x, weights)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            scale = np.abs(b).max()
            np.testing.assert_allclose(np.asarray(a) / scale, np.asarray(b) / scale, atol=2e-5)
    print(f"{check}: all operators agree")


if __name__ == "__main__":
    main()
