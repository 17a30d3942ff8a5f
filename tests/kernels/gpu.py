"""Lowering for a GPU that need not be present."""

import jax


def lower_for_gpu(f, *arrays):
    """The StableHLO of a function for a GPU."""
    return jax.jit(f).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
