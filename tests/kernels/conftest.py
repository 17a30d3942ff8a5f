"""Runs Triton kernels on a CPU."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas

from zoo_kernels.core import dispatch
from zoo_kernels.implementations import triton_implementations

# How many elements each array has beyond its end while kernels are interpreted.
TAIL = 4096


@pytest.fixture
def interpreted(monkeypatch):
    """Has implementation="triton" run by Pallas's interpreter, on any platform.

    The interpreter allows accesses out of bounds, which are errors on a GPU. So every operand gets
    a tail of NaN (negative offsets count from its end), and a store into a result's tail, where a
    GPU has another array, turns the whole result into NaN. What is never stored is NaN by itself.
    """
    for op, implementation in triton_implementations(interpret=True).items():
        registered = {**dispatch._registry[op], implementation.name: implementation}
        monkeypatch.setitem(dispatch._registry, op, registered)
    monkeypatch.setattr(pallas, "pallas_call", add_tails(pallas.pallas_call))


def add_tails(pallas_call):
    """Makes pallas_call run kernels on arrays with tails."""

    def call(kernel, *, out_shape, **options):
        longer = [jax.ShapeDtypeStruct((o.shape[0] + TAIL,), o.dtype) for o in out_shape]
        run = pallas_call(kernel, out_shape=longer, **options)

        def run_with_tails(*arrays):
            tails = (jnp.full(TAIL, jnp.nan, a.dtype) for a in arrays)
            results = run(*map(jnp.append, arrays, tails))
            clean = jnp.stack([jnp.isnan(r[-TAIL:]).all() for r in results]).all()
            return [jnp.where(clean, r[:-TAIL], jnp.nan) for r in results]

        return run_with_tails

    return call
