"""Operators on 8 devices, which XLA simulates on the host in a process of their own."""

import os
import subprocess
import sys

import pytest

CHECKS = ("explicit", "jit", "shard_map")


@pytest.mark.slow
@pytest.mark.parametrize("check", [*CHECKS, "kernels.jit"])
def test_on_eight_devices(check, root):
    run(root, check)


@pytest.mark.triton
@pytest.mark.parametrize("check", CHECKS)
def test_triton_kernels_on_eight_devices(check, root):
    run(root, check, "triton")


def run(root, check, *implementation):
    """Runs eight_devices.py in a new process: the number of devices is fixed when jax starts."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "tests.kernels.core.eight_devices",
            check,
            *implementation,
        ],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{check}: all operators agree" in done.stdout
