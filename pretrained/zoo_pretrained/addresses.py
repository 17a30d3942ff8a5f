"""Reading stores at addresses: https:// by `fetch`; gs://, s3:// and hf:// through fsspec."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo_pretrained import fetch
from zoo_pretrained.fetch import http

# The packages that fsspec needs for a scheme.
FSSPEC_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs"}


def is_http(address: str) -> bool:
    """Whether an address is of http or https."""
    return address.partition("://")[0].lower() in ("http", "https")


def expand_home(path: str) -> Path:
    """The path, with the home folder that "~" or "~user" at its start stands for.

    Raises:
      FileNotFoundError: there is no such user, or no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        name = path.partition("/")[0]
        raise FileNotFoundError(f"{path}: no home folder is known for {name}") from error


def redact_address(address: str) -> str:
    """Removes user, password and query from an address, for messages; a path stays as it is."""
    return http.redact_url(address) if "://" in address else address


def read_http(address: str, max_bytes: int) -> bytes:
    """Downloads a small file, which nothing verifies, and returns its bytes.

    Raises:
      OfflineError: `ZOO_OFFLINE` is set.
      FetchError: the file cannot be downloaded, or is larger than `max_bytes`.
    """
    _check_online(address)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        fetch.fetch_unverified(address, file, max_bytes)
        return file.read_bytes()


@contextlib.contextmanager
def open_filesystem(address: str) -> Iterator[tuple[Any, str]]:
    """Yields the fsspec file system of an address, and the path in it.

    Raises:
      OfflineError: `ZOO_OFFLINE` is set.
      FetchError: something fails, here or in the caller's `with` block.
    """
    import fsspec

    name = redact_address(address)
    scheme = address.partition("://")[0]
    if scheme != "memory":
        _check_online(address)
    try:
        yield fsspec.core.url_to_fs(address)
    except fetch.FetchError:
        raise
    except ImportError as error:
        package = FSSPEC_PACKAGES.get(scheme, scheme)
        raise fetch.FetchError(f"{name} needs a package: pip install {package}") from error
    except ValueError as error:
        raise fetch.FetchError(
            f"{name} cannot be used: {error}; use an address of https, gs, s3 or hf"
        ) from error
    except Exception as error:  # each service has its own errors, whose messages may hold secrets
        cause = type(error).__name__
        raise fetch.FetchError(f"{name} cannot be used: {cause}") from None


def _check_online(address: str) -> None:
    """Raises OfflineError if ZOO_OFFLINE is set."""
    if fetch.is_offline():
        raise fetch.OfflineError(f"ZOO_OFFLINE is set: {redact_address(address)} is not read")
