"""The server: answers, status codes, limits, and clients that misbehave."""

import concurrent.futures
import contextlib
import http.client
import json
import socket
import threading
import time

import pytest

from tests.zoo.serve.clients import (
    JPEG,
    JSON,
    as_form,
    as_json,
    encode,
    post,
    request,
    serving,
)
from tests.zoo.serve.fake_model import LABELS, FakeModel
from zoo.serve.app import Limits, make_app

RED, GREEN, BLUE = (encode(color) for color in ("red", "green", "blue"))
HALF = encode("red", "JPEG")[:-100]
BOMB = b"P6 40000 40000 255\n" + b"\0" * 99


@pytest.fixture(scope="module")
def port():
    with serving(FakeModel(), Limits(max_body=20_000, max_images=3)) as port:
        yield port


def names(content):
    return [[each["label"] for each in classes] for classes in content["predictions"]]


def test_an_image(port):
    status, content, headers = post(port, RED)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert content["model"] == "Fake"
    (classes,) = content["predictions"]
    assert [set(each) for each in classes] == [{"label", "synset", "probability"}] * 2
    assert classes[0]["label"] == "red"
    assert classes[0]["synset"] == "n0"
    assert 0.5 < classes[0]["probability"] < 1


def test_several_images_in_their_order(port):
    images = (BLUE, RED, encode("green", "JPEG"))
    assert names(post(port, as_json(*images, top=1), JSON)[1]) == [["blue"], ["red"], ["green"]]
    body, headers = as_form(*[("photo", "a.jpg", image) for image in images])
    assert names(post(port, body, headers, "?top=1")[1]) == [["blue"], ["red"], ["green"]]


@pytest.mark.parametrize("top", [1, 3])
def test_top(port, top):
    for body, headers, query in (
        (RED, JPEG, f"?top={top}"),
        (RED, {}, f"?top={top}"),
        (as_json(RED, top=top), JSON, ""),
        (*as_form(("x", "x", RED), ("top", None, str(top).encode())), ""),
    ):
        status, content, _ = post(port, body, headers, query)
        assert status == 200
        assert [len(each) for each in names(content)] == [top]


def test_it_describes_itself(port):
    status, content, _ = request(port, "GET", "/")
    assert status == 200
    assert content["model"] == "Fake"
    assert (content["classes"], content["size"], content["batch_sizes"]) == (3, 8, [1, 4])
    assert content["limits"] == {"body_bytes": 20_000, "images": 3, "queue": 256, "wait_ms": 2.0}
    assert "POST /classify" in content["usage"]


def test_health():
    stopping = threading.Event()
    with serving(FakeModel(), is_stopping=stopping.is_set) as port:
        assert request(port, "GET", "/health")[:2] == (200, {"status": "ok"})
        stopping.set()
        assert request(port, "GET", "/health")[:2] == (503, {"status": "stopping"})
        status, _, headers = post(port, RED)
        assert (status, headers["Connection"]) == (200, "close")


