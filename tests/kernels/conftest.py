"""Triton's kernels on a CPU."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas

from zoo_kernels.core import dispatch
from zoo_kernels.core import pallas as triton

# How many elements beyond its end each array has while kernels are interpreted.
TAIL = 4096


@pytest.fixture
def interpreted(monkeypatch):
    """implementation="triton" is run by Pallas's interpreter, and so on any platform.

    The interpreter forgives what a GPU would not: so every operand ends in NaN beyond what belongs
    to it (negative offsets count from that end), and a store that lands there, where a GPU has
    another array, turns the whole result into NaN. What is never stored is NaN by itself.
    """
    for op, implementation in triton.implementations(interpret=True).items():
        names = {**dispatch._registry[op], implementation.name: implementation}
        monkeypatch.setitem(dispatch._registry, op, names)
    monkeypatch.setattr(pallas, "pallas_call", poisoned(pallas.pallas_call))


def poisoned(pallas_call):
    """pallas_call on longer arrays."""

    def call(kernel, *, out_shape, **options):
        longer = [jax.ShapeDtypeStruct((o.shape[0] + TAIL,), o.dtype) for o in out_shape]
        run = pallas_call(kernel, out_shape=longer, **options)

        def on(*arrays):
            tails = (jnp.full(TAIL, jnp.nan, a.dtype) for a in arrays)
            results = run(*map(jnp.append, arrays, tails))
            clean = jnp.stack([jnp.isnan(r[-TAIL:]).all() for r in results]).all()
            return [jnp.where(clean, r[:-TAIL], jnp.nan) for r in results]

        return on

    return call
