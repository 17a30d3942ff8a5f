"""Other instruction sets, any number of threads, several callers at once.

Forked processes are not tested: jax itself may wait there for threads that are not.
"""

import concurrent.futures
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.kernels.native import in_another_process
from tests.kernels.native.in_another_process import images, network

pytestmark = pytest.mark.usefixtures("native_library")


def run_in_another_process(folder, root, *flags, **environment):
    """The vectors' length, and the digest of the results."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", in_another_process.__name__, str(folder), *flags],
        cwd=root,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": _python_path(root), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    lanes, digest = result.stdout.split()
    return int(lanes), digest


def _python_path(root):
    return os.pathsep.join(str(root / folder) for folder in (".", "kernels", "pretrained"))


@pytest.mark.parametrize(("march", "flag", "lanes"), [("x86-64-v3", "avx2", 8), ("x86-64", "", 4)])
def test_other_instruction_sets(native_library, root, march, flag, lanes):
    """Vectors of 8 values as of AVX2, and of 4 as of any x86-64."""
    if flag not in Path("/proc/cpuinfo").read_text():
        pytest.skip(f"this processor has no {flag}")
    got = run_in_another_process(native_library.parent, root, f"-march={march}")
    assert got[0] == lanes


def test_any_number_of_threads_gives_the_same_bits(native_library, root):
    """Alone, and with more threads than there are cores."""
    one, five = (
        run_in_another_process(native_library.parent, root, ZOO_NATIVE_THREADS=count)
        for count in ("1", "5")
    )
    assert one == five


def test_several_callers_at_once():
    """Of one program and of several, on more threads than there are cores."""
    run = network()
    batches = [images(count, size, seed) for seed, (count, size) in enumerate([(1, 57), (3, 32)])]
    want = [np.asarray(run(batch)) for batch in batches]

    def call(number):
        return all(
            np.array_equal(run(batches[(number + i) % 2]), want[(number + i) % 2])
            for i in range(10)
        )

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(16)))
