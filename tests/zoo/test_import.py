"""What `import zoo` costs, and what it says when other packages stand in its way."""

import os
import subprocess
import sys

import pytest


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


@pytest.mark.parametrize("part", ["kernels", "pretrained"])
def test_a_foreign_package_of_the_same_name(part, tmp_path):
    (tmp_path / part).mkdir()
    (tmp_path / part / "__init__.py").write_text("")
    done = python("import zoo", tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: jax-zoo needs its own package {part!r}")
    assert str(tmp_path / part / "__init__.py") in last


def test_a_foreign_package_that_does_not_import(tmp_path):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("import nothing_of_that_name")
    done = python("import zoo", tmp_path, PYTHONPATH=str(tmp_path))
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: jax-zoo needs its package 'kernels'")
    assert "nothing_of_that_name" in last


def test_the_command_line_says_so_too(tmp_path):
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "__init__.py").write_text("")
    done = python("from zoo.cli import main; main()", tmp_path, PYTHONPATH=str(tmp_path))
    assert "another one shadows it" in done.stderr
