"""HTTP requests with limits on time and redirects, and without secrets in logs or errors.

Every request ends, whatever the server does: a connection that brings less than 16 KiB in
ZOO_TIMEOUT seconds is cut, even while it sends headers.
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

from zoo_pretrained.fetch.errors import FetchError, SettingError
from zoo_pretrained.logs import drop_records

if TYPE_CHECKING:
    from urllib3 import PoolManager
    from urllib3.response import BaseHTTPResponse

SCHEMES = ("https", "http")
# This machine, to which http is as safe as https.
LOOPBACK = ("127.0.0.1", "::1", "localhost")
USER_AGENT = "jax-zoo"
MAX_REDIRECTS = 10
# Statuses below 500 that another try may change.
RETRYABLE_STATUSES = (408, 429)
# The fewest bytes that a connection must bring in `timeout()` seconds.
MIN_BYTES = 16 << 10


class RetryError(Exception):
    """An attempt failed in a way that another attempt may not.

    Args:
      reason: for people.
      retry_after: the seconds that the server asks to wait.
    """

    def __init__(self, reason: str, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def timeout() -> float:
    """Returns $ZOO_TIMEOUT, the seconds that a server may be silent; 30 by default."""
    text = os.environ.get("ZOO_TIMEOUT") or "30"
    with suppress(ValueError):
        if 0 < float(text) < threading.TIMEOUT_MAX:
            return float(text)
    raise SettingError(f"ZOO_TIMEOUT must be a number of seconds above 0, got {text!r}")


def split_url(url: str) -> SplitResult:
    """Splits a URL of what is fetched into its parts.

    Raises:
      FetchError: it is not a URL of https, nor of http on this machine.
    """
    parts = _split_any(url)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise FetchError(
            f"{redact_url(url)} is refused: over plain http anybody on the way can read and change "
            f"it; use https (http is for {', '.join(LOOPBACK)})"
        )
    return parts


def _split_any(url: str) -> SplitResult:
    """Splits a URL of https or http, which may be a proxy's; errors as for `split_url`."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        raise FetchError("an address cannot be read: it is not a URL") from None
    if parts.scheme not in SCHEMES:
        raise FetchError(f"only https and http are fetched, got the scheme {parts.scheme!r}")
    if not parts.hostname:
        raise FetchError(f"a URL must name a host, got {redact_url(url)}")
    return parts


def redact_url(url: str) -> str:
    """Removes what may be secret from a URL: user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:  # it is no URL, and may hold a secret anywhere
        return f"{url.partition('://')[0]}://…"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def resolve_redirect(url: str, location: str) -> str:
    """Returns the URL that a redirect leads to.

    Raises:
      FetchError: it leads from https to http, or to neither.
    """
    try:
        target = _split_any(urljoin(url, location))
    except (ValueError, FetchError):
        raise FetchError(
            f"{redact_url(url)} redirects to something other than a URL of https or http, "
            f"which is refused"
        ) from None
    if (urlsplit(url).scheme, target.scheme) == ("https", "http"):
        raise FetchError(f"{redact_url(url)} redirects from https to http, which is refused")
    return split_url(target.geturl()).geturl()


@contextmanager
def mute_loggers(*libraries: str) -> Iterator[None]:
    """Drops what libraries log from this thread, as it may contain URLs with secrets."""
    this_thread = threading.get_ident()
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in libraries]
    with drop_records(names, lambda _: threading.get_ident() == this_thread):
        yield


class StallWatch:
    """Cuts a connection that is too slow over time; a socket's timeout sees single reads only.

    Args:
      seconds: the time in which MIN_BYTES must arrive.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.stalled = False
        self._received = 0
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._monitor, daemon=True)

    def __enter__(self) -> "StallWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._socket:
            self._socket.close()

    def watch_socket(self, connected: socket.socket) -> socket.socket:
        """Watches this connection from now on, and returns it."""
        with self._lock:
            if self._socket:
                self._socket.close()
            # A duplicate stays when TLS takes the socket over, and shuts the same connection.
            self._socket = connected.dup()
        self.add_received(MIN_BYTES)
        return connected

    def add_received(self, count: int) -> None:
        """Counts bytes that have arrived."""
        self._received += count

    def error(self) -> RetryError:
        """Returns the error to raise once it has `stalled`."""
        return RetryError(f"it stalled: less than 16 KiB came in {self.seconds:g} s")

    def _monitor(self) -> None:
        before = self._received
        while not self._stop.wait(self.seconds):
            with self._lock:
                # Before there is a connection, its own timeout counts.
                if self._socket and self._received - before < MIN_BYTES:
                    self.stalled = True
                    with suppress(OSError):  # it is closed already
                        self._socket.shutdown(socket.SHUT_RDWR)
                    return
            before = self._received


