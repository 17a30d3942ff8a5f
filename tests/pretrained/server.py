"""A server of files that misbehaves on demand, and a stand-in for the Hugging Face hub."""

import hashlib
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CHUNK = 4 << 10


@dataclass
class File:
    """A file and how it is served. A fault with a number of times occurs that often.

    Args:
      body: its bytes.
      etag: its ETag, quoted or weak; None sends none.
      modified: its Last-Modified.
      ranges: "yes", "ignored", or "wrong" for another range than asked for.
      framing: "length", "chunked", or "close" for a body that ends with the connection.
      statuses: of the first responses, in order.
      headers: sent with every response.
      redirect: a Location.
      truncate: (times, bytes): closes the connection after so many bytes of a body.
      reset: (times, bytes): resets the connection after so many bytes.
      stall: (times, bytes): sends nothing more after so many bytes.
      dribble: sends one byte at a time, so many seconds apart.
      slow_headers: sends the headers one byte at a time, so many seconds apart.
      rate: bytes per second.
      total: the size that the headers give in place of the body's.
      login: the Authorization that is required.
      before_response: called with this file before each response.
    """

    body: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: str = "yes"
    framing: str = "length"
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str | None = None
    truncate: tuple[int, int] = (0, 0)
    reset: tuple[int, int] = (0, 0)
    stall: tuple[int, int] = (0, 0)
    dribble: float = 0
    slow_headers: float = 0
    rate: float = 0
    total: int | None = None
    login: str | None = None
    before_response: object = None


@dataclass
class Request:
    """A client's request, and the response to it."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0

    @property
    def start(self) -> int | None:
        """The first byte of the requested range."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(found[1]) if found else None


class Server:
    """A server of files by their paths, which records its requests."""

    def __init__(self, secure: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, File] = {}
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.http.daemon_threads = False  # waited for, so that none outlives its test
        self.http.zoo = self
        if secure:
            # The handshake is left to the thread of each connection.
            self.http.socket = secure.wrap_socket(
                self.http.socket, server_side=True, do_handshake_on_connect=False
            )
        self.host = f"127.0.0.1:{self.http.server_port}"
        self.address = f"{'https' if secure else 'http'}://{self.host}"

    def add(self, path: str, body: bytes, **options) -> str:
        """Serves a file with options of `File`; returns its URL."""
        self.files[path] = File(body, **options)
        return f"{self.address}{path}"

    def starts(self, path: str) -> list[int | None]:
        """Returns the start of the range of each GET of a path."""
        return [r.start for r in self.requests if r.path == path and r.method == "GET"]

    def add_hub(
        self,
        repo: str,
        filename: str,
        body: bytes,
        *,
        large: bool,
        xet: bool = False,
        commit: str = "c" * 40,
        **options,
    ) -> str:
        """Serves a file as the hub does: a large one by a redirect to a signed URL.

        Args:
          repo: such as "zoo/toy".
          filename: in the repository.
          body: its bytes.
          large: whether its ETag is its SHA-256, as for LFS; otherwise it is git's SHA-1.
          xet: whether the headers offer a download through Xet, too.
          commit: the commit that the branch main is at.
          options: of `File`, for the response with the body.

        Returns:
          The path that sends the body.
        """
        store = f"/store/{hashlib.sha256(body).hexdigest()}"
        etag = options.pop("digest", None) or (
            hashlib.sha256(body).hexdigest()
            if large
            else hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        )
        headers = {"X-Repo-Commit": commit}
        if xet:
            headers["X-Xet-Hash"] = "e" * 64
            headers["Link"] = f'<{self.address}/api/models/{repo}/xet-read-token>; rel="xet-auth"'
        for revision in ("main", commit):
            path = f"/{repo}/resolve/{revision}/{filename}"
            if large:
                linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(body))}
                # Another name of this host: another origin to a client, as on the hub.
                location = f"http://localhost:{self.http.server_port}{store}?signature=secret"
                self.add(path, b"", headers=headers | linked, redirect=location)
            else:
                self.add(path, body, etag=f'"{etag}"', headers=headers, **options)
        if large:
            self.add(store, body, **options)
        return store if large else path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with suppress(ssl.SSLError, ConnectionError):  # a client that distrusts it leaves
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def _respond(self) -> None:
        self.close_connection = True
        server: Server = self.server.zoo
        path = urlsplit(self.path).path
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, headers)
        server.requests.append(request)
        with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self._send(server, request, server.files.get(path))

    def _send(self, server: Server, request: Request, file: File | None) -> None:
        if file is None:
            request.status = 404
            self._head(404, {"Content-Length": "0", "X-Error-Code": "EntryNotFound"})
            return
        if file.before_response:
            file.before_response(file)
        headers = dict(file.headers)
        if file.login and request.headers.get("authorization") != file.login:
            request.status = 401
        elif file.statuses:
            request.status = file.statuses.pop(0)
        elif file.redirect:
            request.status = 302
            headers["Location"] = file.redirect
        if request.status:
            self._head(request.status, {"Content-Length": "0"} | headers)
            return
        body, status = self._body(request, file, headers)
        request.status = status
        if file.etag:
            headers["ETag"] = file.etag
        if file.modified:
            headers["Last-Modified"] = file.modified
        if file.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        elif file.framing == "length":
            length = len(body) if file.total is None or status != 200 else file.total
            headers["Content-Length"] = str(length)
        self._head(status, headers, file.slow_headers)
        if self.command == "GET":
            self._stream(server, request, file, body)

    def _body(self, request: Request, file: File, headers: dict[str, str]) -> tuple[bytes, int]:
        start, condition = request.start, request.headers.get("if-range")
        current = condition is None or condition in (file.etag, file.modified)
        if start is None or file.ranges == "ignored" or not current:
            return file.body, 200
        total = len(file.body) if file.total is None else file.total
        if start >= len(file.body):
            headers["Content-Range"] = f"bytes */{total}"
            return b"", 416
        if file.ranges == "wrong":
            start = 0
        headers["Content-Range"] = f"bytes {start}-{len(file.body) - 1}/{total}"
        return file.body[start:], 206

    def _head(self, status: int, headers: dict[str, str], slow: float = 0) -> None:
        lines = [f"HTTP/1.1 {status} Something", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        if slow:
            for index in range(len(head)):
                self._write(head[index : index + 1])
                self.server.zoo.closing.wait(slow)
        else:
            self._write(head)

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()

    def _stream(self, server: Server, request: Request, file: File, body: bytes) -> None:
        ends = {}
        for fault in ("truncate", "reset", "stall"):
            times, count = getattr(file, fault)
            if times:
                setattr(file, fault, (times - 1, count))
                ends[fault] = count
        end = min(ends.values(), default=len(body))
        step = 1 if file.dribble else CHUNK
        began = time.monotonic()
        for start in range(0, min(end, len(body)), step):
            chunk = body[start : min(start + step, end)]
            if file.framing == "chunked":
                self._write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            else:
                self._write(chunk)
            request.sent += len(chunk)
            pause = file.dribble
            if file.rate:
                pause = request.sent / file.rate - (time.monotonic() - began)
            if pause > 0 and server.closing.wait(pause):
                return
        if "stall" in ends:
            server.closing.wait(20)
        elif "reset" in ends:
            linger = struct.pack("ii", 1, 0)  # closes with RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        elif "truncate" not in ends and file.framing == "chunked":
            self._write(b"0\r\n\r\n")


@contextmanager
def run_server(secure: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Runs a server during the `with` block, of HTTPS if it is given a certificate."""
    server = Server(secure)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.http.shutdown()
        thread.join()
        server.http.server_close()
