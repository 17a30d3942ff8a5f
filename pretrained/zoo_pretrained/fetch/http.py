"""HTTP with limits: on time, on redirects, and on what is told of an address.

Whatever a server does, a request comes to its end: no connection may bring less than 16 KiB in
ZOO_TIMEOUT seconds, be it in its headers.
"""

import base64
import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from zoo_pretrained.fetch.errors import FetchError

if TYPE_CHECKING:
    from urllib3 import PoolManager
    from urllib3.response import BaseHTTPResponse

SCHEMES = ("https", "http")
REDIRECTS = 10
# Answers that another try may change, beside those from 500 on.
BUSY = (408, 429)
# Of a connection, in the seconds of `timeout`.
FEWEST_BYTES = 16 << 10


class RetryError(Exception):
    """An attempt that failed as another may not.

    Args:
      reason: for people.
      after: the seconds that the server asks to wait.
    """

    def __init__(self, reason: str, after: float = 0) -> None:
        super().__init__(reason)
        self.after = after


def timeout() -> float:
    """$ZOO_TIMEOUT, the seconds that a server may keep silent; 30 by default."""
    text = os.environ.get("ZOO_TIMEOUT") or "30"
    with suppress(ValueError):
        if 0 < float(text) < threading.TIMEOUT_MAX:
            return float(text)
    raise FetchError(f"ZOO_TIMEOUT must be a number of seconds above 0, got {text!r}")


def split(url: str) -> SplitResult:
    """The parts of an address.

    Raises:
      FetchError: it is none of https or http.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is no number
    except ValueError:
        raise FetchError("an address cannot be read: it is no URL") from None
    if parts.scheme not in SCHEMES:
        raise FetchError(f"only https and http are fetched, got the scheme {parts.scheme!r}")
    if not parts.hostname:
        raise FetchError(f"a URL must name a host, got {redacted(url)}")
    return parts


def redacted(url: str) -> str:
    """An address as errors show it: user, password, query and fragment may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def redirected(url: str, location: str) -> str:
    """The address that a redirect leads to.

    Raises:
      FetchError: it leads from https to http, or to what is neither.
    """
    try:
        there = split(urljoin(url, location))
    except (ValueError, FetchError):
        raise FetchError(
            f"{redacted(url)} redirects to what is no URL of https or http, which is refused"
        ) from None
    if (urlsplit(url).scheme, there.scheme) == ("https", "http"):
        raise FetchError(f"{redacted(url)} redirects from https to http, which is refused")
    return there.geturl()


@contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Keeps back what libraries log from this thread: whole addresses, at some levels."""
    me = threading.get_ident()

    def passes(_: logging.LogRecord) -> bool:
        return threading.get_ident() != me

    known = list(logging.root.manager.loggerDict)
    loggers = [logging.getLogger(name) for name in known if name.split(".")[0] in libraries]
    for logger in loggers:
        logger.addFilter(passes)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(passes)


class Watch:
    """Cuts a connection that brings too little, which no timeout of single reads can tell.

    Args:
      seconds: the time in which FEWEST_BYTES must arrive.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.stalled = False
        self._arrived = 0
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._socket:
            self._socket.close()

    def over(self, connected: socket.socket) -> socket.socket:
        """Watches this connection from now on."""
        with self._lock:
            if self._socket:
                self._socket.close()
            # A duplicate stays when TLS takes the socket over, and shuts the same connection.
            self._socket = connected.dup()
        self.saw(FEWEST_BYTES)
        return connected

    def saw(self, count: int) -> None:
        """So many bytes have come."""
        self._arrived += count

    def error(self) -> RetryError:
        """What to raise once it has `stalled`."""
        return RetryError(f"it stalled: less than 16 KiB came in {self.seconds:g} s")

    def _look(self) -> None:
        before = self._arrived
        while not self._over.wait(self.seconds):
            with self._lock:
                # Before there is a connection, its own timeout counts.
                if self._socket and self._arrived - before < FEWEST_BYTES:
                    self.stalled = True
                    with suppress(OSError):  # it is closed already
                        self._socket.shutdown(socket.SHUT_RDWR)
                    return
            before = self._arrived