@contextmanager
def open_url(
    url: str,
    headers: Mapping[str, str],
    token: str | None = None,
    *,
    method: str = "GET",
    leaves_host: bool = True,
) -> Iterator[tuple["BaseHTTPResponse", StallWatch]]:
    """Sends a request and yields the response, its body unread, after at most 10 redirects.

    Bodies are not decoded. Proxies are those of the environment.

    Args:
      url: its user and password are sent to its own origin only, wherever that redirects to.
      headers: sent to every host on the way.
      token: a bearer token, in place of user and password.
      method: of the request.
      leaves_host: whether redirects that name a host are followed; otherwise they are yielded.

    Raises:
      RetryError: there is no connection, or it breaks or stalls, also while the caller reads.
      FetchError: a URL is refused.
    """
    import urllib3
    from urllib3.exceptions import HTTPError

    parts = split_url(url)
    login = {"Authorization": f"Bearer {token}"} if token else _basic_auth(parts)
    origin = (parts.scheme, parts.hostname, parts.port)
    seconds = timeout()
    with ExitStack() as stack:
        stack.enter_context(mute_loggers("urllib3"))
        watch = stack.enter_context(StallWatch(seconds))
        try:
            for _ in range(MAX_REDIRECTS + 1):
                hop = split_url(url)
                bare = hop._replace(netloc=hop.netloc.rpartition("@")[2], fragment="").geturl()
                manager = _connection_manager(bare, watch)
                stack.callback(manager.clear)
                response = manager.request(
                    method,
                    bare,
                    headers={
                        "User-Agent": USER_AGENT,
                        "Accept-Encoding": "identity",
                        **headers,
                        **(login if (hop.scheme, hop.hostname, hop.port) == origin else {}),
                    },
                    timeout=urllib3.Timeout(connect=seconds, read=seconds),
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                )
                stack.callback(response.close)
                watch.add_received(MIN_BYTES)
                location = response.headers.get("Location")
                if (
                    response.status not in (301, 302, 303, 307, 308)
                    or location is None
                    or (not leaves_host and urlsplit(location).netloc)
                ):
                    yield response, watch
                    break
                url = resolve_redirect(url, location)
            else:
                raise FetchError(f"{redact_url(url)} redirects more than {MAX_REDIRECTS} times")
        except HTTPError as error:
            # Its own message contains URLs.
            raise _translate_error(error, url, watch) from None
        if watch.stalled:
            raise watch.error()


def _basic_auth(parts: SplitResult) -> dict[str, str]:
    """The Authorization header for a URL's user and password, if it has them."""
    if parts.username is None:
        return {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def _connection_manager(url: str, watch: StallWatch) -> "PoolManager":
    """Makes a manager that connects to a URL's host or proxy, with watched connections."""
    import urllib3
    from urllib3.exceptions import HTTPError

    parts = split_url(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    manager = urllib3.PoolManager()
    if proxy and not proxy_bypass(parts.netloc):
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        try:
            login = _basic_auth(_split_any(proxy))
            headers = {f"Proxy-{name}": value for name, value in login.items()}
            manager = urllib3.ProxyManager(proxy, proxy_headers=headers)
        except (FetchError, HTTPError):
            raise FetchError(
                f"the proxy for {parts.scheme} must be a URL of http or https"
            ) from None
    pool = manager.connection_from_url(url)
    connection_class: Any = pool.ConnectionCls

    def connect(self: Any) -> socket.socket:
        return watch.watch_socket(connection_class._new_conn(self))

    pool.ConnectionCls = type("WatchedConnection", (connection_class,), {"_new_conn": connect})
    return manager


def _translate_error(error: Exception, url: str, watch: StallWatch) -> Exception:
    """Translates an error of urllib3 to one of this package, without secrets of the URL."""
    from urllib3 import exceptions

    if watch.stalled:
        return watch.error()
    host = urlsplit(url).hostname
    inner = error.original_error if isinstance(error, exceptions.ProxyError) else error
    cause = inner.args[-1] if inner.args else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        return FetchError(
            f"{redact_url(url)}: the certificate is not valid: {cause.verify_message}"
        )
    match error:
        case exceptions.LocationValueError():
            return FetchError(f"{redact_url(url)} is not an address that can be fetched")
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
