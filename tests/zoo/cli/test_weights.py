"""`zoo convert`, `export`, `publish`, `fetch`, `cache`: output, messages, exit codes."""

import hashlib
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from tests.zoo.checkpoints import upstream
from tests.zoo.cli.shell import runner
from zoo_pretrained import checkpoint, read
from zoo_pretrained.convert import SOURCES

MODEL = upstream.MODEL


@pytest.fixture
def shell(monkeypatch, capfd, tmp_path):
    """Runs the command line in this process; → exit code, standard output, standard error."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return runner(monkeypatch, capfd)


@pytest.fixture
def file(tmp_path):
    """Weights for seven classes, as PyTorch would name them."""
    (tmp_path / "squeeze.safetensors").write_bytes(upstream.body(num_classes=7))
    return tmp_path / "squeeze.safetensors"


def test_convert_export_and_back_is_bit_exact(shell, file, tmp_path):
    mine = tmp_path / "mine"
    (tmp_path / "names").write_text("a\nb\nc\nd\ne\nf\ng\n")
    words = ("--out", mine, "--labels", tmp_path / "names")
    code, out, err = shell("convert", file, "--model", MODEL, *words)
    assert (code, err) == (0, "")
    assert out == f"{mine}: SqueezeNet1_1(num_classes=7)\n"
    variables, metadata = checkpoint.restore(mine)
    assert metadata["source"] == {"from": "torchvision", "file": "squeeze.safetensors"}
    assert (metadata["labels"], metadata["model"]) == (list("abcdefg"), MODEL)
    kernel = upstream.state(num_classes=7)["features.0.weight"]
    np.testing.assert_array_equal(
        variables["params"]["stem"]["kernel"], kernel.transpose(2, 3, 1, 0)
    )

    # Every dtype comes through: half the arrays become bfloat16.
    halved = jax.tree.map(lambda a: a.astype("bfloat16") if a.ndim == 1 else a, variables)
    checkpoint.save(mine, halved, metadata, overwrite=True)
    assert shell("export", mine, "--out", tmp_path / "x.safetensors")[0] == 0
    again = tmp_path / "again"
    assert shell("convert", tmp_path / "x.safetensors", "--model", MODEL, "--out", again)[0] == 0
    for one, other in ((checkpoint.restore(mine), checkpoint.restore(again)),):
        assert one.metadata == other.metadata
        jax.tree.map(lambda a, b: (a.dtype, a.tobytes()) == (b.dtype, b.tobytes()) or 1 / 0,
                     one.variables, other.variables)  # fmt: skip
    code, _, err = shell("export", mine, "--out", tmp_path / "x.safetensors")
    assert (code, err) == (1, f"zoo: {tmp_path / 'x.safetensors'} is there already\n")
    code, _, err = shell(
        "convert", tmp_path / "x.safetensors", "--model", "VGG11", "--out", tmp_path / "no"
    )
    words = f"zoo: {tmp_path / 'x.safetensors'} holds a SqueezeNet1_1, not a VGG11\n"
    assert (code, err) == (1, words)


def test_export_of_a_checkpoint_with_little_metadata_and_of_scalars(shell, file, tmp_path):
    assert shell("convert", file, "--model", MODEL, "--out", tmp_path / "mine")[0] == 0
    variables = checkpoint.restore(tmp_path / "mine").variables
    checkpoint.save(tmp_path / "bare", variables, {"model": MODEL})
    exported, again = tmp_path / "x.safetensors", tmp_path / "again"
    assert shell("export", tmp_path / "bare", "--out", exported)[0] == 0
    code, _, err = shell("convert", exported, "--model", MODEL, "--out", again, "--no-head")
    assert code == 1
    assert "itself says what these are: --source, --num-classes, --head, --inside" in err
    code, out, _ = shell("convert", exported, "--model", MODEL, "--out", again)
    assert (code, out) == (0, f"{again}: SqueezeNet1_1()\n")
    jax.tree.map(np.testing.assert_array_equal, checkpoint.restore(again).variables, variables)
    # A number keeps its shape, but is none of this model's.
    checkpoint.save(tmp_path / "odd", {"params": {"step": np.float64(3.5)}}, {})
    zoo.export(checkpoint.restore(tmp_path / "odd"), tmp_path / "odd.safetensors")
    assert read.arrays(tmp_path / "odd.safetensors")["params/step"].shape == ()
    code, _, err = shell("convert", tmp_path / "odd.safetensors", "--model", MODEL, "--out", "no")
    assert (code, "does not fit SqueezeNet1_1" in err) == (1, True)
    code, _, err = shell("export", tmp_path / "bare", "--out", tmp_path / "none" / "x")
    assert (code, err) == (1, f"zoo: there is no folder {tmp_path / 'none'}\n")


def test_kernel_convention_option(shell, tmp_path):
    """The checkpoint records the convention, and loading flips the kernels."""
    state = upstream.state()
    flipped = {
        name: np.ascontiguousarray(a[..., ::-1, ::-1]) if a.ndim == 4 else a
        for name, a in state.items()
    }
    save_file(state, tmp_path / "plain")
    save_file(flipped, tmp_path / "flipped")
    to = ("--model", MODEL, "--out")
    assert shell("convert", tmp_path / "plain", *to, tmp_path / "a")[0] == 0
    words = ("--kernel-convention", "convolution")
    assert shell("convert", tmp_path / "flipped", *to, tmp_path / "b", *words)[0] == 0
    one, other = (checkpoint.restore(tmp_path / name).variables for name in "ab")
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_mismatches_are_listed(shell, tmp_path):
    state = upstream.state(num_classes=7)
    del state["features.3.squeeze.bias"]
    state["surplus.weight"] = np.zeros((3, 3), np.float32)
    state["features.0.weight"] = state["features.0.weight"][:32].copy()
    save_file(state, tmp_path / "odd")
    code, out, err = shell("convert", tmp_path / "odd", "--model", MODEL, "--out", tmp_path / "no")
    assert (code, out) == (1, "")
    assert [line.strip() for line in err.splitlines()] == [
        "zoo: the weights do not fit SqueezeNet1_1: 2 of the file's 52 entries have no place, and "
        "2 of the model's arrays nothing to fill them",
        "features.0.weight: params/stem/kernel has shape (3, 3, 3, 64), not (3, 3, 3, 32)",
        "surplus.weight: no rule maps it",
        "params/stage1/block1/squeeze/bias: nothing fills it",
        "params/stem/kernel: nothing fills it",
    ]
    assert not (tmp_path / "no").exists()


def test_a_backbone_and_a_model_inside_another(shell, tmp_path):
    state = {
        name: array for name, array in upstream.state().items() if not name.startswith("classifier")
    }
    outer = {f"encoder.body.{name}": array for name, array in state.items()}
    save_file({**outer, "decoder.weight": np.zeros((2, 2), np.float32)}, tmp_path / "seg")
    to = ("--model", MODEL, "--out", tmp_path / "mine")
    err = shell("convert", tmp_path / "seg", *to)[2]
    assert "encoder.body.features.0.bias: no rule" in err
    assert "50 of 51 entries lie under 'encoder.body.'" in err
    assert "try --inside encoder.body --no-head\n" in err
    code, _, err = shell("convert", tmp_path / "seg", *to, "--inside", "body")
    assert (code, "params/head/kernel: nothing fills it" in err) == (1, True)
    assert "try --no-head\n" in err
    code, _, err = shell("convert", tmp_path / "seg", *to, "--inside", "spine", "--no-head")
    assert code == 1
    assert "decoder, encoder" in err
    words = ("--inside", "encoder.body", "--ignore", "*.bias", "--no-head")
    err = shell("convert", tmp_path / "seg", *to, *words)[2]
    assert "params/stem/bias: nothing fills it" not in err
    assert err.endswith("and 5 more; --all lists them\n")
    lines = shell("convert", tmp_path / "seg", *to, *words, "--all")[2].splitlines()
    assert lines[-1] == "  params/stem/bias: nothing fills it"
    assert len(lines) == 1 + 25
    words = ("--inside", "encoder.body", "--no-head")
    assert shell("convert", tmp_path / "seg", *to, *words)[0] == 0
    variables, metadata = checkpoint.restore(tmp_path / "mine")
    assert "head" not in variables["params"]
    assert metadata["head"] is False
    code, _, err = shell("convert", tmp_path / "seg", *to, *words)
    assert (code, err) == (
        1, f"zoo: {tmp_path / 'mine'} exists already; --overwrite replaces it\n"
    )  # fmt: skip
    assert shell("convert", tmp_path / "seg", *to, *words, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--source", "theano"), 2, f"'theano' is none of {', '.join(SOURCES)}"),
        (("--source", "timm"), 1, "squeezenet has no source 'timm'; it has: torchvision"),
        (("--argument", "dropout_rate"), 2, "is not NAME=JSON"),
        (("--argument", "dropout_rate=much"), 2, "is not NAME=JSON"),
        (("--argument", "depth=3"), 1, "SqueezeNet1_1 does not take these arguments"),
        (("--num-classes", "0"), 2, "--num-classes"),
        (("--num-classes", "5"), 1, "has shape (1, 1, 512, 5), not (1, 1, 512, 7)"),
        (("--labels", "/none"), 1, "/none: No such file or directory"),
        (("--argument", "fused=true"), 1, "'fused' is no argument that --argument may set"),
        (("--argument", "num_classes=7"), 1, "an argument of its own: --num-classes 7"),
        (("--argument", "width=1", "--argument", "width=2"), 2, "it is given twice"),
        (("--ignore", "decoder.*"), 1, "--ignore 'decoder.*' matches none of the 52 entries"),
        (("--argument", 'padding="odd"'), 1, 'padding must be "symmetric" or "SAME"'),
        (("--kernel-convention", "both"), 2, "--kernel-convention"),
        (("--model", "Squeeze"), 1, "no model is named 'Squeeze'"),
    ],
)
def test_bad_options(words, code, message, shell, file, tmp_path):
    found, out, err = shell("convert", file, "--model", MODEL, "--out", tmp_path / "no", *words)
    assert (found, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "no").exists()


def test_bad_files(shell, tmp_path):
    (tmp_path / "page.pth").write_text("<!doctype html>")
    for name, message in (("page.pth", "page.pth"), ("gone.pth", "gone.pth")):
        code, out, err = shell(
            "convert", tmp_path / name, "--model", MODEL, "--out", tmp_path / "no"
        )
        assert (code, out) == (1, "")
        assert err.startswith("zoo: ")
        assert message in err
        assert err.count("\n") == 1


def test_hostile_exports_are_an_error_of_one_line(shell, tmp_path):
    """Files that say that `zoo export` wrote them."""
    metadata = {"jax-zoo": "{}"}
    arrays = {"params/a": np.ones(1), "params/a/b": np.ones(1)}
    save_file(arrays, tmp_path / "below.safetensors", metadata)
    for name, text in {"json": "{", "list": "[]", "deep": "[" * 5000}.items():
        save_file({"w": np.ones(1)}, tmp_path / f"{name}.safetensors", {"jax-zoo": text})
    header = b'{"__metadata__":[1],"w\\u001b[31m":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    content = len(header).to_bytes(8, "little") + header + bytes(4)
    (tmp_path / "no texts.safetensors").write_bytes(content)
    content = content.replace(b"[1],", b" {},", 1)
    (tmp_path / "escape.safetensors").write_bytes(content)
    reasons = {
        "below": "params/a/b is an array below another array",
        "json": "has damaged metadata: ",
        "list": "it is no JSON object",
        "deep": "nested deeper than 100",
        "no texts": "whose __metadata__ is no object of texts",
        "escape": "the weights do not fit",
    }
    for name, reason in reasons.items():
        file = tmp_path / f"{name}.safetensors"
        code, _, err = shell("convert", file, "--model", MODEL, "--out", tmp_path / "out")
        assert code == 1
        assert reason in err
        assert "Traceback" not in err
        assert err.replace("\n", "").isprintable()
        assert err.count("\n") == 1 or name == "escape"
        with pytest.raises(ValueError, match=r"\.safetensors|do not fit") as caught:
            zoo.convert(file, MODEL, tmp_path / "out")
        assert str(caught.value).replace("\n", "").isprintable()
        assert not (tmp_path / "out").exists()


def test_settings_that_make_no_sense_are_one_line(shell, monkeypatch):
    for variable, value in {
        "ZOO_STORES": "http://[bad",
        "ZOO_OFFLINE": "perhaps",
        "ZOO_TIMEOUT": "soon",
        "ZOO_CACHE": "~nosuchuser",
    }.items():
        with monkeypatch.context() as patch:
            if variable == "ZOO_TIMEOUT":
                patch.setenv("ZOO_STORES", "http://127.0.0.1:9/store")
            if variable == "ZOO_OFFLINE":
                patch.setenv("ZOO_STORES", "https://127.0.0.1:9/store")
            patch.setenv(variable, value)
            code, _, err = shell("fetch", f"{MODEL}:none")
        assert (code, err.count("\n")) == (1, 1), err
        assert f"{variable} must" in err


def test_publish_fetch_list_and_cache(shell, file, tmp_path, monkeypatch):
    assert shell("convert", file, "--model", MODEL, "--out", tmp_path / "ours")[0] == 0
    code, out, err = shell("publish", tmp_path / "ours", "--to", tmp_path / "store")
    assert (code, err) == (0, "")
    archive, number, unit, sha256 = out.split()
    file_ = tmp_path / "store" / archive
    assert archive == f"SqueezeNet1_1-ours-{sha256[:8]}.tar"
    assert f"{number} {unit}" == f"{file_.stat().st_size / 1e6:.1f} MB"
    assert hashlib.sha256(file_.read_bytes()).hexdigest() == sha256
    code, _, err = shell("publish", tmp_path / "ours", "--to", tmp_path / "store")
    assert (code, err) == (
        1, f"zoo: {tmp_path / 'store'} has SqueezeNet1_1 ours already; --overwrite replaces it\n"
    )  # fmt: skip
    assert shell("publish", tmp_path / "gone", "--to", tmp_path / "store")[0] == 1

    monkeypatch.setenv("ZOO_STORES", str(tmp_path / "store"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")

    def where():
        rows = map(json.loads, shell("list", MODEL, "--trained", "--json")[1].splitlines())
        return {row["weights"]: row["where"] for row in rows}

    assert where() == {"IMAGENET1K_V1": "upstream", "ours": "store"}
    code, out, err = shell("fetch", f"{MODEL}:ours")
    assert (code, out, err) == (0, f"{MODEL}:ours\n", "")
    assert where()["ours"] == "cache"
    code, out, err = shell("fetch", MODEL, f"{MODEL}:ours", "ResNet")
    assert (code, out) == (1, f"{MODEL}:ours\n")
    first, second, last = err.splitlines()
    assert first.startswith(f"zoo: {MODEL}: ZOO_OFFLINE is set: https://download.pytorch.org/")
    assert f"in the cache, {tmp_path / 'cache'}, or in a store that ZOO_STORES lists" in first
    assert second.startswith("zoo: ResNet: no model is named 'ResNet'; did you mean ")
    assert last == f"zoo: 2 of 3 failed: {MODEL} ResNet"
    code, _, err = shell("fetch", f"{MODEL}:theirs")
    assert (code, err) == (
        1, f"zoo: {MODEL}:theirs: {MODEL} has no weights 'theirs'; it has: IMAGENET1K_V1, ours\n"
    )  # fmt: skip

    code, out, _ = shell("cache")
    assert code == 0
    assert f"{tmp_path / 'cache'}: holds" in out
    assert f"{MODEL}-ours  checkpoint" in out
    assert "removed 0 bytes" in shell("cache", "--prune")[1]
    assert f"{MODEL}-ours" in shell("cache", "squeeze*", "--prune")[1]
    assert "holds 0 bytes" in shell("cache")[1]


def test_a_missing_store_is_one_line(shell, tmp_path, monkeypatch):
    """In a separate process, where no test framework catches warnings."""
    monkeypatch.setenv("ZOO_STORES", str(tmp_path / "none"))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    command = [sys.executable, "-m", "zoo", "list", MODEL, "--trained"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    none = tmp_path / "none"
    assert done.stderr == (
        f"zoo: the store {none} is skipped: {none} is not a store: it has no index.json\n"
    )


def test_classify_with_converted_weights(shell, file, tmp_path, examples, monkeypatch):
    monkeypatch.setattr("zoo.runtime.compiler.cache_compilations", lambda: None)
    assert shell("convert", file, "--model", MODEL, "--out", tmp_path / "ours")[0] == 0
    words = ("--model", MODEL, "--weights", tmp_path / "ours", "--top", "1")
    code, out, err = shell("classify", examples / "cat.jpg", *words)
    assert (code, err) == (0, "")
    assert "class " in out
