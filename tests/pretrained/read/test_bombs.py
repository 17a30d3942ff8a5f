"""Any file of up to 10 MB is read or refused within 20 seconds and 2 GB, and in one line."""

import os
import subprocess
import sys

import pytest

from tests.pretrained.read import bombs

SECONDS, BYTES = 20, 2 << 30

# Reads each file that standard input names, and prints its seconds, the peak of memory, and what
# came of it. The limit on its address space, which also counts what is reserved and never used, is
# there to spare the machine if the test fails.
CHILD = """
import resource, shutil, sys, tempfile, time
from pathlib import Path
import h5py
from zoo_pretrained import archive, read, remote_store

resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
for line in sys.stdin:
    path, start = Path(line[:-1]), time.process_time()
    try:
        if path.is_dir():
            remote_store.read_index(str(path))
        elif path.suffix == ".tar":
            archive.unpack_archive(path, path.with_suffix(".out"))
        else:
            read.metadata(path)
            for array in read.arrays(path).values():
                array.tobytes()
        result = "read"
    except (archive.ArchiveError, read.ReadError, remote_store.StoreError) as error:
        result = f"refused: {error}"
    shutil.rmtree(path.with_suffix(".out"), ignore_errors=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(time.process_time() - start, peak, result, sep="\\t", flush=True)
"""
# The others are refused.
READ = {
    "tensors.pth",
    "one dict in many places.pth",
    "one dict in many places (legacy).pth",
    "doubling places.pth",
    "tensors.safetensors",
    "layers.h5",
    "references.jld2",
    "files.tar",
    "long names.tar",
    "models",
}


@pytest.mark.slow
def test_hostile_files_cost_seconds_and_less_than_2_gb(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    costs, was_read = {}, set()
    with child:
        for path in bombs.write_all(tmp_path):
            assert path.is_dir() or path.stat().st_size <= bombs.MAX_FILE, path.name
            child.stdin.write(f"{path}\n")
            line = child.stdout.readline()
            assert line, f"the process ended while it read {path.name}"
            seconds, peak, result = line.rstrip("\n").split("\t", 2)
            costs[path.name] = float(seconds), int(peak)
            assert result.isprintable(), path.name
            if result == "read":
                was_read.add(path.name)
            if path.is_file():
                path.unlink()
        child.stdin.close()
    assert child.returncode == 0
    assert max(seconds for seconds, _ in costs.values()) < SECONDS, costs
    assert max(peak for _, peak in costs.values()) < BYTES, costs
    assert was_read == READ
    assert len(costs) >= 70
