"""Downloads from a server that misbehaves: whole and verified or not there, and within a limit."""

import errno
import hashlib
import io
import json
import logging
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import pretrained.fetch as package
from pretrained.fetch import (
    Digest,
    DigestError,
    FetchError,
    OfflineError,
    bar,
    fetch,
    fetch_unverified,
    files,
    http,
    locked,
    offline,
    partial,
    verify,
)
from pretrained.fetch.errors import readable
from tests.pretrained.server import serving

BODY = random.Random(0).randbytes(200_000)
OTHER = random.Random(1).randbytes(200_000)


def sha256(body):
    return Digest("sha256", hashlib.sha256(body).hexdigest())


DIGEST = sha256(BODY)
# What a finished download leaves beside a target.
LOCK = ".model.bin.lock"


@pytest.fixture(scope="module")
def shared():
    with serving() as running:
        yield running


@pytest.fixture
def server(shared):
    shared.files.clear()
    shared.requests.clear()
    return shared


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "model.bin"


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """No settings of this machine, and no waiting."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "ZOO_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("ZOO_TIMEOUT", "5")
    monkeypatch.setattr(package, "BACKOFF", 0.001)


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def leave(target, url, body, *, etag='"one"', modified=None, total=200_000):
    """What a download that was killed leaves."""
    target.parent.mkdir(exist_ok=True)
    part = partial.Partial(target)
    part.begin(partial.Version(http.redacted(url), etag, modified, total))
    part.path.write_bytes(body)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_an_empty_file(server, target, framing):
    fetch(server.add("/a", b"", framing=framing), target, digest=sha256(b""))
    assert target.read_bytes() == b""


@pytest.mark.parametrize("size", [None, len(BODY)])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_download_is_whole_and_leaves_nothing_else(server, target, framing, size):
    url = server.add("/a", BODY, framing=framing)
    told = []
    found = fetch(url, target, digest=DIGEST, size=size, progress=lambda *now: told.append(now))
    assert found == DIGEST.value
    assert target.read_bytes() == BODY
    assert names(target) == [LOCK, "model.bin"]
    total = len(BODY) if framing == "length" or size else None
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (len(BODY), total)


def test_what_is_there_is_not_downloaded_again_and_needs_no_lock(server, target):
    url = server.add("/a", BODY)
    target.parent.mkdir()
    target.write_bytes(BODY)
    assert fetch(url, target, digest=DIGEST) == DIGEST.value
    assert server.requests == []
    assert names(target) == ["model.bin"]


def test_what_is_there_and_damaged_is_replaced(server, target):
    url = server.add("/a", BODY)
    target.parent.mkdir()
    target.write_bytes(OTHER)
    fetch(url, target, digest=DIGEST)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("body", [b"", b"{}", BODY])
def test_each_kind_of_digest(tmp_path, body):
    path = tmp_path / "file"
    path.write_bytes(body)
    want = hashlib.sha256(body).hexdigest()
    git = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    for digest in (
        Digest("sha256", want),
        Digest("sha256", want[:8].upper()),
        Digest("md5", hashlib.md5(body).hexdigest()),
        Digest("git-sha1", git.stdout.strip()),
    ):
        assert verify(path, digest) == want
        wrong = Digest(digest.algorithm, digest.value[:-1] + "0f"[digest.value[-1] == "0"])
        with pytest.raises(DigestError, match=f"^weights .*{wrong.value}$"):
            verify(path, wrong, "weights")
    with pytest.raises(FetchError, match="none does not exist"):
        verify(tmp_path / "none", Digest("sha256", want))


@pytest.mark.parametrize(
    ("algorithm", "value", "words"),
    [
        ("sha1", "0" * 40, r"one of \['sha256', 'md5', 'git-sha1'\], got 'sha1'"),
        ("sha256", "", "8 to 64 hexadecimal digits for sha256, got ''"),
        ("sha256", "0" * 7, "got '0000000'"),
        ("md5", "0" * 64, "8 to 32"),
        ("md5", "g" * 32, "got 'gggg"),
    ],
)
def test_what_is_no_digest(algorithm, value, words):
    with pytest.raises(ValueError, match=words):
        Digest(algorithm, value)


@pytest.mark.parametrize("fault", ["truncate", "reset", "stall"])
def test_a_download_goes_on_where_it_broke_off(server, target, monkeypatch, fault):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.3")
    url = server.add("/a", BODY, **{fault: (2, 60_000)})
    fetch(url, target, digest=DIGEST)
    assert target.read_bytes() == BODY
    first, second, third = server.starts("/a")
    assert first is None
    # A reset may lose what was under way.
    assert second == 60_000 if fault != "reset" else 0 <= (second or 0) <= 60_000
    assert third == 120_000 if fault != "reset" else (third or 0) <= 120_000
    assert names(target) == [LOCK, "model.bin"]


@pytest.mark.parametrize(
    ("etag", "modified", "condition"),
    [
        ('"one"', None, '"one"'),
        ('W/"one"', None, None),
        ('W/"one"', "Tue, 15 Nov 1994 12:45:26 GMT", "Tue, 15 Nov 1994 12:45:26 GMT"),
        (None, None, None),
    ],
)
def test_a_range_is_asked_for_on_condition_of_the_version(
    server, target, etag, modified, condition
):
    url = server.add("/a", BODY, etag=etag, modified=modified)
    leave(target, url, BODY[:1000], etag=etag, modified=modified)
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == [1000]
    assert server.requests[0].headers.get("if-range") == condition
    assert server.requests[0].sent == len(BODY) - 1000


@pytest.mark.parametrize(
    ("ranges", "starts"), [("ignored", [None, 60_000]), ("wrong", [None, 60_000, None])]
)
def test_ranges_that_are_not_kept(server, target, ranges, starts):
    url = server.add("/a", BODY, ranges=ranges, truncate=(1, 60_000))
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == starts


@pytest.mark.parametrize("etags", [('"one"', '"two"'), ('W/"one"', 'W/"two"')])
def test_what_has_changed_meanwhile_is_begun_anew(server, target, etags):
    def turn(file):
        if server.requests[1:]:
            file.body, file.etag = BODY, etags[1]

    url = server.add("/a", OTHER, etag=etags[0], truncate=(1, 60_000), turn=turn)
    told = []
    fetch(url, target, digest=DIGEST, progress=lambda *now: told.append(now[0]))
    assert target.read_bytes() == BODY
    assert sum(request.sent for request in server.requests if request.status == 200) == 260_000
    # Nothing of the one was added to the other, to be found out by the digest alone.
    assert told.count(len(BODY)) == 1


def test_what_has_become_shorter_keeps_no_tail(server, target):
    url = server.add("/a", BODY[:1000], etag='"two"')
    leave(target, url, OTHER[:5000], etag='"one"')
    fetch(url, target, digest=sha256(BODY[:1000]))
    assert len(server.requests) == 1


def test_a_whole_part_asks_for_nothing(server, target):
    url = server.add("/a", BODY)
    leave(target, url, BODY)
    fetch(url, target, digest=DIGEST)
    assert server.requests == []


@pytest.mark.parametrize(("there", "starts"), [(len(BODY), [200_000]), (300_000, [300_000, None])])
def test_a_range_behind_the_end(server, target, there, starts):
    """416: the part is whole, or more than that."""
    url = server.add("/a", BODY)
    leave(target, url, (BODY + OTHER)[:there], total=None)
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == starts
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("note", [None, "", "[]", "{}", '{"url": 1}', '{"url": "http://else/a"}'])
def test_a_part_of_unknown_origin_is_dropped(server, target, note):
    url = server.add("/a", BODY)
    leave(target, url, BODY[:1000])
    path = target.with_name("model.bin.part.json")
    path.unlink() if note is None else path.write_text(note)
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == [None]


@pytest.mark.parametrize("there", [OTHER[:1000], OTHER])
def test_a_bad_part_is_no_bad_file(server, target, there):
    """Only what came in one piece is held against the server."""
    url = server.add("/a", BODY)
    leave(target, url, there)
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a")[-1] is None
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    ("statuses", "tries"), [([500] * 4, 5), ([503, 408, 429, 502], 5), ([500] * 5, 5)]
)
def test_answers_that_may_pass(server, target, statuses, tries):
    url = server.add("/a", BODY, statuses=list(statuses))
    if len(statuses) < 5:
        fetch(url, target, digest=DIGEST)
    else:
        with pytest.raises(FetchError, match=rf"^{url} .* answered 500 .*\(5 tries\)$"):
            fetch(url, target, digest=DIGEST)
    assert len(server.requests) == tries


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451, 206, 302, 304])
def test_answers_that_do_not_pass(server, target, status):
    url = server.add("/a", BODY, statuses=[status])
    with pytest.raises(FetchError, match=f"^{url} answered {status}"):
        fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 1
    assert names(target) == [LOCK]


@pytest.mark.parametrize(
    ("wish", "low", "high"),
    [("7", 7, 7), ("900", 30, 30), ("date", 15, 20), ("soon", 0, 0.01), ("-1", 0, 0.01)],
)
def test_a_server_may_ask_to_wait(server, target, monkeypatch, wish, low, high):
    if wish == "date":
        wish = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 20))
    waited = []
    monkeypatch.setattr(package.time, "sleep", waited.append)
    url = server.add("/a", BODY, statuses=[429], headers={"Retry-After": wish})
    fetch(url, target, digest=DIGEST)
    assert low <= waited[0] <= high


def test_waiting_grows_and_is_spread(monkeypatch):
    monkeypatch.setattr(package, "BACKOFF", 0.5)
    waited = []
    monkeypatch.setattr(package.time, "sleep", waited.append)
    for tries in (1, 2, 3, 4, 9):
        for _ in range(20):
            package.pause(tries)
        longest = min(0.5 * 2 ** (tries - 1), 8)
        assert all(longest / 2 <= seconds <= longest for seconds in waited[-20:])
        assert len(set(waited[-20:])) > 10


def test_tries_that_bring_much_do_not_count(server, target, monkeypatch):
    monkeypatch.setattr(package, "STRIDE", 20_000)
    url = server.add("/a", BODY, truncate=(9, 20_000))
    fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 10


@pytest.mark.parametrize("ranges", ["yes", "ignored"])
def test_tries_that_bring_little_come_to_an_end(server, target, ranges):
    url = server.add("/a", BODY, truncate=(99, 20_000), ranges=ranges)
    with pytest.raises(FetchError, match=r"of 200000 bytes|broke off"):
        fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 5
    assert not target.exists()


def test_nobody_there(target):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(FetchError, match=r"cannot connect to 127.0.0.1: Connection refused \(5"):
        fetch(f"http://127.0.0.1:{port}/a", target, digest=DIGEST)


def test_a_host_that_is_not_known(target, monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(FetchError, match=r"the host weights\.invalid is not known"):
        fetch("http://weights.invalid/a", target, digest=DIGEST)


def test_what_speaks_no_http(target):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            for _ in range(5):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(b"220 welcome\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        port = listening.getsockname()[1]
        with pytest.raises(FetchError, match="the connection broke off"):
            fetch(f"http://127.0.0.1:{port}/a", target, digest=DIGEST)
        with pytest.raises(FetchError, match="no secure connection"):
            in_the_clear(listening, thread, target)


def in_the_clear(listening, thread, target):
    """An answer in the clear where TLS is spoken."""
    thread.join()

    def answer():
        for _ in range(5):
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(1 << 16)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        fetch(f"https://127.0.0.1:{listening.getsockname()[1]}/a", target, digest=DIGEST)
    finally:
        thread.join()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"stall": (9, 1000)}, "no answer|stalled"),
        ({"stall": (9, 0)}, "no answer|stalled"),
        ({"dribble": 0.02}, "stalled: less than 16 KiB came in 0.2 s"),
        ({"dribble": 0.02, "framing": "chunked"}, "stalled"),
        ({"dribble": 0.02, "framing": "close"}, "stalled"),
        ({"slow_headers": 0.02}, "stalled"),
    ],
)
def test_a_server_that_keeps_one_waiting(server, target, monkeypatch, how, words):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    url = server.add("/a", BODY, **how)
    began = time.monotonic()
    with pytest.raises(FetchError, match=words):
        fetch(url, target, digest=DIGEST)
    assert time.monotonic() - began < 5
    assert len(server.requests) == 5
    assert threading.active_count() < 20


def test_a_server_that_never_accepts(target, monkeypatch):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.1")
    with socket.create_server(("127.0.0.1", 0), backlog=9) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/a"
        with pytest.raises(FetchError, match=r"no answer in 0.1 s|stalled"):
            fetch(url, target, digest=DIGEST)


def test_a_slow_server_is_no_stalled_one(server, target, monkeypatch):
    """It takes several times the timeout, at several times the least rate."""
    monkeypatch.setenv("ZOO_TIMEOUT", "0.25")
    url = server.add("/a", BODY, rate=250_000)
    fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 1


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_none(server, target, monkeypatch, text):
    monkeypatch.setenv("ZOO_TIMEOUT", text)
    with pytest.raises(FetchError, match=f"ZOO_TIMEOUT .* got '{text}'"):
        fetch(server.add("/a", BODY), target, digest=DIGEST)


@pytest.mark.parametrize("location", ["/there", "there", "{address}/there", "//{host}/there#part"])
def test_redirects_are_followed(server, target, location):
    url = server.add("/a", b"", redirect=location.format(address=server.address, host=server.host))
    server.add("/there", BODY, truncate=(1, 60_000))
    fetch(url, target, digest=DIGEST)
    assert server.starts("/there") == [None, 60_000]


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_redirects_out_of_http_are_refused(server, target, scheme):
    url = server.add("/a", b"", redirect=f"{scheme}:///etc/hostname")
    with pytest.raises(FetchError, match=f"^{url} redirects from http to {scheme}, .* refused$"):
        fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 1


def test_redirects_out_of_https_are_refused():
    with pytest.raises(FetchError, match=r"^https://a/b redirects from https to http, which"):
        http.redirected("https://u:p@a/b?secret#x", "http://a/b")
    assert http.redirected("http://a/b", "https://a/c?d#e") == "https://a/c?d"
    for location in ("http://[", "http://a:port/"):
        with pytest.raises(FetchError, match=r"what is no URL$|it is no URL$"):
            http.redirected("http://a/b", location)


@pytest.fixture
def secure(tmp_path):
    """A server of HTTPS, and the certificate that it shows."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out",
         certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as running:
        yield running, certificate


