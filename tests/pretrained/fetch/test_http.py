"""URLs, redirects, TLS, proxies, and which hosts receive secrets."""

import logging
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from tests.pretrained.fetch.fetching import BODY, DIGEST, LOCK, list_names
from tests.pretrained.server import run_server
from zoo_pretrained.fetch import FetchError, SettingError, fetch, http, is_offline

pytestmark = pytest.mark.usefixtures("clean_environment")


def test_raises_where_nothing_listens(target):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(FetchError, match=r"cannot connect to 127.0.0.1: Connection refused \(5"):
        fetch(f"http://127.0.0.1:{port}/a", target, digest=DIGEST)


def test_raises_for_an_unknown_host(target, monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(FetchError, match=r"the host weights\.invalid is not known"):
        fetch("https://weights.invalid/a", target, digest=DIGEST)


def test_raises_for_a_server_without_http_or_tls(target):
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
            fetch_over_tls_answered_in_plain_text(listening, thread, target)


def fetch_over_tls_answered_in_plain_text(listening, thread, target):
    """Fetches from an https URL, whose server answers in plain text."""
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


@pytest.mark.parametrize("location", ["/there", "there", "{address}/there", "//{host}/there#part"])
def test_redirects_are_followed(server, target, location):
    url = server.add("/a", b"", redirect=location.format(address=server.address, host=server.host))
    server.add("/there", BODY, truncate=(1, 60_000))
    fetch(url, target, digest=DIGEST)
    assert server.starts("/there") == [None, 60_000]


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_redirects_to_other_schemes_are_refused(server, target, scheme):
    url = server.add("/a", b"", redirect=f"{scheme}:///etc/hostname")
    with pytest.raises(
        FetchError, match=f"^{url} redirects to something other than a URL of https or http"
    ):
        fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 1


def test_redirects_from_https_to_http_are_refused():
    with pytest.raises(FetchError, match=r"^https://a/b redirects from https to http, which"):
        http.resolve_redirect("https://u:p@a/b?secret#x", "http://a/b")
    assert http.resolve_redirect("http://localhost/b", "https://a/c?d") == "https://a/c?d"
    for location in ("http://[", "http://a:port/"):
        with pytest.raises(
            FetchError, match=r"^http://localhost/b redirects to something other than a URL"
        ):
            http.resolve_redirect("http://localhost/b", location)


@pytest.fixture
def https_server(tmp_path):
    """An HTTPS server, and its certificate."""
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
    with run_server(context) as server:
        yield server, certificate


def test_https_verifies_certificates_and_redirects(https_server, server, target, monkeypatch):
    secure_server, certificate = https_server
    url = secure_server.add("/a", BODY, truncate=(1, 60_000))
    words = f"^{url}: the certificate is not valid: self.signed certificate$"
    with pytest.raises(FetchError, match=words):
        fetch(url, target, digest=DIGEST)
    assert secure_server.requests == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    fetch(url, target, digest=DIGEST)
    assert secure_server.starts("/a") == [None, 60_000]
    # A redirect to http is not followed, even to the right bytes.
    target.unlink()
    redirecting = secure_server.add("/b", b"", redirect=server.add("/a", BODY))
    with pytest.raises(
        FetchError, match=f"^{redirecting} redirects from https to http, which is refused"
    ):
        fetch(redirecting, target, digest=DIGEST)
    assert server.requests == []
    # Stalled connections are cut under TLS too.
    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    with pytest.raises(FetchError, match="stalled"):
        fetch(secure_server.add("/c", BODY, dribble=0.02, framing="close"), target, digest=DIGEST)


@pytest.mark.parametrize(("hops", "allowed"), [(10, True), (11, False)])
def test_at_most_ten_redirects_are_followed(server, target, hops, allowed):
    for hop in range(hops):
        server.add(f"/{hop}", b"", redirect=f"/{hop + 1}")
    server.add(f"/{hops}", BODY)
    if allowed:
        fetch(f"{server.address}/0", target, digest=DIGEST)
    else:
        with pytest.raises(FetchError, match="redirects more than 10 times"):
            fetch(f"{server.address}/0", target, digest=DIGEST)
    assert len(server.requests) == 11


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://a/b", "weights.pth", "", "a:b"])
def test_raises_for_other_schemes(target, url):
    with pytest.raises(FetchError, match="only https and http"):
        fetch(url, target, digest=DIGEST)
    assert not target.parent.exists()


@pytest.mark.parametrize("url", ["http://", "http:///a", "http://a:b:c/", "http://[1/"])
def test_raises_for_invalid_urls(target, url):
    with pytest.raises(FetchError, match="URL"):
        fetch(url, target, digest=DIGEST)


SECRETS = ("hunter2", "aHVudGVy", "t0ken")


def test_a_login_is_sent_to_its_host_only(server, target, caplog):
    """Not to another host, a log, an error or a file."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="urllib3")
    login = "Basic dXNlcjpodW50ZXIyLw=="  # user:hunter2/
    port = server.http.server_port
    server.add("/a", b"", redirect="/same?sig=t0ken", login=login)
    server.add("/same", b"", redirect=f"http://localhost:{port}/other?sig=t0ken", login=login)
    server.add("/other", BODY, truncate=(9, 1000))
    outputs = []
    url = f"http://user:hunter2%2F@{server.host}/a?key=t0ken#t0ken"
    with pytest.raises(FetchError) as caught:
        fetch(url, target, digest=DIGEST)
    outputs.append(target.with_name("model.bin.part.json").read_text())
    assert f"{server.address}/a cannot be fetched" in str(caught.value)
    assert {request.path for request in server.requests} == {"/a", "/same", "/other"}
    for request in server.requests:
        assert request.headers.get("authorization") == (None if request.path == "/other" else login)
    server.files["/other"].statuses = [404]
    for path in ("/other", "/same"):
        server.files[path].statuses = [404]
        with pytest.raises(FetchError) as other:
            fetch(url, target, digest=DIGEST)
        outputs.append(str(other.value))
    output = " ".join([*outputs, str(caught.value), caplog.text])
    assert not [secret for secret in SECRETS if secret in output]


def test_a_token_is_sent_to_its_origin_only(server, target, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="urllib3")
    server.add("/a", b"", redirect="/same")
    server.add("/same", b"", redirect=f"http://localhost:{server.http.server_port}/other")
    server.add("/other", BODY, truncate=(9, 1000))
    with pytest.raises(FetchError) as caught:
        fetch(f"http://user:hunter2@{server.host}/a", target, digest=DIGEST, token="t0ken")
    for request in server.requests:
        expected = None if request.path == "/other" else "Bearer t0ken"
        assert request.headers.get("authorization") == expected
    record = target.with_name("model.bin.part.json").read_text()
    assert not [secret for secret in SECRETS if secret in f"{caplog.text}{caught.value}{record}"]


def test_another_port_is_another_origin(server, target):
    with run_server() as other_server:
        url = server.add("/a", b"", redirect=other_server.add("/a", BODY))
        fetch(url, target, digest=DIGEST, token="t0ken")
        assert "authorization" in server.requests[0].headers
        assert "authorization" not in other_server.requests[0].headers


def test_only_this_threads_logs_are_muted(caplog):
    log = logging.getLogger("urllib3.connectionpool")
    with http.mute_loggers("urllib3"):
        log.warning("mine")
        thread = threading.Thread(target=log.warning, args=("theirs",))
        thread.start()
        thread.join()
    log.warning("later")
    assert caplog.messages == ["theirs", "later"]


@pytest.mark.parametrize("bypassed", [False, True])
def test_the_environments_proxy_is_used(server, target, monkeypatch, bypassed):
    server.add("/a", BODY)
    monkeypatch.setenv("http_proxy", f"http://user:hunter2@{server.host}")
    if bypassed:
        monkeypatch.setenv("no_proxy", "localhost")
        host = f"localhost:{server.http.server_port}"
    else:
        host = "localhost:9"  # the server is asked for it, not this machine
        monkeypatch.delenv("no_proxy", raising=False)
    fetch(f"http://{host}/a", target, digest=DIGEST)
    (request,) = server.requests
    assert request.headers["host"] == host
    assert ("proxy-authorization" in request.headers) != bypassed


@pytest.mark.parametrize("proxy", ["socks5://user:hunter2@a", "http://user:hunter2@[", "http://"])
def test_raises_for_invalid_proxies(target, monkeypatch, proxy):
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(FetchError, match=r"^the proxy for https must be a URL of http or https$"):
        fetch("https://weights.invalid/a", target, digest=DIGEST)


def test_compressed_responses_are_refused(server, target):
    url = server.add("/a", BODY, headers={"Content-Encoding": "gzip"})
    with pytest.raises(FetchError, match="with the encoding 'gzip'"):
        fetch(url, target, digest=DIGEST)
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert list_names(target) == [LOCK]


@pytest.mark.parametrize(
    "host", ["example.org", "192.168.0.1", "127.0.0.1.example.org", "localhost.a"]
)
def test_plain_http_is_for_this_machine(target, host):
    with pytest.raises(FetchError, match=f"^http://{host}/a is refused: .* use https"):
        fetch(f"http://{host}/a", target, digest=DIGEST)
    with pytest.raises(FetchError, match=f"^http://{host}/b is refused"):
        http.resolve_redirect("http://localhost/a", f"http://{host}/b")
    assert not target.parent.exists()
    for name in ("127.0.0.1:8000", "[::1]:8000", "localhost", "LOCALHOST"):
        http.split_url(f"http://{name}/a")


def test_what_a_server_says_is_escaped(server, target):
    url = server.add("/a", b"", headers={"Content-Encoding": "\x1b[31m\x85"})
    with pytest.raises(FetchError) as caught:
        fetch(url, target, digest=DIGEST)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["maybe", "2", "-"])
def test_raises_for_an_offline_that_is_neither_yes_nor_no(target, monkeypatch, text):
    monkeypatch.setenv("ZOO_OFFLINE", text)
    with pytest.raises(SettingError, match=f"ZOO_OFFLINE must be 1 .*, or 0, got '{text}'"):
        fetch("https://localhost/a", target, digest=DIGEST)


@pytest.mark.parametrize(
    ("text", "offline"), [("1", True), ("True", True), ("off", False), ("", False)]
)
def test_offline_is_yes_or_no(monkeypatch, text, offline):
    monkeypatch.setenv("ZOO_OFFLINE", text)
    assert is_offline() == offline
