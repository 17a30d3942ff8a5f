"""Addresses of stores, of which fsspec reads gs://, s3:// and hf://."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from zoo_pretrained import fetch
from zoo_pretrained.fetch import http

# Which package knows a scheme that fsspec alone does not.
PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs"}


def is_web(address: str) -> bool:
    """Whether a web server answers there."""
    return urlsplit(address).scheme in ("http", "https")


def redact_address(address: str) -> str:
    """An address or a path as messages may show it: without user, password and query."""
    return http.redacted(address) if "://" in address else address


def read(address: str, most: int) -> bytes:
    """A small file of a web server, which nothing else verifies.

    Raises:
      OfflineError: `ZOO_OFFLINE` is set.
      FetchError: it cannot be had, or is larger than `most` bytes.
    """
    if fetch.offline():
        raise fetch.OfflineError(f"ZOO_OFFLINE is set: {redact_address(address)} is not read")
    with tempfile.TemporaryDirectory() as workshop:
        file = Path(workshop) / "file"
        fetch.fetch_unverified(address, file, most)
        return file.read_bytes()


@contextlib.contextmanager
def opened(address: str) -> Iterator[tuple[Any, str]]:
    """The file system of an address (see fsspec), and the path in it.

    Raises:
      OfflineError: `ZOO_OFFLINE` is set.
      FetchError: whatever goes wrong there, then or in the caller's use of it.
    """
    import fsspec

    name = redact_address(address)
    scheme = address.partition("://")[0]
    if fetch.offline() and scheme != "memory":
        raise fetch.OfflineError(f"ZOO_OFFLINE is set: {name} is not read")
    try:
        yield fsspec.core.url_to_fs(address)
    except fetch.FetchError:
        raise
    except ImportError as error:
        package = PACKAGES.get(scheme, scheme)
        raise fetch.FetchError(f"{name} needs a package: pip install {package}") from error
    except ValueError as error:
        known = "https, gs, s3 and hf"
        raise fetch.FetchError(f"{name} cannot be used: {error}; known are {known}") from error
    except Exception as error:  # each service has errors of its own, whose texts may hold secrets
        cause = type(error).__name__
        raise fetch.FetchError(f"{name} cannot be used: {cause}") from None
