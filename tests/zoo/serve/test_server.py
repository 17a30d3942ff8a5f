"""The process: its address, and signals while requests are in hand."""

import concurrent.futures
import http.client
import signal
import socket
import time

import pytest

from tests.zoo.serve.clients import encode, post, serving_process
from zoo.serve import server

FAKE = ("-m", "tests.zoo.serve.fake_model")
RED = encode("red")


def test_sigterm_finishes_what_was_accepted(root):
    """A body that is still being sent is waited for; what comes later is refused."""
    command = (*FAKE, "127.0.0.1", "0.4", "100")
    with (
        serving_process(*command, cwd=root) as (process, port),
        concurrent.futures.ThreadPoolExecutor(10) as pool,
    ):
        sending = socket.create_connection(("127.0.0.1", port), timeout=10)
        head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(RED)}\r\n\r\n"
        sending.sendall(head.encode() + RED[:20])
        answers = [pool.submit(post, port, RED) for _ in range(9)]
        time.sleep(0.3)
        process.terminate()
        time.sleep(0.3)
        sending.sendall(RED[20:])
        assert [each.result()[0] for each in answers] == [200] * 9
        assert sending.recv(15) == b"HTTP/1.1 200 OK"
        sending.close()
        with pytest.raises(OSError):  # noqa: PT011 – refused, or reset
            post(port, RED)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, "", "")


def test_a_client_that_sends_nothing_does_not_hold_up_the_end(root):
    with serving_process(*FAKE, "127.0.0.1", "0", "2", cwd=root) as (process, port):
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        assert post(port, RED, connection=idle)[0] == 200
        sending = socket.create_connection(("127.0.0.1", port), timeout=10)
        sending.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        idle.close()
        sending.close()


def test_a_busy_port():
    with server.bind("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(server.AddressError, match=f"port {port}: .*in use; choose another"):
            server.bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid", "", "[", "\ud800", "x" * 999])
def test_a_wrong_host(host, monkeypatch):
    if "." in host:
        monkeypatch.setattr(socket, "getaddrinfo", fail_unless_numeric(socket.getaddrinfo))
    if host:
        with pytest.raises(server.AddressError, match="cannot serve at"):
            server.bind(host, 0)


def fail_unless_numeric(original):
    def getaddrinfo(host, *args, flags=0, **options):
        return original(host, *args, flags=flags | socket.AI_NUMERICHOST, **options)

    return getaddrinfo
