"""What importing the packages loads, and that other distributions may stand beside them."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys

import pytest


def run_python(arguments, tmp_path, **environment):
    """Runs Python in a folder that is not the checkout; → its standard output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def modules_after(code, tmp_path):
    """The names of the modules that are loaded after a program."""
    return set(run_python(["-c", f"{code}\nimport sys; print(*sys.modules)"], tmp_path).split())


def test_import_is_light(tmp_path):
    needed = modules_after("import jax, flax.linen", tmp_path)
    loaded = modules_after("import zoo", tmp_path)
    assert len(loaded) <= 1.3 * len(needed)
    heavy = {"orbax.checkpoint", "matplotlib", "rich", "typer", "optax", "torch", "scipy"}
    heavy |= {"albumentations", "cv2", "grain", "sklearn", "tensorboardX"}
    assert not (loaded - needed) & heavy


def test_zoo_kernels_needs_jax_alone(tmp_path):
    needed = modules_after("import jax, jax.numpy", tmp_path)
    loaded = modules_after(
        "import zoo_kernels, jax.numpy as jnp\n"
        "zoo_kernels.conv(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4)))",
        tmp_path,
    )
    packages = {name.partition(".")[0] for name in loaded - needed} - sys.stdlib_module_names
    assert packages <= {"zoo_kernels", "jax", "jaxlib", "numpy"}


def installed_distributions():
    """The distributions of the environment that runs the tests."""
    return sorted(distribution.name for distribution in importlib.metadata.distributions())


STAND_IN = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "kernels"
version = "1.0"

[tool.setuptools]
packages = ["kernels", "pretrained"]
"""

BESIDE = """
import sys
from pathlib import Path

import jax.numpy as jnp
import kernels, pretrained, zoo, zoo_kernels, zoo_pretrained

for package in (kernels, pretrained, zoo, zoo_kernels, zoo_pretrained):
    assert Path(package.__file__).is_relative_to(sys.argv[1]), package
assert kernels.OWNER == pretrained.OWNER == "stand-in"
assert (zoo.kernels, zoo.pretrained) == (zoo_kernels, zoo_pretrained)
assert zoo.kernels.conv(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4))).max() == 27
lite = zoo.trained(zoo.EfficientNetLite0)
print(lite.info.weights, *sorted(lite.variables))
"""


@pytest.mark.slow
def test_works_beside_a_distribution_that_owns_kernels_and_pretrained(root, tmp_path):
    """Hugging Face publishes one named "kernels". Both are installed as pip does, offline."""
    ours, other = tmp_path / "ours", tmp_path / "other"
    ours.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(root / name, ours)
    for name in ("zoo", "kernels", "pretrained"):
        shutil.copytree(root / name, ours / name, ignore=shutil.ignore_patterns("__pycache__"))
        if name != "zoo":
            (other / name).mkdir(parents=True)
            (other / name / "__init__.py").write_text('OWNER = "stand-in"\n')
    (other / "pyproject.toml").write_text(STAND_IN)

    # Built by the setuptools of the extra `test`: an isolated build would download one.
    assert importlib.util.find_spec("setuptools"), "needs setuptools: install the extra `test`"
    site = tmp_path / "site"
    # Without --ignore-installed, pip would uninstall the jax-zoo that runs this test.
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index")
    options = ("--no-build-isolation", "--no-deps", "--ignore-installed", "--target", site)
    before = installed_distributions()
    run_python([*pip, *options, ours, other], tmp_path)
    assert installed_distributions() == before

    records = {
        distribution.name: {str(file) for file in distribution.files or ()}
        for distribution in importlib.metadata.distributions(path=[str(site)])
    }
    assert records.keys() == {"jax-zoo", "kernels"}
    assert {"kernels/__init__.py", "pretrained/__init__.py"} <= records["kernels"]
    assert "zoo_kernels/__init__.py" in records["jax-zoo"]
    assert not records["jax-zoo"] & records["kernels"]

    environment = {"PYTHONPATH": str(site), "ZOO_OFFLINE": "1"}
    printed = run_python(["-c", BESIDE, site], tmp_path, **environment)
    assert printed == "IMAGENET1K batch_stats params\n"
