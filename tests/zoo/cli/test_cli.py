"""`zoo classify`, `list`, `describe`: output, messages, exit codes."""

import contextlib
import functools
import http.server
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

import zoo
from tests.zoo.cli.shell import runner
from zoo_kernels.core import compiler
from zoo_pretrained import catalogue


@pytest.fixture
def shell(monkeypatch, capfd, tmp_path, lite):
    """Runs the command line in this process; → exit code, standard output, standard error."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    # JAX's setting would stay.
    monkeypatch.setattr("zoo.runtime.compiler.cache_compilations", lambda: None)
    monkeypatch.setattr(
        zoo,
        "trained",
        lambda model, weights=None: (
            lite if model == lite.info.model and not weights else ORIGINAL(model, weights=weights)
        ),
    )
    return runner(monkeypatch, capfd)


ORIGINAL = zoo.trained


def test_a_table_with_the_likeliest_classes(shell, examples):
    code, out, err = shell("classify", examples / "cat.jpg", examples / "espresso.jpg")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 12  # a name and five classes, twice
    assert lines[0] == str(examples / "cat.jpg")
    assert any("tiger cat" in line and "━" in line and "%" in line for line in lines[1:6])
    assert "espresso" in lines[7]


def test_top_limits_the_classes(shell, examples):
    _, out, _ = shell("classify", examples / "cat.jpg", "--top", "2")
    assert len(out.splitlines()) == 3


def test_json_is_one_object_a_line(shell, examples):
    code, out, _ = shell("classify", examples, "--json", "--top", "3", "--batch-size", "2")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [Path(row["file"]).name for row in rows] == [
        "cat.jpg",
        "espresso.jpg",
        "rocket.jpg",
    ]
    for row in rows:
        assert row["model"] == "EfficientNetLite0"
        assert [set(c) for c in row["classes"]] == [{"label", "synset", "probability"}] * 3
    assert rows[1]["classes"][0]["synset"] == "n07920052"


def test_batches_do_not_change_the_result(shell, examples):
    """Sizes that divide the number of photos, and sizes whose last batch is padded."""
    several = []
    for size in (1, 2, 32):
        _, out, _ = shell("classify", examples, "--json", "--batch-size", size)
        several.append([json.loads(line)["classes"] for line in out.splitlines()])
    for other in several[1:]:
        for a, b in zip(several[0], other, strict=True):
            assert [c["label"] for c in a[:3]] == [c["label"] for c in b[:3]]
            assert a[0]["probability"] == pytest.approx(b[0]["probability"], rel=1e-4)


def test_bad_files_are_named_and_the_others_still_classified(shell, examples, tmp_path):
    good = tmp_path / "good.jpg"
    shutil.copy(examples / "espresso.jpg", good)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "half.jpg").write_bytes(good.read_bytes()[:9000])
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "bomb.ppm").write_bytes(b"P6 40000 40000 255\n" + b"\0" * 99)
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    bad = ["none", "empty", "text", "half", "loop"]
    files = [f"{name}.jpg" for name in bad] + ["folder", "bomb.ppm", "dot.png"]
    code, out, err = shell("classify", *[tmp_path / name for name in files], good)
    assert code == 1
    assert out.splitlines()[0] == str(good)
    assert "espresso" in out.splitlines()[1]
    lines = err.splitlines()
    assert len(lines) == len(files)
    for line, name in zip(lines, files, strict=True):
        assert line.startswith(f"zoo: {tmp_path / name} ")


def test_bad_files_in_json_have_an_error(shell, examples, tmp_path):
    code, out, err = shell("classify", tmp_path / "none.jpg", examples / "cat.jpg", "--json")
    first, second = (json.loads(line) for line in out.splitlines())
    assert code == 1
    assert "No such file" in first["error"]
    assert "classes" in second
    assert len(err.splitlines()) == 1


def test_only_bad_files(shell, tmp_path):
    code, out, err = shell("classify", tmp_path)
    assert (code, out, err) == (1, "", f"zoo: {tmp_path} is a folder without images\n")


def test_a_wrong_model_suggests_the_nearest(shell, examples):
    code, out, err = shell("classify", examples / "cat.jpg", "--model", "EficientNetLite0")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "'EficientNetLite0'; did you mean EfficientNetLite0" in err


def test_a_model_without_weights(shell, examples):
    code, _, err = shell("classify", examples / "cat.jpg", "--model", "DenseNet264")
    assert code == 1
    assert err.startswith("zoo: there are no weights for DenseNet264; there are for: DenseNet121, ")


def test_a_damaged_checkpoint(shell, examples, tmp_path, monkeypatch, capfd):
    copy = tmp_path / "copy"
    original = catalogue.embedded_checkpoint_path(
        catalogue.entries()["EfficientNetLite0"]["IMAGENET1K"]
    )
    shutil.copytree(original, copy)
    largest = max(copy.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    with largest.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    monkeypatch.setattr(catalogue, "embedded_checkpoint_path", lambda entry: copy)
    monkeypatch.setattr(zoo, "trained", ORIGINAL)
    code, out, err = shell("classify", examples / "cat.jpg")
    assert (code, out) == (1, "")
    assert err.startswith(f"zoo: the checkpoint {copy} is damaged")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--top", "0"],
        ["--top", "1001"],
        ["--top", "many"],
        ["--batch-size", "-1"],
        ["--batch-size", "0"],
        ["--no-such-option"],
    ],
)
def test_usage_errors(shell, examples, words):
    code, out, err = shell("classify", examples / "cat.jpg", *words)
    assert (code, out) == (2, "")
    assert words[0] in err


def test_file_names_that_are_long_or_not_printable(shell, examples, tmp_path):
    """Each name is one line, whatever the terminal's width; unprintable characters are escaped."""
    names = ["n" * 200 + ".jpg", os.fsdecode(b"caf\xe9.jpg"), "[bold]red.jpg", "two\nlines.jpg"]
    for name in names:
        shutil.copy(examples / "espresso.jpg", tmp_path / name)
    code, out, err = shell("classify", *[tmp_path / name for name in names], "--top", "1")
    assert (code, err) == (0, "")
    shown = [Path(line).name for line in out.splitlines()[::2]]
    assert shown == [names[0], "caf\\udce9.jpg", "[bold]red.jpg", "two\\nlines.jpg"]
    _, _, err = shell("classify", tmp_path / "gone\n.jpg")
    assert err.count("\n") == 1


