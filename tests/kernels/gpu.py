"""Lowering for a GPU that need not be present."""

import jax


def lower_for_gpu(f, *arrays):
    """The StableHLO of a function for an H100."""
    gpu = jax.sharding.AbstractDevice(device_kind="NVIDIA H100", num_cores=132, platform="gpu")
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=gpu)
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.jit(f).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