def test_https(secure, server, target, monkeypatch):
    secure, certificate = secure
    url = secure.add("/a", BODY, truncate=(1, 60_000))
    words = f"^{url}: the certificate is not valid: self.signed certificate$"
    with pytest.raises(FetchError, match=words):
        fetch(url, target, digest=DIGEST)
    assert secure.requests == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    fetch(url, target, digest=DIGEST)
    assert secure.starts("/a") == [None, 60_000]
    # Out of it no redirect is followed, be the other end's bytes right.
    target.unlink()
    away = secure.add("/b", b"", redirect=server.add("/a", BODY))
    with pytest.raises(FetchError, match=f"^{away} redirects from https to http, which is refused"):
        fetch(away, target, digest=DIGEST)
    assert server.requests == []
    # The watch cuts connections under TLS too.
    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    with pytest.raises(FetchError, match="stalled"):
        fetch(secure.add("/c", BODY, dribble=0.02, framing="close"), target, digest=DIGEST)


@pytest.mark.parametrize(("hops", "ends"), [(10, True), (11, False)])
def test_redirects_come_to_an_end(server, target, hops, ends):
    for hop in range(hops):
        server.add(f"/{hop}", b"", redirect=f"/{hop + 1}")
    server.add(f"/{hops}", BODY)
    if ends:
        fetch(f"{server.address}/0", target, digest=DIGEST)
    else:
        with pytest.raises(FetchError, match="redirects more than 10 times"):
            fetch(f"{server.address}/0", target, digest=DIGEST)
    assert len(server.requests) == 11


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://a/b", "weights.pth", "", "a:b"])
def test_other_schemes(target, url):
    with pytest.raises(FetchError, match="only https and http"):
        fetch(url, target, digest=DIGEST)
    assert not target.parent.exists()