class Stdin:
    def __init__(self, data):
        self.buffer = io.BytesIO(data)


def test_a_photo_from_standard_input(shell, examples, monkeypatch):
    _, want, _ = shell("classify", examples / "cat.jpg", "--top", "1")
    monkeypatch.setattr(sys, "stdin", Stdin((examples / "cat.jpg").read_bytes()))
    code, out, err = shell("classify", "-", "--top", "1")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "-"
    assert out.splitlines()[1] == want.splitlines()[1]
    monkeypatch.setattr(sys, "stdin", Stdin(b""))
    code, out, err = shell("classify", "-")
    assert (code, out) == (1, "")
    assert err == "zoo: - is empty\n"


def test_a_photo_from_the_web(shell, examples, tmp_path, monkeypatch):
    shutil.copy(examples / "cat.jpg", tmp_path)
    (tmp_path / "notes.txt").write_text("no photo")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        code, out, err = shell("classify", f"{host}/cat.jpg?secret", f"{host}/notes.txt", "--json")
        server.shutdown()
    first, second = map(json.loads, out.splitlines())
    assert code == 1
    assert "cat" in first["classes"][0]["label"]
    assert second["error"] in err
    assert f"{host}/notes.txt is not an image" in err
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    code, out, err = shell("classify", f"{host}/cat.jpg?secret")
    assert (code, out) == (1, "")
    assert "ZOO_OFFLINE" in err
    assert "secret" not in err


def test_version(shell):
    assert shell("--version") == (0, f"jax-zoo {zoo.__version__}\n", "")


