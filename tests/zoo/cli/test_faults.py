"""Whatever is wrong with arguments, files, settings or the network is told in a line."""

import os
import shlex
import shutil
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

import zoo
from tests.zoo.checkpoints import upstream
from tests.zoo.cli.shell import runner
from zoo_pretrained import fetch

MODEL = upstream.MODEL
NULL = Path("/dev/null")


@pytest.fixture(scope="module")
def good(tmp_path_factory, examples):
    """A photo, a file of weights, and a checkpoint of them."""
    folder = tmp_path_factory.mktemp("good")
    shutil.copy(examples / "cat.jpg", folder)
    (folder / "file.safetensors").write_bytes(upstream.body(num_classes=7))
    zoo.convert(folder / "file.safetensors", MODEL, folder / "checkpoint")
    return folder


@pytest.fixture
def shell(monkeypatch, capfd, tmp_path):
    """Runs the command line; a wrong line of words must fail in a line, and within seconds."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(fetch, "BACKOFF", 0.001)
    monkeypatch.setattr("zoo.runtime.compiler.cache_compilations", lambda: None)
    run = runner(monkeypatch, capfd)

    hung = []

    def end_pipes():
        """A reader of a pipe waits for a writer for ever, in whatever thread."""
        for place in tmp_path.rglob("pipe"):
            hung.append(place)
            writer = os.open(place, os.O_RDWR | os.O_NONBLOCK)
            time.sleep(0.5)
            os.close(writer)

    def fail(*words, codes=(1, 2)):
        watchdog = threading.Timer(5, end_pipes)
        watchdog.start()
        code, out, err = run(*words)
        watchdog.cancel()
        assert not hung
        assert code in codes, (code, out, err)
        assert all(line.startswith("zoo: ") for line in err.splitlines()), err
        errors = [line for line in err.splitlines() if " is skipped: " not in line]
        assert len(errors) == bool(code), err
        assert not list((tmp_path / "cwd").iterdir())
        return code, out, err

    return fail


def no_file(folder):
    return folder / "none"


def empty_folder(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def full_folder(folder):
    (folder / "full").mkdir()
    (folder / "full" / "notes.txt").write_text("hello")
    return folder / "full"


def pipe(folder):
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def device(folder):
    (folder / "null").symlink_to("/dev/null")
    return folder / "null"


def text(folder):
    (folder / "text").write_text("hello")
    return folder / "text"


def empty_file(folder):
    (folder / "nothing").touch()
    return folder / "nothing"


def circle(folder):
    (folder / "circle").symlink_to(folder / "circle")
    return folder / "circle"


def long_name(folder):
    return folder / ("n" * 300)


def below_a_file(folder):
    return text(folder) / "below"


def hostile_name(folder):
    return folder / "\x1b[2J[red]\n%s{}\udcff"


def unreadable(folder):
    file = text(folder)
    file.chmod(0)
    return file


PATHS = [
    no_file, empty_folder, full_folder, pipe, device, text, empty_file, circle, long_name,
    below_a_file, hostile_name, unreadable,
]  # fmt: skip
COMMANDS = {
    "classify": "classify {path}",
    "classify --weights": "classify {good}/cat.jpg --model SqueezeNet1_1 --weights {path}",
    "classify an archive": "classify {good}/cat.jpg --model SqueezeNet1_1 --weights {path}.tar",
    "convert": "convert {path} --model SqueezeNet1_1 --out {new}",
    "convert --labels": "convert {file} --model SqueezeNet1_1 --out {new} --labels {path}",
    "convert --out": "convert {file} --model SqueezeNet1_1 --out {path}",
    "convert --overwrite": "convert {file} --model SqueezeNet1_1 --out {path} --overwrite",
    "export": "export {path} --out {new}.safetensors",
    "export --like": "export {good}/checkpoint --out {new} --like {path}",
    "export --out": "export {good}/checkpoint --out {path}",
    "publish": "publish {path} --to {new}",
    "publish --to": "publish {good}/checkpoint --to {path}",
    "fetch": "fetch SqueezeNet1_1:{path}",
}  # fmt: skip
# What is no fault: it makes what is not there.
MAKES = {("convert --out", no_file), ("convert --overwrite", no_file), ("export --out", no_file)}
MAKES |= {("publish --to", path) for path in (no_file, empty_folder, full_folder, hostile_name)}
MAKES |= {("export --out", hostile_name)}


# A photo's pipe is waited for, as the shell's <(command) needs.
FAULTS = [(c, p) for c in COMMANDS for p in PATHS if (c, p) != ("classify", pipe)]


@pytest.mark.parametrize(
    ("command", "path"), FAULTS, ids=lambda value: getattr(value, "__name__", value)
)
def test_files(command, path, shell, good, tmp_path):
    before = NULL.stat().st_ino
    (tmp_path / "faulty").mkdir()
    given = path(tmp_path / "faulty")
    places = {
        "path": given, "good": good, "new": tmp_path / "new", "file": good / "file.safetensors"
    }  # fmt: skip
    words = [word.format_map(places) for word in COMMANDS[command].split()]
    code, _, err = shell(*words, codes=(0,) if (command, path) in MAKES else (1, 2))
    assert "\x1b" not in err
    if code:
        assert not (tmp_path / "new").exists()
        names = (given.name[:20], given.parent.name, "--labels")
        assert any(name in err for name in names)
    assert stat.S_ISCHR(NULL.stat().st_mode)
    assert NULL.stat().st_ino == before


WORDS = [
    "foo",
    "--foo",
    "classify",
    "classify {good}/cat.jpg --model ''",
    "classify {good}/cat.jpg --model ResNet",
    "classify {good}/cat.jpg --model [red]",
    "classify {good}/cat.jpg --model DenseNet264",
    "classify {good}/cat.jpg --weights none",
    "classify {good}/cat.jpg --weights {good}/checkpoint",
    "classify {good}/cat.jpg --top 0",
    "classify {good}/cat.jpg --top 1e3",
    "classify {good}/cat.jpg --batch-size -3",
    "classify http://[bad",
    "classify http://[bad]/cat.jpg",
    "classify http://",
    "classify ftp://host/cat.jpg",
    "classify file:///etc/passwd",
    "classify https://nowhere.invalid/cat.jpg",
    "classify ''",
    "list vit",
    "list [",
    "list --family vit",
    "list DenseNet264 --trained",
    "list a b",
    "describe",
    "describe ResNet",
    "describe ''",
    "describe VGG11 --size 3",
    "describe VGG11 --size 0",
    "describe VGG11 --size 99999999999999999999",
    "describe VGG11 --depth 0",
    "bench ResNet",
    "bench VGG11 --size 3",
    "bench VGG11 --batch 0",
    "bench VGG11 --batch 99999999999999999999",
    "bench SqueezeNet1_1 --batch 999999999 --size 512 --pass inference --plain",
    "bench VGG11 --rounds 1",
    "bench VGG11 --pass none",
    "bench VGG11 --dtype int8",
    "convert",
    "convert {file} --model SqueezeNet1_1",
    "convert {file} --model SqueezeNet1_1 --out {new} --source theano",
    "convert {file} --model SqueezeNet1_1 --out {new} --source keras",
    "convert {file} --model SqueezeNet1_1 --out {new} --inside none",
    "convert {file} --model SqueezeNet1_1 --out {new} --inside .",
    "convert {file} --model SqueezeNet1_1 --out {new} --ignore none",
    "convert {file} --model SqueezeNet1_1 --out {new} --num-classes 0",
    "convert {file} --model SqueezeNet1_1 --out {new} --num-classes 99999999999999999999",
    "convert {file} --model SqueezeNet1_1 --out {new} --argument x",
    "convert {file} --model SqueezeNet1_1 --out {new} --argument x=1",
    "convert {file} --model SqueezeNet1_1 --out {new} --argument dropout_rate=NaN",
    "convert {file} --model SqueezeNet1_1 --out {new} --argument dropout_rate=[[[]]]",
    "convert {file} --model SqueezeNet1_1 --out {new} --argument dtype=8",
    "convert {file} --model SqueezeNet1_1 --out {new} --argument fused=true",
    "convert {file} --model SqueezeNet1_1 --out {new} --argument num_classes=7",
    "convert {file} --model SqueezeNet1_1 --out {new} --argument dropout_rate={deep}",
    "convert {file} --model SqueezeNet1_1 --out {new} --kernel-convention none",
    "convert {file} --model SqueezeNet1_1 --out ''",
    "convert {file} --model '' --out {new}",
    "convert '' --model SqueezeNet1_1 --out {new}",
    "export SqueezeNet1_1 --out {new}.pth",
    "export SqueezeNet1_1:none --out {new}",
    "export SqueezeNet1_1 --out {new}/below/x",
    "export none --out {new}",
    "export '' --out {new}",
    "export : --out {new}",
    "export {good}/checkpoint --out ''",
    "export {good}/checkpoint --out {good}",
    "publish {good}/checkpoint --to ''",
    "publish {good}/checkpoint --to http://host/store",
    "publish {good}/checkpoint --to http://[bad",
    "publish {good}/checkpoint --to ://",
    "publish {good}/checkpoint --to ://x",
    "publish {good}/checkpoint --to gs://",
    "publish {good}/checkpoint --to memory:///",
    "publish {good}/checkpoint --to none://host",
    "publish {good}/checkpoint --to s3://[bad",
    "publish {good}/checkpoint --to hf://nobody/nothing",
    "publish {good}/checkpoint --to gs://bucket/zoo",
    "publish {good}/cat.jpg --to {new}",
    "fetch",
    "fetch ''",
    "fetch :",
    "fetch ResNet",
    "fetch SqueezeNet1_1:none",
    "fetch SqueezeNet1_1:../../etc",
    "fetch SqueezeNet1_1:http://[bad",
    "fetch SqueezeNet1_1:http://[bad]/x.tar",
    "fetch SqueezeNet1_1:http://host:99999999/x.tar",
    "fetch SqueezeNet1_1:http://host/x.tar",
    "fetch SqueezeNet1_1:none://host/x.tar",
    "fetch SqueezeNet1_1:https://nowhere.invalid/x.tar#sha256=none",
    "fetch SqueezeNet1_1",
    "cache none",
    "cache [",
]


@pytest.mark.parametrize("line", WORDS)
def test_words(line, shell, good, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    places = {
        "good": good, "file": good / "file.safetensors", "new": tmp_path / "new",
        "deep": "[" * 100_000,
    }  # fmt: skip
    shell(*shlex.split(line.format_map(places)))
    assert not (tmp_path / "new").exists()


def no_network(*_, **__):
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


SETTINGS = [
    *[("ZOO_CACHE", value) for value in ("~nosuchuser/x", "{good}/cat.jpg", "{good}/cat.jpg/x")],
    *[("ZOO_CACHE", value) for value in ("/dev/null", "/proc/none", "{good}/" + "n" * 300)],
    *[("ZOO_STORES", value) for value in ("http://[bad", "http://", "://", "none://x", "ftp://x")],
    *[("ZOO_STORES", value) for value in ("gs://", "s3://[bad", "hf://x", "memory://", "~nouser")],
    *[("ZOO_STORES", value) for value in ("{good}/cat.jpg", "{good}/none", "/dev/null", "\x1b[2J")],
    *[("ZOO_STORES", value) for value in ("http://me:secret@nowhere.invalid/x?secret", ",,", "[")],
    *[("ZOO_TIMEOUT", value) for value in ("", "x", "-1", "0", "nan", "inf", "1e999")],
    *[("ZOO_OFFLINE", value) for value in ("", "0", "yes", "[")],
    *[("HF_ENDPOINT", value) for value in ("http://[bad", "none", "ftp://x", "://")],
    *[("HTTPS_PROXY", value) for value in ("http://[bad", "none", "ftp://x", "://", "http://")],
    *[("COLUMNS", value) for value in ("0", "-1", "x", "1")],
]


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_settings(name, value, shell, good, monkeypatch):
    """Nothing can be fetched; lists and the cache leave out what is not there."""
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setenv(name, value.format(good=good))
    for words in (["fetch", MODEL], ["fetch", "ResNet18"], ["fetch", f"{MODEL}:none"]):
        assert "secret" not in shell(*words)[2]
    shell("classify", good / "cat.jpg", "--model", "ResNet18")
    for words in (["cache"], ["cache", "--prune"], ["list", MODEL, "--trained"], ["list"]):
        _, _, err = shell(*words, codes=(0, 1))
        assert "secret" not in err
        assert "\x1b" not in err
