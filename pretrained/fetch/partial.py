"""Files that are there in part, and what brings them to their end."""

import email.utils
import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from pretrained.fetch import http
from pretrained.fetch.errors import FetchError, place, readable, room
from pretrained.fetch.http import RetryError
from pretrained.fetch.progress import Progress

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

PIECE = 64 << 10
# For a file whose size is not published; any checkpoint's is less.
LIMIT = 16 << 30


@dataclass(frozen=True)
class Version:
    """Which file it is that is there in part: the JSON beside it.

    Args:
      url: without its secrets.
      etag: of the server.
      modified: the Last-Modified of the server.
      total: the whole file's bytes.
    """

    url: str
    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """What If-Range takes: a strong ETag, else a date."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.modified

    def agrees(self, other: "Version") -> bool:
        """Whether two answers can be of the same file, as far as both say."""
        pairs = [(self.etag, other.etag), (self.total, other.total)]
        if not (self.etag and other.etag):
            pairs.append((self.modified, other.modified))
        return all(mine is None or its is None or mine == its for mine, its in pairs)


class Partial:
    """The files "<target>.part", what has come so far, and "<target>.part.json", its version.

    Args:
      target: the whole file to be.
    """

    def __init__(self, target: Path) -> None:
        self.folder = target.parent
        self.path = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")
        self._draft = target.with_name(f"{target.name}.part.json.new")

    def length(self) -> int:
        """The bytes that are there."""
        with place(self.folder):
            try:
                return self.path.stat().st_size
            except FileNotFoundError:
                return 0

    def version(self, url: str) -> Version:
        """What the note says; what has none, or of another URL, is dropped."""
        shown = http.redacted(url)
        try:
            found = json.loads(self.note.read_text(encoding="utf-8"))
            version = Version(**found)
            texts = isinstance(version.etag, str | None) and isinstance(
                version.modified, str | None
            )
            if version.url == shown and texts and isinstance(version.total, int | None):
                return version
        except (OSError, ValueError, TypeError):
            pass
        self.drop()
        return Version(shown)

    def begin(self, version: Version) -> None:
        """Makes the file empty, then notes its version: never one version's bytes as another's."""
        with place(self.folder, version.total):
            self.path.write_bytes(b"")
            self._draft.write_text(json.dumps(asdict(version)), encoding="utf-8")
            self._draft.replace(self.note)

    def drop(self) -> None:
        """Forgets what has come."""
        with place(self.folder):
            for path in (self.path, self.note, self._draft):
                path.unlink(missing_ok=True)


def receive(
    url: str, part: Partial, size: int | None, progress: Progress | None, most: int | None = None
) -> bool:
    """One attempt to bring a partial file to its end.

    Args:
      url: of the whole file.
      part: goes on where it is, if it is of the version that the server has.
      size: the whole file's bytes, where known.
      progress: told after each piece.
      most: the bytes that it may have where `size` is not known; LIMIT by default.

    Returns:
      Whether it may be whole in name only: it was put together of two answers, or of one that
      did not say how long it is.

    Raises:
      RetryError: another attempt may do better.
      FetchError: none would.
    """
    known = part.version(url)
    start = part.length()
    whole = size if known.total is None else known.total
    if (size is not None and whole != size) or (whole is not None and start > whole):
        part.drop()
        known, start, whole = Version(known.url), 0, size
    if start and start == whole:
        return True
    headers = {}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known.validator:
            headers["If-Range"] = known.validator
    with http.opened(url, headers) as (response, watch):
        version, start = _judged(response, url, part, known, start)
        total = version.total
        if size is not None and total is not None and total != size:
            part.drop()
            raise FetchError(f"{version.url} has {total} bytes, expected {size}")
        whole = size if total is None else total
        limit = (LIMIT if most is None else most) if size is None else size
        if whole is not None and whole > limit:
            part.drop()
            raise FetchError(f"{version.url} has {whole} bytes, more than {limit}")
        if start and start == whole:
            return True
        if whole is not None:
            room(part.folder, whole - part.length())
        if not start:
            part.begin(version)
        done, limit = start, limit if whole is None else whole
        needed = None if whole is None else whole - start
        with place(part.folder, needed), part.path.open("r+b") as stream:
            stream.seek(start)
            while done <= limit and (piece := response.read1(PIECE, decode_content=False)):
                stream.write(piece)
                done += len(piece)
                watch.saw(len(piece))
                if progress:
                    progress(done, whole)
    if done > limit:
        part.drop()
        raise FetchError(f"{version.url} sends more than {readable(limit)} ({limit} bytes)")
    if whole is not None and done < whole:
        raise RetryError(f"it ended after {done} of {whole} bytes")
    return start > 0 or total is None


def _judged(
    response: "BaseHTTPResponse", url: str, part: Partial, known: Version, start: int
) -> tuple[Version, int]:
    """The version that an answer is of, and the byte that it begins with."""
    status, headers = response.status, response.headers
    shown = http.redacted(url)
    version = Version(shown, headers.get("ETag"), headers.get("Last-Modified"))
    if status == HTTPStatus.OK:
        _identity(headers, shown)
        framed = "Transfer-Encoding" in headers  # which a length beside it does not count against
        return _sized(version, None if framed else _number(headers.get("Content-Length"))), 0
    if start and status == HTTPStatus.PARTIAL_CONTENT:
        _identity(headers, shown)
        form = r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)"
        found = re.fullmatch(form, headers.get("Content-Range", "").strip())
        if found and int(found[1]) == start:
            version = _sized(version, _number(found[3]))
            if known.agrees(version):
                return version, start
            part.drop()
            raise RetryError("the file has changed")
        part.drop()
        raise RetryError("it sent another range than asked for")
    if start and status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        there = headers.get("Content-Range", "").strip().removeprefix("bytes */")
        version = _sized(version, _number(there))
        if version.total == start and known.agrees(version):
            return version, start
        part.drop()
        raise RetryError("it has no such range")
    answer = f"{status} {_phrase(status)}".strip()
    if status >= 500 or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS):
        raise RetryError(f"it answered {answer}", _after(headers))
    raise FetchError(f"{shown} answered {answer}")


def _identity(headers: Mapping[str, str], shown: str) -> None:
    """Raises FetchError for a compressed answer: digests and ranges are of the file itself."""
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise FetchError(f"{shown} was sent with the encoding {encoding!r}, which is refused")


def _sized(version: Version, total: int | None) -> Version:
    return Version(version.url, version.etag, version.modified, total)


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,19}", text.strip()) else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _after(headers: Mapping[str, str]) -> float | None:
    """Retry-After, of seconds or of a date."""
    text = headers.get("Retry-After", "").strip()
    if (seconds := _number(text)) is not None:
        return float(seconds)
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError):
        return None
