"""The code blocks of README.md and docs/ run as they are written, each page in a fresh folder.

Python blocks of a page share one namespace, as a reader's session would. `zoo` commands run in this
process, which is quick; those of README.md in a shell, where `zoo` is this copy's. A block below a
comment `<!-- not run: reason -->` is only checked: Python is parsed, a `zoo` command's options and
values are read by the command line, a make target must exist.
"""

import ast
import os
import shlex
import shutil
import subprocess
import sys

import pytest
import typer

from tests.conftest import ROOT
from tests.docs.pages import PAGES, Block, code_blocks
from zoo import cli

BLOCKS = [block for page in PAGES for block in code_blocks(page)]
# Their blocks are only checked: they install, and `make test` would run this test.
NOT_RUN_HERE = ("make", "pip")


def page_name(page):
    return str(page.relative_to(ROOT))


def commands(block):
    """A shell block's commands, without comments: the variables set before one, and its words."""
    for line in block.code.splitlines():
        words = shlex.split(line, comments=True)
        count = next((i for i, word in enumerate(words) if "=" not in word), len(words))
        if words:
            yield dict(word.split("=", 1) for word in words[:count]), words[count:]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: a fresh folder with the example photos."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")  # a block that downloads must be marked
    return tmp_path


@pytest.mark.notebook
@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_blocks_run(page, folder, monkeypatch, capfd):
    namespace = {"__name__": "__main__"}
    run_shell = run_in_shell if page == ROOT / "README.md" else run_here
    for block in code_blocks(page):
        if block.reason is not None or not block.language:
            continue
        if block.language == "python":
            lines = "\n" * (block.line - 1)  # so that a traceback names the page's line
            exec(compile(lines + block.code, block.page, "exec"), namespace)
        elif not all(words[0] in NOT_RUN_HERE for _, words in commands(block)):
            run_shell(block, monkeypatch, capfd)


def run_here(block, monkeypatch, capfd):
    # With this variable set, nothing configures a cache of compiled programs for the whole process.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    for variables, (program, *words) in commands(block):
        assert program == "zoo", f"{block.location}: {program} is not known to this test"
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["zoo", *words])
            try:
                cli.main()
                code = 0
            except SystemExit as stop:
                code = stop.code
        _, err = capfd.readouterr()
        assert not code, f"{block.location}: zoo {shlex.join(words)}:\n{err}"


def run_in_shell(block, monkeypatch, capfd):
    packages = [str(ROOT / name) for name in ("", "kernels", "pretrained")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(packages)}
    zoo = f'zoo() {{ {shlex.quote(sys.executable)} -m zoo "$@"; }}'
    script = f"set -e\n{zoo}\n{block.code}"
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{block.location}:\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.location)
def test_blocks_are_well_formed(block):
    assert block.language in ("sh", "python", ""), f"{block.language} is not known to this test"
    if block.language == "python":
        ast.parse(block.code)
    elif block.language == "sh":
        check_shell(block)


def check_shell(block):
    """Fails where a command, an option or a make target is unknown."""
    group = typer.main.get_command(cli.app)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for _, (program, *words) in commands(block):
        if program == "make":
            assert all(f"\n{target}:" in makefile for target in words), f"{block.location}: {words}"
        elif program == "zoo":
            assert words[0] in group.commands, f"{block.location}: there is no zoo {words[0]}"
            group.commands[words[0]].make_context(words[0], words[1:])  # raises for what is wrong
        else:
            assert program == "pip", f"{block.location}: {program} is not known to this test"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("zoo classify --no-such-option", "no-such-option"),
        ("zoo describe ResNet50 --depth 0", "greater than or equal to 1"),
        ("zoo nothing", "there is no zoo nothing"),
        ("make nothing", "nothing"),
        ("curl https://example.org", "curl is not known"),
    ],
)
def test_what_is_wrong_is_found(command, message):
    with pytest.raises(Exception, match=message):
        check_shell(Block(ROOT / "README.md", 1, "sh", command, None))


def test_few_blocks_are_marked_not_run():
    marked = [block for block in BLOCKS if block.reason is not None]
    print(*(f"{block.location} is not run: {block.reason}" for block in marked), sep="\n")
    assert 0 < len(marked) < len(BLOCKS) / 3
    comments = sum(page.read_text(encoding="utf-8").count("<!-- not run") for page in PAGES)
    assert comments == len(marked), "a comment that is not right above a code block"
