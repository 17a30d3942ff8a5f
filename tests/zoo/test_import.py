"""What `import zoo` costs, and what it says when other packages stand in its way."""

import os
import subprocess
import sys


def python(code, tmp_path, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def modules_after(code, tmp_path):
    done = python(f"{code}\nimport sys; print(*sys.modules)", tmp_path)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_is_light(tmp_path):
    needed = modules_after("import jax, flax.linen", tmp_path)
    loaded = modules_after("import zoo", tmp_path)
    assert len(loaded) <= 1.3 * len(needed)
    heavy = {"orbax.checkpoint", "matplotlib", "rich", "typer", "optax", "torch", "scipy"}
    assert not (loaded - needed) & heavy
