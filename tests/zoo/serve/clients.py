"""Servers in a thread or a process, and requests to them."""

import base64
import contextlib
import http.client
import io
import json
import re
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import uvicorn
from PIL import Image

from zoo.serve import server
from zoo.serve.app import make_app

JPEG = {"Content-Type": "image/jpeg"}
JSON = {"Content-Type": "application/json"}


@contextlib.contextmanager
def serving(model, limits=None, is_stopping=None):
    """The port of a server that runs in a thread."""
    with server.bind("127.0.0.1", 0) as listener:
        config = uvicorn.Config(
            make_app(model, limits, is_stopping), lifespan="on", ws="none", log_config=None
        )
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


@contextlib.contextmanager
def serving_process(*command, **options):
    """A process that prints its address once it serves, and its port."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address, process.communicate()
        yield process, urlsplit(address[0]).port
    finally:
        process.kill()
        process.communicate()


def request(port, method, path, body=None, headers=None, connection=None):
    """Sends a request; → the status, the JSON of the answer, and its headers."""
    used = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        used.request(method, path, body, headers or {})
        answer = used.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers
    finally:
        if connection is None:
            used.close()


def post(port, body, headers=JPEG, query="", connection=None):
    """Sends photos to be classified."""
    return request(port, "POST", f"/classify{query}", body, headers, connection)


def encode(color, kind="PNG"):
    """An encoded image of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), color).save(file, kind)
    return file.getvalue()


def as_json(*images, **fields):
    """A body of JSON."""
    texts = [base64.b64encode(image).decode() for image in images]
    return json.dumps({"images": texts, **fields}).encode()


def as_form(*parts, boundary="frontier"):
    """A form, and its headers; each part is (name, filename or None, content)."""
    lines = []
    for name, filename, content in parts:
        given = f'; filename="{filename}"' if filename is not None else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{given}\r\n\r\n'
        lines += [head.encode(), content, b"\r\n"]
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return b"".join([*lines, f"--{boundary}--\r\n".encode()]), headers
