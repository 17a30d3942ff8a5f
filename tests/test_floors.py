"""The rules of the layout that a reader cannot see in one file: imports point downwards."""

import ast
import sys

import pytest

# Each package's folder, and what it may import of the project.
FLOORS = {
    "zoo_kernels": ("kernels/zoo_kernels", {"zoo_kernels"}),
    "zoo_pretrained": ("pretrained/zoo_pretrained", {"zoo_kernels", "zoo_pretrained"}),
    "zoo": ("zoo", {"zoo_kernels", "zoo_pretrained", "zoo"}),
}


def python_files(root, package):
    files = list((root / FLOORS[package][0]).rglob("*.py"))
    assert files
    return files


def imports(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("package", FLOORS)
def test_imports_point_downwards(root, package):
    for file in python_files(root, package):
        used = {name.partition(".")[0] for name in imports(file)}
        assert not used & (FLOORS.keys() - FLOORS[package][1]), file


def test_kernels_need_jax_alone(root):
    for file in python_files(root, "zoo_kernels"):
        for name in imports(file):
            top = name.partition(".")[0]
            assert top in {"jax", "numpy", "zoo_kernels"} or top in sys.stdlib_module_names, file


@pytest.mark.parametrize("package", FLOORS)
def test_only_files_named_for_it_touch_pallas(root, package):
    for file in python_files(root, package):
        if not file.name.startswith("triton_") and "pallas" not in file.parts:
            jax_names = [name for name in imports(file) if name.startswith("jax")]
            assert not any("pallas" in name for name in jax_names), file