def test_no_photos(shell):
    assert shell("classify")[0] == 2


def test_list_detectors(shell):
    heading, row = shell("list", "ssd300*", "--task", "detection")[1].splitlines()
    assert heading.split() == ["model", "parameters", "multiply-adds", "box", "mAP"]
    assert row.split() == ["SSD300_VGG16", "35.6", "M", "34.86", "G", "25.1"]
    rows = [
        json.loads(line) for line in shell("list", "--task", "detection", "--json")[1].splitlines()
    ]
    assert [row["model"] for row in rows] == zoo.list_models(task="detection")
    assert all(20 < row["box_map"] < 60 and "top1" not in row for row in rows)
    heading, row = shell("list", "fcos", "--task", "detection", "--trained")[1].splitlines()
    assert heading.split()[:4] == ["model", "weights", "box", "mAP"]
    assert row.split()[:4] == ["FCOS_ResNet50_FPN", "COCO_V1", "39.2", "upstream"]
    code, _, err = shell("list", "ssd*")
    assert (code, err) == (
        1, "zoo: no model matches 'ssd*'; zoo list 'ssd*' --task detection lists some\n"
    )  # fmt: skip
    code, _, err = shell("list", "vgg16", "--task", "detection", "--family", "resnet")
    assert code == 2
    assert "family must be one of faster_rcnn" in err
    assert shell("list", "--task", "pose")[0] == 2


def test_list(shell):
    code, out, err = shell("list", "*lite4")
    assert (code, err) == (0, "")
    heading, row = out.splitlines()
    assert heading.split() == ["model", "parameters", "multiply-adds", "top", "1"]
    assert row.split() == ["EfficientNetLite4", "13.0", "M", "2.55", "G", "81.5"]
    assert [json.loads(line) for line in shell("list", "vgg19", "--json")[1].splitlines()] == [
        {"model": name, "parameters": parameters, "multiply_adds": 19632062464, "top1": top1}
        for name, parameters, top1 in (
            ("VGG19", 143667240, 72.376), ("VGG19_BN", 143678248, 74.218)
        )
    ]  # fmt: skip
    lines = shell("list", "lite4")[1].splitlines()  # a part of the name
    assert lines == [heading, row]
    heading, first, *more = shell("list", "*lite0", "--trained")[1].splitlines()
    assert heading.split() == [
        "model",
        "weights",
        "top",
        "1",
        "where",
        "size",
        "location",
        "licence",
    ]
    assert first.split()[:4] == ["EfficientNetLite0", "IMAGENET1K", "75.1", "embedded"]
    folder = catalogue.embedded_checkpoint_path(
        catalogue.entries()["EfficientNetLite0"]["IMAGENET1K"]
    )
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert f"  {held / 1e6:.1f} MB  {folder}  Apache-2.0" in first
    assert all("upstream" in line and "hf://timm/" in line for line in more)
    rows = [
        json.loads(line)
        for line in shell("list", "vgg19*", "--trained", "--json")[1].split("\n")[:-1]
    ]
    assert {row["model"] for row in rows} == {"VGG19", "VGG19_BN"}
    assert rows[0]["location"].startswith("https://download.pytorch.org/")
    assert shell("list", "densenet264", "--trained")[::2] == (
        1, "zoo: there are no weights for DenseNet264\n"
    )  # fmt: skip
    code, _, err = shell("list", "vit*")
    assert (code, err) == (1, "zoo: no model matches 'vit*'; zoo list lists all\n")
    assert "'resnt'; did you mean ResNet" in shell("list", "resnt")[2]
    lines = shell("list", "*50*", "--family", "resnet")[1].splitlines()
    assert [line.split()[0] for line in lines] == [
        "model", "ResNet50", "ResNeXt50_32x4d", "WideResNet50_2"
    ]  # fmt: skip
    code, _, err = shell("list", "--family", "vit")
    assert code == 2
    assert "family must be one of densenet" in " ".join(err.replace("│", " ").split())


