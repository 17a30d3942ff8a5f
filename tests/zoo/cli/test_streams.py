"""The command line where output cannot be written: closed pipes, missing streams, full disks."""

import json
import os
import subprocess
import sys

import pytest

import zoo
from tests.zoo.checkpoints import upstream

MODEL = upstream.MODEL
# Starts each command in a fork, as importing jax takes seconds.
FORK_SERVER = """
import json, os, resource, signal, sys, warnings
import zoo.cli

for line in sys.stdin:
    job = json.loads(line)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jax's threads, which do not matter here
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        sys.stdin = open(os.devnull)
        os.dup2(sys.stdin.fileno(), 0)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        exec(job["before"])
        sys.argv = ["zoo", *job["words"]]
        zoo.cli.main()
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
CLOSED_PIPE = "ours, theirs = os.pipe(); os.close(ours); os.dup2(theirs, 1)"
FULL = "os.dup2(os.open('/dev/full', os.O_WRONLY), {number})"
# A process may write no file of more than 100 kB, as if the disk were full.
FULL_DISK = (
    "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
)


@pytest.fixture(scope="module")
def server():
    with subprocess.Popen(
        [sys.executable, "-c", FORK_SERVER],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), JAX_PLATFORMS="cpu"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def run(server, tmp_path):
    """Runs a command after some statements; → exit code, standard output, standard error."""

    def run(before, *words):
        job = {"before": before, "words": [str(word) for word in words]}
        job |= {name: str(tmp_path / name) for name in ("out", "err")}
        server.stdin.write(json.dumps(job) + "\n")
        code = int(server.stdout.readline())
        out, err = ((tmp_path / name).read_text() for name in ("out", "err"))
        assert "Traceback" not in err
        assert "Exception ignored" not in err
        return code, out, err

    return run


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A file of weights, and a checkpoint of them."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "file.safetensors").write_bytes(upstream.body(num_classes=7))
    zoo.convert(folder / "file.safetensors", MODEL, folder / "checkpoint")
    return folder


@pytest.mark.parametrize("words", [["list"], ["describe", "VGG11"], ["--help"], ["cache"]])
def test_a_reader_that_closes_the_pipe_is_no_fault_to_tell(words, run):
    code, _, err = run(CLOSED_PIPE, *words)
    assert (code, err) == (1, "")


@pytest.mark.parametrize("words", [["list"], ["describe", "VGG11"], ["--help"], ["cache"]])
def test_a_full_disk_behind_standard_output(words, run):
    code, _, err = run(FULL.format(number=1), *words)
    assert (code, err) == (1, "zoo: the output: No space left on device\n")


@pytest.mark.parametrize("words", [["list"], ["fetch", "none"], ["foo"], ["classify", "-"]])
@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_streams_that_the_process_does_not_have(name, words, run):
    number = ("stdin", "stdout", "stderr").index(name)
    want = {"list": 0, "fetch": 1, "foo": 2, "classify": 1}[words[0]]
    code, out, err = run(f"os.close({number}); sys.{name} = None", *words)
    assert code == want
    assert bool(out) == (words == ["list"] and name != "stdout")
    assert bool(err) == (words != ["list"] and name != "stderr")


def test_a_full_disk_behind_standard_error(run):
    assert run(FULL.format(number=2), "fetch", "none")[0] == 1
    assert run(FULL.format(number=2), "foo")[0] == 2


@pytest.mark.parametrize(
    "line",
    [
        "convert {good}/file.safetensors --model SqueezeNet1_1 --out {new}/it",
        "export {good}/checkpoint --out {new}/it.safetensors",
        "publish {good}/checkpoint --to {new}/it",
    ],
)
def test_a_full_disk_leaves_nothing_half_written(line, run, good, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    code, out, err = run(FULL_DISK, *line.format(good=good, new=new).split())
    assert (code, out) == (1, "")
    assert err.startswith("zoo: ")
    assert len(err.splitlines()) == 1
    assert "large" in err or "space" in err
    assert not [place for place in new.rglob("*") if place.is_file() and place.stat().st_size]


def test_completion_is_installed_and_completes(tmp_path):
    """In a shell of its own, whose home is empty."""
    home, path = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    path.mkdir()
    (path / "zoo").write_text(f'#!/bin/sh\nexec {sys.executable} -m zoo "$@"\n')
    (path / "zoo").chmod(0o755)
    script = """
        zoo --install-completion && source ~/.bashrc
        COMP_WORDS=(zoo con); COMP_CWORD=1; _zoo_completion zoo; echo "got ${COMPREPLY[@]}"
        zoo --show-completion | cmp - ~/.bash_completions/zoo.sh
        """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={
            "HOME": str(home),
            "SHELL": "/bin/bash",
            "PATH": f"{path}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "got convert\n" in done.stdout, done.stderr
    assert "bash completion installed" in done.stdout
    assert "Traceback" not in done.stderr
