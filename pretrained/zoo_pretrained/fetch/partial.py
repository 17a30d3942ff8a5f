"""Partial downloads: the files that they are kept in, and one attempt to complete one."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus, client
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_pretrained.bounded_json import read_json
from zoo_pretrained.fetch import http
from zoo_pretrained.fetch.errors import (
    FetchError,
    check_disk_space,
    format_bytes,
    translate_os_errors,
)
from zoo_pretrained.fetch.http import RetryError
from zoo_pretrained.fetch.progress import Progress

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

CHUNK_BYTES = 64 << 10
# For a file whose size is not published; every checkpoint is smaller.
MAX_BYTES = 16 << 30


@dataclass(frozen=True)
class DownloadRequest:
    """A file to download.

    Args:
      url: of the whole file.
      size: its bytes, if known.
      max_bytes: the largest size allowed where `size` is not known.
      token: as in `http.open_url`.
    """

    url: str = field(repr=False)
    size: int | None = None
    max_bytes: int = MAX_BYTES
    token: str | None = field(default=None, repr=False)

    @property
    def redacted_url(self) -> str:
        """The URL without its secrets."""
        return http.redact_url(self.url)


class PartialFile:
    """A partial download: its bytes in "<target>.part", its URL and tag in "<target>.part.json".

    Args:
      target: the path of the whole file.
    """

    def __init__(self, target: Path) -> None:
        self.folder = target.parent
        self.path = target.with_name(f"{target.name}.part")
        self.record_path = target.with_name(f"{target.name}.part.json")

    def size(self) -> int:
        """Returns the number of bytes so far."""
        with translate_os_errors(self.folder):
            return self.path.stat().st_size if self.path.exists() else 0

    def resume_point(self, request: DownloadRequest) -> tuple[int, str | None]:
        """Returns the number of bytes so far and their version's tag; deletes unusable bytes."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            record = read_json(self.record_path)
            if record["url"] == request.redacted_url and self.size() <= (request.size or MAX_BYTES):
                return self.size(), record["tag"]
        self.delete()
        return 0, None

    def create(self, request: DownloadRequest, tag: str | None) -> None:
        """Creates an empty file and a record of its version.

        In this order, so that bytes of one version are never recorded as another's.
        """
        with translate_os_errors(self.folder):
            self.path.write_bytes(b"")
            record = json.dumps({"url": request.redacted_url, "tag": tag})
            self.record_path.write_text(record, encoding="utf-8")

    def delete(self) -> None:
        """Deletes the bytes so far and their record."""
        with translate_os_errors(self.folder):
            self.path.unlink(missing_ok=True)
            self.record_path.unlink(missing_ok=True)


def try_download(request: DownloadRequest, part: PartialFile, progress: Progress | None) -> bool:
    """Tries once to complete a partial file.

    Args:
      request: the file to download.
      part: resumed where it ends, if the server still has that version.
      progress: called after each chunk.

    Returns:
      Whether the file may be wrong through no fault of the server: it was put together from two
      responses, or from one that did not give its length.

    Raises:
      RetryError: another attempt may succeed.
      FetchError: no attempt would.
    """
    start, tag = part.resume_point(request)
    if start and start == request.size:
        return True
    headers = {}
    if start:
        headers["Range"] = f"bytes={start}-"
        if tag and not tag.startswith("W/"):  # If-Range does not take a weak tag
            headers["If-Range"] = tag
    with http.open_url(request.url, headers, request.token) as (response, watch):
        if (body := _check_response(response, request, part, start)) is None:
            return True
        start, total, tag = body
        size = request.size
        if total is not None and (total > request.max_bytes if size is None else total != size):
            part.delete()
            expected = f"at most {request.max_bytes}" if size is None else size
            raise FetchError(f"{request.redacted_url} has {total} bytes, expected {expected}")
        full_size = size if total is None else total
        if full_size is not None:
            check_disk_space(part.folder, full_size - part.size())
        if not start:
            part.create(request, tag)
        done, limit = start, request.max_bytes if full_size is None else full_size
        needed = None if full_size is None else full_size - start
        with translate_os_errors(part.folder, needed), part.path.open("r+b") as stream:
            stream.seek(start)
            while done <= limit and (chunk := response.read1(CHUNK_BYTES, decode_content=False)):
                stream.write(chunk)
                done += len(chunk)
                watch.add_received(len(chunk))
                if progress:
                    progress(done, full_size)
    if done > limit:
        part.delete()
        raise FetchError(
            f"{request.redacted_url} sends more than {format_bytes(limit)} ({limit} bytes)"
        )
    if full_size is not None and done < full_size:
        raise RetryError(f"it ended after {done} of {full_size} bytes")
    return start > 0 or total is None


def _check_response(
    response: "BaseHTTPResponse", request: DownloadRequest, part: PartialFile, start: int
) -> tuple[int, int | None, str | None] | None:
    """Reads status and headers; raises if the body is not what was asked for.

    Returns:
      The body's first byte in the file, the file's size if it is given, and its version's tag;
      None if nothing follows the bytes so far, so that only their digest can tell.
    """
    status, headers = response.status, response.headers
    tag = headers.get("ETag") or headers.get("Last-Modified")
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) and encoding not in ("", "identity"):
        # Digests and ranges are of the file itself.
        raise FetchError(f"{request.redacted_url} was sent with the encoding {encoding!r}")
    if status == HTTPStatus.OK:
        chunked = "Transfer-Encoding" in headers  # then Content-Length does not count
        return 0, None if chunked else _parse_int(headers.get("Content-Length")), tag
    if start and status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and request.size is None:
        return None
    if start and status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        pattern = r"bytes (\d{1,19})-\d{1,19}/(\d{1,19}|\*)"
        found = re.fullmatch(pattern, headers.get("Content-Range", "").strip())
        if found and int(found[1]) == start:
            return start, _parse_int(found[2]), tag
        part.delete()
        raise RetryError("it sent another range than asked for")
    answer = f"{status} {client.responses.get(status, '')}".strip()
    if status >= 500 or status in http.RETRYABLE_STATUSES:
        raise RetryError(f"it answered {answer}", _parse_int(headers.get("Retry-After")) or 0)
    raise FetchError(f"{request.redacted_url} answered {answer}")


def _parse_int(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,19}", text.strip()) else None
