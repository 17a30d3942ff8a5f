"""The house's rules that a reader cannot see in one file: imports point downwards."""

import ast

import pytest

# What each floor may import of the project.
FLOORS = {
    "kernels": {"kernels"},
    "pretrained": {"kernels", "pretrained"},
    "zoo": {"kernels", "pretrained", "zoo"},
}


def imports(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_point_downwards(root, floor):
    files = list((root / floor).rglob("*.py"))
    assert files
    for file in files:
        used = {name.partition(".")[0] for name in imports(file)}
        assert not used & (FLOORS.keys() - FLOORS[floor]), file


def test_kernels_need_jax_alone(root):
    for file in (root / "kernels").rglob("*.py"):
        for name in imports(file):
            top = name.partition(".")[0]
            assert (
                top in {"jax", "numpy", "kernels"} or top in __import__("sys").stdlib_module_names
            )


def test_only_the_triton_folder_touches_pallas(root):
    for floor in FLOORS:
        for file in (root / floor).rglob("*.py"):
            if "triton" not in file.parts:
                assert not any("pallas" in name for name in imports(file)), file
