"""What the package does without names that jax may rename, and inside traces."""

import subprocess
import sys

import jax
import pytest

from zoo_kernels.core import jax_compat

# Imports zoo and runs operators by default with each of these names removed in turn. "import" is for
# names without which jax itself cannot compile.
REMOVE_NAMES = """
import importlib, sys
import jax, jax.numpy as jnp, jax.extend.backend, jax.extend.core, jax.interpreters.mlir, flax.linen
import jax._src.dispatch, jax.experimental.custom_partitioning

NAMES = {
    "jax.make_user_context": "run",
    "jax.extend.core.get_opaque_trace_state": "run",
    "jax.extend.core.Primitive": "run",
    "jax.extend.backend.backends": "run",
    "jax.interpreters.batching.defvectorized": "run",
    "jax.interpreters.batching.primitive_batchers": "run",
    "jax.interpreters.mlir.register_lowering": "run",
    "jax.interpreters.mlir.lower_fun": "run",
    "jax.experimental.custom_partitioning.custom_partitioning": "run",
    "jax.lax.optimization_barrier": "run",
    "jax.__version_info__": "run",
    "jax._src.dispatch.prim_requires_devices_during_lowering": "import",
}

x, w = jnp.ones((2, 6, 6, 4)), jnp.ones((3, 3, 1, 4))

def loss(x, w):
    y = kernels.depthwise_conv(kernels.conv(x, jnp.ones((1, 1, 4, 4))), w)
    y = kernels.bias_act(kernels.batch_norm(y, jnp.ones(4), jnp.ones(4))[0], jnp.ones(4))
    return kernels.max_pool(y, 2).sum()

for path, how in NAMES.items():
    for name in [name for name in sys.modules if name.split(".")[0].startswith("zoo")]:
        del sys.modules[name]
    module, name = path.rsplit(".", 1)
    module = importlib.import_module(module)
    value = getattr(module, name)
    delattr(module, name)
    import zoo
    import zoo_kernels as kernels
    if how == "run":
        for jit in (jax.jit, kernels.jit, lambda f: f):
            jit(jax.grad(loss, (0, 1)))(x, w)
        jax.jit(kernels.jit(loss))(x, w)
        assert kernels.explain(loss, x, w)
    setattr(module, name, value)
    print(path, "is not needed")
"""

# The first import happens inside a trace.
IMPORT_INSIDE_JIT = """
import jax

def f(x):
    import zoo_kernels
    return zoo_kernels.jit(lambda x: 2 * x)(x)

assert jax.jit(f)(1.0) == 2.0
import zoo_kernels as kernels
text = kernels.jit(lambda x: kernels.depthwise_conv(x, x[:1, :3, :3]))
x = jax.numpy.ones((1, 4, 4, 1))
assert kernels.jit(lambda x: compiled_with_options.append(kernels.core.compiler.uses_options_of_jit()) or x)(1.0) == 1.0
"""


def run(root, code):
    """Runs code in a new process."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_names_that_jax_may_rename_are_not_needed(root):
    assert run(root, REMOVE_NAMES).count("is not needed") == 12
