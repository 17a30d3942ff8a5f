"""Runs the application on a socket, until a signal stops it."""

import errno
import logging
import signal
import socket
from collections.abc import Callable
from types import FrameType

import numpy as np
import uvicorn

from zoo.serve.app import Limits, make_app
from zoo.serve.classifier import Classifier
from zoo_pretrained.printable import OneLineError

# Seconds for which a connection stays open between requests: longer than a proxy's usual 60.
KEEP_ALIVE_SECONDS = 75
# Seconds that requests in hand may take after a signal to stop; then they are cut off.
GRACE_SECONDS = 60
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class AddressError(OneLineError, OSError):
    """An address cannot be served on; the message says why."""


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address, which does not listen yet.

    Args:
      host: a name or an address.
      port: 0 takes a free one.

    Raises:
      AddressError: the port is taken, or the host is not this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _address_error(host, port, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _address_error(host, port, error) from error
    return listener


def run(
    model: Classifier, listener: socket.socket, limits: Limits, on_ready: Callable[[str], None]
) -> None:
    """Serves a model until SIGTERM or SIGINT; what was accepted by then is finished.

    Called in the main thread.

    Args:
      model: what to serve.
      listener: what `bind` returned; it is closed at the end.
      limits: what is taken.
      on_ready: called with the server's address when requests are taken.

    Raises:
      AddressError: another program listens at the address by now.
    """
    host, port = listener.getsockname()[:2]
    with listener:
        warm_up(model)
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(model, limits, is_stopping=lambda: server.should_exit),
                lifespan="on",
                ws="none",
                log_config=None,  # warnings and errors go to standard error
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )

        def stop(number: int, frame: FrameType | None) -> None:
            server.should_exit = True

        # uvicorn has handlers of its own while it runs, and afterwards raises the signals again,
        # which would end the process as if it had failed.
        before = {number: signal.signal(number, stop) for number in SIGNALS}
        # Of a malformed form the client hears.
        logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
        try:
            try:
                listener.listen(server.config.backlog)
            except OSError as error:
                raise _address_error(host, port, error) from error
            on_ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
            server.run(sockets=[listener])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def warm_up(model: Classifier) -> None:
    """Computes a batch of each size, so that the first request takes no longer than others."""
    for count in model.batch_sizes:
        shape = (count, model.size, model.size, len(model.info.preprocessing.mean))
        model.probabilities(np.zeros(shape, np.float32))


def _address_error(host: str, port: int, error: Exception) -> AddressError:
    cause = getattr(error, "strerror", None) or error
    message = f"cannot serve at {host}, port {port}: {cause}"
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        message += "; choose another --port, or 0 for a free one"
    return AddressError(message)
