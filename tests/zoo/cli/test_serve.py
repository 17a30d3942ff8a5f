"""`zoo serve`: its options, its messages, and a server as a user starts it."""

import dataclasses
import sys

import pytest

import zoo
from tests.zoo.cli.shell import runner
from tests.zoo.serve.clients import as_form, post, request, serving_process
from zoo.inference.preprocessing import Preprocessing
from zoo.serve import server


@pytest.fixture
def shell(monkeypatch, capfd, lite):
    """Runs the command line in this process, where the server ends at once."""
    monkeypatch.setattr("zoo.runtime.compiler.cache_compilations", lambda: None)
    monkeypatch.setattr(server, "run", lambda model, listener, *_: listener.close())
    return runner(monkeypatch, capfd)


def test_a_server(examples):
    command = ("-m", "zoo", "serve", "--port", "0", "--batch-sizes", "2,1", "--max-body-mb", "1")
    with serving_process(*command) as (process, port):
        status, content, _ = request(port, "GET", "/")
        assert status == 200
        assert (content["model"], content["batch_sizes"]) == ("EfficientNetLite0", [1, 2])
        assert content["limits"]["body_bytes"] == 1 << 20
        photos = [(examples / f"{name}.jpg").read_bytes() for name in ("espresso", "cat")]
        body, headers = as_form(*[("photo", "a.jpg", photo) for photo in photos])
        status, content, _ = post(port, body, headers, "?top=1")
        labels = [each["label"] for (each,) in content["predictions"]]
        assert (status, labels) == (200, ["espresso", "tiger cat"])
        assert post(port, b"x" * (1 << 20 | 1))[0] == 413
        process.terminate()
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")


def test_a_busy_port(shell):
    with server.bind("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        code, out, err = shell("serve", "--port", port)
    assert (code, out) == (1, "")
    assert err.startswith(f"zoo: cannot serve at 127.0.0.1, port {port}: ")
    assert err.endswith("in use; choose another --port, or 0 for a free one\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch-sizes", "1,x"], "expected numbers from 1 to 1024 as in 1,2,4, got '1,x'"),
        (["--batch-sizes", "0"], "got '0'"),
        (["--batch-sizes", ""], "got ''"),
        (["--batch-sizes", "9999"], "got '9999'"),
        (["--port", "65536"], "equal to 65535"),
        (["--max-wait-ms", "-1"], "equal to 0"),
        (["--max-wait-ms", "nan"], "equal to 60000"),
        (["--max-body-mb", "0"], "equal to 0.001"),
        (["--max-body-mb", "nan"], "equal to 4096"),
        (["--queue", "0"], "equal to 1"),
    ],
)
def test_wrong_options(shell, words, message):
    code, out, err = shell("serve", "--port", "0", *words)
    assert (code, out) == (2, "")
    assert words[0] in err
    assert message in err


@pytest.mark.parametrize("words", [["--model", "ResNet"], ["--host", "["], ["--weights", "none"]])
def test_what_is_not_there(shell, words):
    code, out, err = shell("serve", "--port", "0", *words)
    assert (code, out) == (1, "")
    assert err.startswith("zoo: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "python_multipart"])
def test_the_extra_is_missing(shell, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = shell("serve")
    assert code == 1
    assert err == f"zoo: {module} is not installed; pip install 'jax-zoo[serve]' brings it\n"


def test_models_that_name_no_photos(shell, monkeypatch, lite):
    third = (1 / 3,) * 5
    bands = Preprocessing(8, 8, "bilinear", third, third, "bands")
    for changes, message in (
        ({"head": False}, "no classifier"),
        ({"preprocessing": bands}, "takes arrays of"),
    ):
        info = dataclasses.replace(lite.info, **changes)
        monkeypatch.setattr(zoo, "trained", lambda *_, info=info, **__: lite.replace(info=info))
        code, _, err = shell("serve", "--port", "0")
        assert code == 2
        assert message in err