BAD = {
    "no image": (b"hello", JPEG, "", 400, "the image is not an image of a known format"),
    "a byte": (b"x", JPEG, "", 400, "the image is not an image of a known format"),
    "nothing": (b"", JPEG, "", 400, "the image is empty"),
    "half an image": (HALF, JPEG, "", 400, "the image is damaged"),
    "a bomb": (BOMB, JPEG, "", 400, "too many pixels, 40000x40000"),
    "a dot": (b"P6 1 1 255\n\0\0\0", JPEG, "", 400, "1x1 pixels"),
    "bad JSON": (b"{", JSON, "", 400, "is not JSON"),
    "bad base64": (b'{"images": ["?"]}', JSON, "", 400, "image 1 is not base64"),
    "a second image that is none": (as_json(RED, b"hello"), JSON, "", 400, "image 2 is not an"),
    "no file": (*as_form(("x", None, RED)), "", 400, "is no file"),
    "too many images": (as_json(*[RED] * 4), JSON, "", 413, "at most 3 images"),
    "too many bytes": (b"x" * 20_001, JPEG, "", 413, "more than 20000 bytes"),
    "too many chunks": (iter([b"x" * 999] * 99), JPEG, "", 413, "more than 20000 bytes"),
    "another type": (RED, {"Content-Type": "text/plain"}, "", 415, "'text/plain' is not"),
    "compressed": (RED, {**JPEG, "Content-Encoding": "gzip"}, "", 415, "'gzip' is not"),
    "top 0": (RED, JPEG, "?top=0", 400, "top must be from 1 to 3, got 0"),
    "top 4": (as_json(RED, top=4), JSON, "", 400, "top must be from 1 to 3, got 4"),
    "top x": (RED, JPEG, "?top=%1b[2J", 400, "top must be a number"),
    "top twice": (RED, JPEG, "?top=1&top=1", 400, "twice"),
    "top here and there": (as_json(RED, top=1), JSON, "?top=1", 400, "twice"),
    "another parameter": (RED, JPEG, "?tip=1", 400, "'tip' is unknown"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests(port, name):
    body, headers, query, expected, words = BAD[name]
    status, content, _ = post(port, body, headers, query)
    assert (status, set(content)) == (expected, {"error"})
    assert words in content["error"]
    assert "\x1b" not in content["error"]


def test_other_places_and_methods(port):
    for method, path, expected in (
        ("GET", "/classify", 405),
        ("DELETE", "/health", 405),
        ("POST", "/", 405),
        ("GET", "/none", 404),
        ("POST", "/classify/", 404),
        ("GET", "/../../etc/passwd", 404),
    ):
        status, content, _ = request(port, method, path)
        assert (status, set(content)) == (expected, {"error"}), path
    assert request(port, "PUT", "/classify")[2]["Allow"] == "POST"


def test_a_connection_lives_on_after_errors(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for body, expected in ((b"x" * 20_001, 413), (b"hello", 400), (RED, 200)):
        assert post(port, body, connection=connection)[0] == expected
    connection.close()


def test_nothing_that_a_body_names_is_opened(port, tmp_path, monkeypatch):
    """Texts that are base64, names of files, and the names of images at that."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "catsAndDogs1"
    file.write_bytes(RED)
    for text in (file.name, str(file), file.as_uri()):
        body = json.dumps({"images": [text]}).encode()
        assert post(port, body, JSON)[0] == 400


MALFORMED = [
    b"\r\n\r\n",
    b"hello\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST /classify HTTP/1.1\r\n\r\n",
    b"POST /classify HTTP/9.9\r\nHost: x\r\n\r\n",
    b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc",
    b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
    b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /classify HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
]


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_requests(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        answer = b""
        with contextlib.suppress(OSError):  # the server may close the connection at any time
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(100)
    assert answer[9:10] in (b"", b"4", b"2")
    assert post(port, RED)[0] == 200


def open_request(port, length, data=b""):
    """A connection on which a request has begun."""
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n"
    client.sendall(head.encode() + data)
    return client


def test_a_large_body_is_refused_before_it_ends(port):
    for length, data in (
        ("Content-Length: 20001", b""),
        ("Transfer-Encoding: chunked", b"7000\r\n" + b"x" * 0x7000 + b"\r\n"),
    ):
        with open_request(port, length, data) as client:
            assert client.recv(12) == b"HTTP/1.1 413"


def test_a_slow_body():
    with serving(FakeModel(), Limits(queue=1, body_seconds=0.1)) as port:
        with open_request(port, "Content-Length: 10", b"slow") as client:
            answer = client.recv(1000)
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"took over 0.1 seconds" in answer
            assert client.recv(1000) == b""  # closed
        assert post(port, RED)[0] == 200


def test_a_client_that_goes_away(caplog):
    with serving(FakeModel(), Limits(queue=1)) as port:
        for _ in range(3):
            open_request(port, "Content-Length: 10", b"gone").close()
            wait_for_status(port, 200)
    assert not caplog.records


def wait_for_status(port, expected):
    """Sends a photo until the answer is this one, since a slot becomes free a moment later."""
    end = time.monotonic() + 5
    while post(port, RED)[0] != expected:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_full_queue():
    with serving(FakeModel(), Limits(queue=2)) as port:
        held = [
            open_request(port, f"Content-Length: {len(RED)}\r\nExpect: 100-continue")
            for _ in range(2)
        ]
        for client in held:
            assert b"100 Continue" in client.recv(100)  # so it was admitted
        status, content, headers = post(port, RED)
        assert status == 503
        assert "the queue is full" in content["error"]
        assert headers["Retry-After"] == "1"
        for client in held:
            client.sendall(RED)
            assert client.recv(12) == b"HTTP/1.1 200"
            client.close()
        assert post(port, as_json(RED, RED), JSON)[0] == 200
        status, content, _ = post(port, as_json(RED, RED, RED), JSON)
        assert (status, content["error"]) == (413, "a request has at most 2 images, got more")


def test_a_request_of_several_photos_needs_as_much_room():
    with serving(FakeModel(), Limits(queue=2)) as port:
        with open_request(port, "Content-Length: 10\r\nExpect: 100-continue") as client:
            assert b"100 Continue" in client.recv(100)
            assert post(port, as_json(RED, RED), JSON)[0] == 503
            assert post(port, RED)[0] == 200
        wait_for_status(port, 200)


class Failing(FakeModel):
    def probabilities(self, x):
        if x.mean() < 0:
            raise RuntimeError("secret")
        return super().probabilities(x)


def test_a_failure_is_logged_and_not_told(caplog):
    with serving(Failing(), Limits(max_wait=0.05)) as port:
        assert post(port, as_json(RED, RED), JSON)[0] == 200
        status, content, _ = post(port, as_json(encode("black")), JSON)
        assert (status, set(content)) == (500, {"error"})
        assert "secret" not in content["error"]
        assert post(port, RED)[0] == 200
    assert "secret" in caplog.text


class NotFinite(FakeModel):
    def probabilities(self, x):
        probabilities = super().probabilities(x)
        probabilities[x.mean((1, 2, 3)) < 0] = float("nan")
        return probabilities


def test_what_is_not_finite_is_a_failure():
    with serving(NotFinite()) as port:
        assert post(port, encode("black"))[0] == 500
        assert post(port, RED)[0] == 200


def test_requests_share_batches():
    model = FakeModel(0.05)
    with serving(model) as port, concurrent.futures.ThreadPoolExecutor(8) as pool:
        contents = [each[1] for each in pool.map(lambda image: post(port, image), [RED, BLUE] * 8)]
    assert [names(content)[0][0] for content in contents] == ["red", "blue"] * 8
    assert max(model.batches) == 4
    assert sum(model.batches) == 16


def test_many_clients_get_the_answers_of_classify(lite, examples):
    files = sorted(examples.glob("*.jpg"))
    expected = {file: lite.classify(file) for file in files}

    def ask(number):
        file = files[number % len(files)]
        return file, post(port, file.read_bytes())[1]

    model = lite.compile(batch_sizes=(4,))
    with serving(model) as port, concurrent.futures.ThreadPoolExecutor(12) as pool:
        for file, content in pool.map(ask, range(48)):
            (classes,) = content["predictions"]
            assert [each["label"] for each in classes[:3]] == [
                name for name, _ in expected[file][:3]
            ]
            for got, (_, probability) in zip(classes, expected[file], strict=True):
                assert got["probability"] == pytest.approx(probability, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["max_body", "queue", "max_images"])
def test_wrong_limits(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Limits(**{name: 0})


def test_the_application_is_of_starlette():
    assert {route.path for route in make_app(FakeModel()).routes} == {"/", "/health", "/classify"}
    assert len(LABELS) == 3