@pytest.mark.parametrize("url", ["http://", "http:///a", "http://a:b:c/", "http://[1/"])
def test_urls_that_are_none(target, url):
    with pytest.raises(FetchError, match="URL"):
        fetch(url, target, digest=DIGEST)


SECRETS = ("hunter2", "aHVudGVy", "t0ken")


def test_secrets_are_told_to_their_host_alone(server, target, caplog):
    """Not to another host, a log, an error or a file."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="urllib3")
    login = "Basic dXNlcjpodW50ZXIyLw=="  # user:hunter2/
    port = server.http.server_port
    server.add("/a", b"", redirect="/same?sig=t0ken", login=login)
    server.add("/same", b"", redirect=f"http://localhost:{port}/other?sig=t0ken", login=login)
    server.add("/other", BODY, truncate=(9, 1000))
    notes = []
    url = f"http://user:hunter2%2F@{server.host}/a?key=t0ken#t0ken"
    with pytest.raises(FetchError) as caught:
        fetch(url, target, digest=DIGEST)
    notes.append(target.with_name("model.bin.part.json").read_text())
    assert f"{server.address}/a cannot be fetched" in str(caught.value)
    assert {request.path for request in server.requests} == {"/a", "/same", "/other"}
    for request in server.requests:
        assert request.headers.get("authorization") == (None if request.path == "/other" else login)
    server.files["/other"].statuses = [404]
    for last in ("/other", "/same"):
        server.files[last].statuses = [404]
        with pytest.raises(FetchError) as other:
            fetch(url, target, digest=DIGEST)
        notes.append(str(other.value))
    everything = " ".join([*notes, str(caught.value), caplog.text])
    assert not [secret for secret in SECRETS if secret in everything]


def test_logs_of_other_threads_are_left_alone(caplog):
    log = logging.getLogger("urllib3.connectionpool")
    with http.quiet("urllib3"):
        log.warning("mine")
        thread = threading.Thread(target=log.warning, args=("theirs",))
        thread.start()
        thread.join()
    log.warning("later")
    assert caplog.messages == ["theirs", "later"]


@pytest.mark.parametrize("bypassed", [False, True])
def test_proxies_of_the_environment(server, target, monkeypatch, bypassed):
    server.add("/a", BODY)
    monkeypatch.setenv("http_proxy", f"http://user:hunter2@{server.host}")
    if bypassed:
        monkeypatch.setenv("no_proxy", "localhost")
        host = f"localhost:{server.http.server_port}"
    else:
        host = "weights.invalid"
    fetch(f"http://{host}/a", target, digest=DIGEST)
    (request,) = server.requests
    assert request.headers["host"] == host
    assert ("proxy-authorization" in request.headers) != bypassed


@pytest.mark.parametrize("proxy", ["socks5://user:hunter2@a", "http://user:hunter2@[", "http://"])
def test_proxies_that_are_none(target, monkeypatch, proxy):
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(FetchError, match=r"^the proxy for https must be a URL of http or https$"):
        fetch("https://weights.invalid/a", target, digest=DIGEST)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1])
def test_another_size_than_published(server, target, framing, size):
    """Nothing of it is used, and more than was promised is not even read."""
    url = server.add("/a", BODY * (9 if size < len(BODY) else 1), framing=framing)
    with pytest.raises(FetchError, match=rf"{size}\b"):
        fetch(url, target, digest=DIGEST, size=size)
    assert not target.exists()
    if framing == "length":
        assert len(server.requests) == 1


def test_another_size_than_published_of_a_part(server, target):
    url = server.add("/a", BODY, total=999_999)
    leave(target, url, BODY[:1000], total=None)
    with pytest.raises(FetchError, match="has 999999 bytes, expected 200000"):
        fetch(url, target, digest=DIGEST, size=len(BODY))
    assert names(target) == [LOCK]


@pytest.mark.parametrize(
    ("framing", "words"),
    [
        ("length", "has 200000 bytes, more than 100000$"),
        ("chunked", r"sends more than 100.0 kB \(100000 bytes\)$"),
    ],
)
def test_a_file_without_end(server, target, monkeypatch, framing, words):
    url = server.add("/a", BODY, framing=framing)
    with pytest.raises(FetchError, match=words):
        fetch_unverified(url, target, 100_000)
    monkeypatch.setattr(partial, "LIMIT", 100_000)
    with pytest.raises(FetchError, match=words):
        fetch(url, target, digest=DIGEST)
    assert names(target) == [LOCK]
    fetch(url, target, digest=DIGEST, size=len(BODY))


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_what_no_digest_verifies_comes_in_one_piece_and_anew(server, target, monkeypatch, framing):
    url = server.add("/a", BODY, framing=framing, truncate=(2, 60_000))
    leave(target, url, OTHER[:1000])
    fetch_unverified(url, target, len(BODY))
    assert target.read_bytes() == BODY
    assert server.starts("/a") == [None, None, None]
    server.files["/a"].body = OTHER
    fetch_unverified(url, target, len(BODY))
    assert target.read_bytes() == OTHER
    assert names(target) == [LOCK, "model.bin"]
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(OfflineError, match=r"^ZOO_OFFLINE is set"):
        fetch_unverified(url, target, len(BODY))


def test_compressed_answers_are_refused(server, target):
    url = server.add("/a", BODY, headers={"Content-Encoding": "gzip"})
    with pytest.raises(FetchError, match="with the encoding 'gzip'"):
        fetch(url, target, digest=DIGEST)
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert names(target) == [LOCK]


@pytest.mark.parametrize("framing", ["length", "close"])
@pytest.mark.parametrize("body", [OTHER, b"\n<!DOCTYPE html><html>moved</html>"])
def test_other_bytes_than_published_are_kept_aside(server, target, body, framing):
    url = server.add("/a", body, framing=framing)
    found = sha256(body).value
    bad = f"model.bin.bad-{found[:8]}"
    with pytest.raises(DigestError) as caught:
        fetch(url, target, digest=DIGEST)
    for word in (url, found, DIGEST.value, str(target.with_name(bad))):
        assert word in str(caught.value)
    assert ("web page" in str(caught.value)) == (body != OTHER)
    assert "\n" not in str(caught.value)
    assert names(target) == [LOCK, bad]
    assert target.with_name(bad).read_bytes() == body
    # Where no size was told, it may have broken off unnoticed.
    assert len(server.requests) == (1 if framing == "length" else 2)


def test_a_body_that_ends_too_early_unnoticed(server, target):
    url = server.add("/a", BODY, framing="close", truncate=(1, 60_000))
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == [None, None]


def test_no_room_for_what_is_known(server, target, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=12_345))
    url = server.add("/a", BODY)
    words = "cache cannot be used: the disk is full; 200.0 kB needed, 12.3 kB free; ZOO_CACHE"
    with pytest.raises(FetchError, match=words):
        fetch(url, target, digest=DIGEST)
    leave(target, url, BODY[:190_000])
    fetch(url, target, digest=DIGEST)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a device of Linux")
def test_a_disk_that_gets_full(server, target):
    """A device that has no room for anything stands in for the file."""
    url = server.add("/a", BODY)
    leave(target, url, b"")
    target.with_name("model.bin.part").unlink()
    target.with_name("model.bin.part").symlink_to("/dev/full")
    with pytest.raises(FetchError, match=r"the disk is full; 200.0 kB needed, .* free; ZOO"):
        fetch(url, target, digest=DIGEST)
    assert not target.exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
@pytest.mark.parametrize("step", ["mkdir", "replace"])
def test_places_that_cannot_be_written_to(server, target, monkeypatch, number, words, step):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, step, fail)
    (target.parent.parent / "cache").mkdir() if step == "replace" else None
    with pytest.raises(FetchError, match=f"{target.parent} .*{words}.*; ZOO_CACHE"):
        fetch(server.add("/a", BODY), target, digest=DIGEST)
    assert not target.exists()


def test_a_file_in_the_way(server, tmp_path):
    (tmp_path / "file").write_text("")
    url = server.add("/a", BODY)
    for target in (tmp_path / "file" / "model.bin", tmp_path / "file" / "folder" / "model.bin"):
        with pytest.raises(FetchError, match="is a file, not a folder; ZOO_CACHE"):
            fetch(url, target, digest=DIGEST)
    (tmp_path / "folder").mkdir()
    with pytest.raises(FetchError, match="cannot be used: Is a directory"):
        fetch(url, tmp_path / "folder", digest=DIGEST)


@pytest.mark.parametrize(("value", "is_set"), [(None, 0), ("", 0), ("0", 0), ("1", 1), ("yes", 1)])
def test_offline_or_not(monkeypatch, value, is_set):
    if value is not None:
        monkeypatch.setenv("ZOO_OFFLINE", value)
    assert offline() == is_set


def test_offline_opens_no_socket(target, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setattr(socket, "socket", fail)
    url = "https://user:hunter2@weights.invalid/a?key=t0ken"
    with pytest.raises(OfflineError) as caught:
        fetch(url, target, digest=DIGEST, size=123_456_789)
    said = f"ZOO_OFFLINE is set: https://weights.invalid/a (123.5 MB) is not fetched to {target}"
    assert str(caught.value) == said
    assert not target.parent.exists()
    target.parent.mkdir()
    target.write_bytes(BODY)
    assert fetch(url, target, digest=DIGEST) == DIGEST.value


def test_an_interrupt_keeps_what_has_come(server, target):
    def interrupt(done, total):
        if done >= 100_000:
            raise KeyboardInterrupt

    url = server.add("/a", BODY)
    with pytest.raises(KeyboardInterrupt):
        fetch(url, target, digest=DIGEST, progress=interrupt)
    part = target.with_name("model.bin.part").stat()
    assert part.st_size >= 100_000
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == [None, part.st_size]
    # The file itself was renamed: a copy would for a while be there in part.
    assert target.stat().st_ino == part.st_ino


def test_threads_that_want_the_same_file(server, target, capsys, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.05)
    url = server.add("/a", BODY, rate=400_000)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(url, target, digest=DIGEST)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DIGEST.value] * 4
    assert len(server.requests) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [f"another process is at {target}; waiting for it"] * 3


def test_a_lock_is_let_go(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), locked(tmp_path / "folder" / "a"):
            raise KeyboardInterrupt


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_for_terminals(monkeypatch):
    for stream, shown in ((Terminal(), True), (io.StringIO(), False), (None, False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with bar("resnet50 [v2]") as tell:
            tell(50, None)
            tell(50, 100)
        assert bool(stream and "resnet50 [v2]" in stream.getvalue()) == shown
        assert shown or not (stream and stream.getvalue())


def test_readable():
    amounts = (0, 999, 1000, 999_949, 999_950, 5_300_000, 16 << 30, 10**13)
    said = "0 bytes, 999 bytes, 1.0 kB, 999.9 kB, 1.0 MB, 5.3 MB, 17.2 GB, 10000.0 GB"
    assert ", ".join(map(readable, amounts)) == said


def test_importing_it_is_cheap():
    code = (
        "import sys, pretrained.fetch, pretrained.hub; "
        "print([name for name in ('jax', 'urllib3', 'filelock', 'rich', "
        "'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_note_beside_a_part(server, target):
    modified = "Tue, 15 Nov 1994 12:45:26 GMT"
    url = server.add("/a", BODY, truncate=(9, 1000), modified=modified)
    with pytest.raises(FetchError):
        fetch(f"{url}?key=t0ken", target, digest=DIGEST)
    note = json.loads(target.with_name("model.bin.part.json").read_text())
    assert note == {"url": url, "etag": '"one"', "modified": modified, "total": len(BODY)}