@contextmanager
def opened(
    url: str, headers: Mapping[str, str], token: str | None = None
) -> Iterator[tuple["BaseHTTPResponse", Watch]]:
    """The answer to a GET, its body unread and undecoded, after at most 10 redirects.

    Proxies are those of the environment.

    Args:
      url: its user and password go to its host alone, whatever that redirects to.
      headers: sent wherever it leads.
      token: a bearer's, instead of user and password.

    Raises:
      RetryError: no connection, or it broke off, or stalled, then or in the caller's reading.
      FetchError: an address that is refused.
    """
    import urllib3
    from urllib3.exceptions import HTTPError

    parts = split(url)
    login = {"Authorization": f"Bearer {token}"} if token else _login(parts)
    origin = (parts.scheme, parts.hostname, parts.port)
    seconds = timeout()
    with ExitStack() as stack:
        stack.enter_context(quiet("urllib3"))
        watch = stack.enter_context(Watch(seconds))
        try:
            for _ in range(REDIRECTS + 1):
                here = split(url)
                bare = here._replace(netloc=here.netloc.rpartition("@")[2], fragment="").geturl()
                manager = _manager(bare, watch)
                stack.callback(manager.clear)
                response = manager.request(
                    "GET",
                    bare,
                    headers={
                        "User-Agent": "jax-zoo",
                        "Accept-Encoding": "identity",
                        **headers,
                        **(login if (here.scheme, here.hostname, here.port) == origin else {}),
                    },
                    timeout=urllib3.Timeout(connect=seconds, read=seconds),
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                )
                stack.callback(response.close)
                watch.saw(FEWEST_BYTES)
                location = response.headers.get("Location")
                if response.status not in (301, 302, 303, 307, 308) or location is None:
                    yield response, watch
                    break
                url = redirected(url, location)
            else:
                raise FetchError(f"{redacted(url)} redirects more than {REDIRECTS} times")
        except HTTPError as error:
            # Their own texts hold addresses.
            raise _translated(error, url, watch) from None
        if watch.stalled:
            raise watch.error()


def _login(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def _manager(url: str, watch: Watch) -> "PoolManager":
    """What connects to a URL's host, or to the proxy for it; the connections are watched."""
    import urllib3
    from urllib3.exceptions import HTTPError

    parts = split(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    manager = urllib3.PoolManager()
    if proxy and not proxy_bypass(parts.netloc):
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        try:
            headers = {f"Proxy-{name}": value for name, value in _login(split(proxy)).items()}
            manager = urllib3.ProxyManager(proxy, proxy_headers=headers)
        except (FetchError, HTTPError):
            raise FetchError(
                f"the proxy for {parts.scheme} must be a URL of http or https"
            ) from None
    pool = manager.connection_from_url(url)
    kind: Any = pool.ConnectionCls

    def connect(self: Any) -> socket.socket:
        return watch.over(kind._new_conn(self))

    pool.ConnectionCls = type("Watched", (kind,), {"_new_conn": connect})
    return manager


def _translated(error: Exception, url: str, watch: Watch) -> Exception:
    """What urllib3 raises → an error of this package, without the address's secrets."""
    from urllib3 import exceptions

    if watch.stalled:
        return watch.error()
    host = urlsplit(url).hostname
    inner = error.original_error if isinstance(error, exceptions.ProxyError) else error
    cause = inner.args[-1] if inner.args else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        return FetchError(f"{redacted(url)}: the certificate is not valid: {cause.verify_message}")
    match error:
        case exceptions.LocationValueError():
            return FetchError(f"{redacted(url)} is no address that can be fetched")
        case exceptions.ProxyError():
            reason = f"the proxy for {host} refuses, or does not answer"
        case exceptions.NameResolutionError():
            reason = f"the host {host} is not known"
        case exceptions.NewConnectionError():
            why = getattr(error.__cause__, "strerror", None) or "no connection"
            reason = f"cannot connect to {host}: {why}"
        case exceptions.TimeoutError():
            reason = f"no answer in {watch.seconds:g} s"
        case exceptions.SSLError():
            reason = f"no secure connection to {host}"
        case _:
            reason = "the connection broke off"
    return RetryError(reason)
