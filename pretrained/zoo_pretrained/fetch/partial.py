"""Files that are there in part, and what brings them to their end."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus, client
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_pretrained.fetch import http
from zoo_pretrained.fetch.errors import FetchError, format_bytes, place, room
from zoo_pretrained.fetch.http import RetryError
from zoo_pretrained.fetch.progress import Progress

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

PIECE = 64 << 10
# For a file whose size is not published; any checkpoint's is less.
LIMIT = 16 << 30


@dataclass(frozen=True)
class Source:
    """What is asked for.

    Args:
      url: of the whole file.
      size: its bytes, where known.
      most: the bytes that it may have where `size` is not known.
      token: see `http.opened`.
    """

    url: str = field(repr=False)
    size: int | None = None
    most: int = LIMIT
    token: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return http.redacted(self.url)


class Partial:
    """The files "<target>.part", what has come so far, and "<target>.part.json", of which version.

    Args:
      target: the whole file to be.
    """

    def __init__(self, target: Path) -> None:
        self.folder = target.parent
        self.path = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")

    def length(self) -> int:
        """The bytes that are there."""
        with place(self.folder):
            return self.path.stat().st_size if self.path.exists() else 0

    def found(self, source: Source) -> tuple[int, str | None]:
        """The bytes that are there and their version's tag; what cannot be used is dropped."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            note = json.loads(self.note.read_text(encoding="utf-8"))
            if note["url"] == source.shown and self.length() <= (source.size or LIMIT):
                return self.length(), note["tag"]
        self.drop()
        return 0, None

    def begin(self, source: Source, tag: str | None) -> None:
        """Makes the file empty, then notes its version: never one version's bytes as another's."""
        with place(self.folder):
            self.path.write_bytes(b"")
            self.note.write_text(json.dumps({"url": source.shown, "tag": tag}), encoding="utf-8")

    def drop(self) -> None:
        """Forgets what has come."""
        with place(self.folder):
            self.path.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)


def receive(source: Source, part: Partial, progress: Progress | None) -> bool:
    """One attempt to bring a partial file to its end.

    Args:
      source: what is asked for.
      part: goes on where it is, if the server still has that version.
      progress: told after each piece.

    Returns:
      Whether it may be whole in name only: it was put together of two answers, or of one that
      did not say how long it is.

    Raises:
      RetryError: another attempt may do better.
      FetchError: none would.
    """
    start, tag = part.found(source)
    if start and start == source.size:
        return True
    headers = {}
    if start:
        headers["Range"] = f"bytes={start}-"
        if tag and not tag.startswith("W/"):  # a weak one, which If-Range does not take
            headers["If-Range"] = tag
    with http.opened(source.url, headers, source.token) as (response, watch):
        if (answer := _judged(response, source, part, start)) is None:
            return True
        start, total, tag = answer
        size = source.size
        if total is not None and (total > source.most if size is None else total != size):
            part.drop()
            expected = f"at most {source.most}" if size is None else size
            raise FetchError(f"{source.shown} has {total} bytes, expected {expected}")
        whole = size if total is None else total
        if whole is not None:
            room(part.folder, whole - part.length())
        if not start:
            part.begin(source, tag)
        done, most = start, source.most if whole is None else whole
        needed = None if whole is None else whole - start
        with place(part.folder, needed), part.path.open("r+b") as stream:
            stream.seek(start)
            while done <= most and (piece := response.read1(PIECE, decode_content=False)):
                stream.write(piece)
                done += len(piece)
                watch.saw(len(piece))
                if progress:
                    progress(done, whole)
    if done > most:
        part.drop()
        raise FetchError(f"{source.shown} sends more than {format_bytes(most)} ({most} bytes)")
    if whole is not None and done < whole:
        raise RetryError(f"it ended after {done} of {whole} bytes")
    return start > 0 or total is None


def _judged(
    response: "BaseHTTPResponse", source: Source, part: Partial, start: int
) -> tuple[int, int | None, str | None] | None:
    """What a body is: the byte that it begins with, the whole file's bytes, its version's tag.

    None where there is nothing behind the bytes that are there: their digest will tell.
    """
    status, headers = response.status, response.headers
    tag = headers.get("ETag") or headers.get("Last-Modified")
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) and encoding not in ("", "identity"):
        # Digests and ranges are of the file itself.
        raise FetchError(f"{source.shown} was sent with the encoding {encoding!r}")
    if status == HTTPStatus.OK:
        framed = "Transfer-Encoding" in headers  # which a length beside it does not count against
        return 0, None if framed else _number(headers.get("Content-Length")), tag
    if start and status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and source.size is None:
        return None
    if start and status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        form = r"bytes (\d{1,19})-\d{1,19}/(\d{1,19}|\*)"
        found = re.fullmatch(form, headers.get("Content-Range", "").strip())
        if found and int(found[1]) == start:
            return start, _number(found[2]), tag
        part.drop()
        raise RetryError("it sent another range than asked for")
    said = f"{status} {client.responses.get(status, '')}".strip()
    if status >= 500 or status in http.BUSY:
        raise RetryError(f"it answered {said}", _number(headers.get("Retry-After")) or 0)
    raise FetchError(f"{source.shown} answered {said}")


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,19}", text.strip()) else None
