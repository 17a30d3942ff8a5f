"""What the package does without names that jax may rename, and inside traces."""

import os
import subprocess
import sys

import pytest

# Imports zoo and lowers a program with each of these names removed in turn, then runs it with all
# of them removed. jax itself needs those of NEEDED, so with them there is only the import.
REMOVE_NAMES = """
import contextlib, importlib, sys
import jax, jax.numpy as jnp, jax.extend.backend, jax.extend.core, jax.interpreters.mlir, flax.linen
import jax._src.dispatch, jax.experimental.custom_partitioning
import jax.experimental.compilation_cache.compilation_cache

NAMES = [
    "jax.make_user_context",
    "jax.extend.core.get_opaque_trace_state",
    "jax.extend.core.Primitive",
    "jax.extend.backend.backends",
    "jax.interpreters.batching.defvectorized",
    "jax.interpreters.batching.primitive_batchers",
    "jax.interpreters.mlir.register_lowering",
    "jax.interpreters.mlir.lower_fun",
    "jax.experimental.custom_partitioning.custom_partitioning",
    "jax.experimental.compilation_cache.compilation_cache.reset_cache",
    "jax.lax.optimization_barrier",
    "jax.__version_info__",
]
NEEDED = ["jax._src.dispatch.prim_requires_devices_during_lowering"]

x, w = jnp.ones((2, 4, 4, 2)), jnp.ones((3, 3, 1, 2))

@contextlib.contextmanager
def removed(path):
    module, name = path.rsplit(".", 1)
    module = importlib.import_module(module)
    value = getattr(module, name)
    delattr(module, name)
    yield
    setattr(module, name, value)

def import_anew():
    for name in [name for name in sys.modules if name.split(".")[0].startswith("zoo")]:
        del sys.modules[name]
    return importlib.import_module("zoo").kernels

def make_loss(kernels):
    def loss(x, w):
        y = kernels.depthwise_conv(kernels.conv(x, jnp.ones((1, 1, 2, 2))), w)
        y = kernels.bias_act(kernels.batch_norm(y, jnp.ones(2), jnp.ones(2))[0], jnp.ones(2))
        return kernels.max_pool(y, 2).sum()
    return loss

for path in NEEDED + NAMES:
    with removed(path):
        kernels = import_anew()
        loss = make_loss(kernels)
        if path in NAMES:
            kernels.jit(jax.grad(loss)).lower(x, w)
            jax.jit(kernels.jit(loss)).lower(x, w)
            assert kernels.explain(loss, x, w)
    print(path, "is not needed")
with contextlib.ExitStack() as stack:
    for path in NAMES:
        stack.enter_context(removed(path))
    kernels = import_anew()
    loss = make_loss(kernels)
    kernels.jit(jax.grad(loss))(x, w)
    jax.grad(kernels.jit(loss))(x, w)
"""

# The first import happens inside a trace.
IMPORT_INSIDE_JIT = """
import jax

def compiles_with_options():
    from zoo_kernels import jit
    from zoo_kernels.core import compiler
    found = []
    jit(lambda x: found.append(compiler.uses_options()) or x)(1.0)
    return found

inside = []
jax.jit(lambda x: inside.append(compiles_with_options()) or x)(1.0)
assert inside == [[False]], inside
assert compiles_with_options() == [True]
assert jax.grad(lambda x: float(compiles_with_options() == [False]) * x)(1.0) == 1.0
"""


def run(root, code):
    """Runs code in a new process on a CPU, and gives what it prints."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_names_that_jax_may_rename_are_not_needed(root):
    assert run(root, REMOVE_NAMES).count("is not needed") == 13


def test_jit_compiles_with_options_after_an_import_inside_a_trace(root):
    run(root, IMPORT_INSIDE_JIT)