def test_describe(shell):
    code, out, err = shell("describe", "SqueezeNet1_1")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "SqueezeNet1_1, image 224×224×3"
    assert [line.split()[0] for line in lines[2:]] == [
        "stem", "stage1", "stage2", "stage3", "head", "total"
    ]  # fmt: skip
    assert "1,235,496" in lines[-1]
    deeper = shell("describe", "SqueezeNet1_1", "--depth", "3", "--size", "64")[1]
    assert "stage3/block4/expand3x3" in deeper


def test_describe_errors(shell):
    code, _, err = shell("describe", "SqueezeNet")
    assert (code, err[:42]) == (1, "zoo: no model is named 'SqueezeNet'; did y")
    code, _, err = shell("describe", "VGG11", "--size", "31")
    assert code == 2
    assert "at least 32x32" in err


@pytest.mark.slow
class TestInASeparateProcess:
    def run(self, *words, **environment):
        command = [sys.executable, "-m", "zoo", *map(str, words)]
        return subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )

    def test_a_second_process_uses_the_compilation_cache(self, examples, tmp_path):
        cache = {"ZOO_CACHE": str(tmp_path / "cache")}
        first = self.run("classify", examples / "cat.jpg", **cache)
        assert (first.returncode, first.stderr) == (0, "")
        kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*-cache")}
        # Programs that call oneDNN cannot be kept, and compile in a tenth of a second.
        assert bool(kept) != compiler.has_onednn()
        second = self.run("classify", examples / "cat.jpg", **cache)
        assert second.stdout == first.stdout
        assert second.stderr == ""
        assert set((tmp_path / "cache").rglob("*-cache")) == set(kept)

    def run_on_a_terminal(self, command):
        """The output of a shell command on a terminal, without escape sequences."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(["sh", "-c", command], stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how the other end's closing shows
            while chunk := os.read(ours, 4096):
                shown += chunk
        os.close(ours)
        process.wait()
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", shown.decode())

    def test_progress_bar_on_a_terminal_and_output_in_a_file(self, examples, tmp_path):
        names = [f"{number}.jpg" for number in range(6)]
        for name in names:
            shutil.copy(examples / "espresso.jpg", tmp_path / name)
        names.append("empty.jpg")
        (tmp_path / "empty.jpg").touch()
        command = f"{sys.executable} -m zoo classify {tmp_path} --top 1 --json"

        def files(text):
            rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
            return [Path(row["file"]).name for row in rows]

        shown = self.run_on_a_terminal(f"{command} > {tmp_path}/out")
        assert files((tmp_path / "out").read_text()) == names
        assert files(shown) == []
        assert "reading" in shown
        assert "empty.jpg is empty" in shown
        # With everything on the terminal, a row is still one line, above the bar.
        shown = self.run_on_a_terminal(command)
        assert files(shown) == names
        assert "reading" in shown
        # Complaints go where they are sent, and then there is no bar.
        shown = self.run_on_a_terminal(f"{command} 2> {tmp_path}/err")
        assert files(shown) == names
        assert (tmp_path / "err").read_text() == f"zoo: {tmp_path / 'empty.jpg'} is empty\n"
        assert "reading" not in shown

    def test_file_names_that_the_encoding_lacks(self, examples, tmp_path):
        shutil.copy(examples / "cat.jpg", tmp_path / "\u732b.jpg")
        done = self.run("classify", tmp_path, PYTHONIOENCODING="latin-1")
        assert (done.returncode, done.stderr) == (0, "")
        assert "\\u732b.jpg" in done.stdout

    def test_a_cache_that_cannot_be_written(self, examples, tmp_path):
        (tmp_path / "file").touch()
        done = self.run(
            "classify", examples / "cat.jpg", ZOO_CACHE=str(tmp_path / "file" / "below")
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "tiger cat" in done.stdout

    def test_a_reader_that_closes_the_pipe(self, examples):
        command = f"{sys.executable} -m zoo list | true"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        assert done.stderr == ""
