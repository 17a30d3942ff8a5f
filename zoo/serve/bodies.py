"""Reads the bodies of requests: an image, a form with files, or JSON."""

import base64
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from zoo.runtime.extras import require
from zoo_pretrained.printable import OneLineError, printable

FORM, JSON = "multipart/form-data", "application/json"
ACCEPTED = f"an image as image/* or application/octet-stream, files as {FORM}, or base64 in {JSON}"


class RequestError(OneLineError):
    """A request that gets no classes; the message says why.

    Args:
      status: of the answer.
      message: one line.
      headers: more headers of the answer.
    """

    def __init__(self, status: int, message: object, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}


class Body(NamedTuple):
    """What a body asks for.

    Args:
      images: each an encoded image.
      top: the number of classes, if the body names it.
    """

    images: list[bytes]
    top: int | None = None


def is_image(content_type: str) -> bool:
    """Whether a body of this type is the image itself, as one without a type is taken to be."""
    kind = _kind(content_type)
    return kind.startswith("image/") or kind in ("", "application/octet-stream")


def check_type(content_type: str, encoding: str = "") -> None:
    """Raises RequestError for a body of a type or a compression that is not supported."""
    kind = _kind(content_type)
    if not is_image(content_type) and kind not in (FORM, JSON):
        raise RequestError(
            415, f"the content type {printable(kind)!r} is not supported; send {ACCEPTED}"
        )
    if encoding.strip().lower() not in ("", "identity"):
        raise RequestError(
            415, f"the content encoding {printable(encoding)!r} is not supported; send it as it is"
        )


def parse_body(content_type: str, body: bytes, max_images: int) -> Body:
    """The images in a body, which may come from anybody: nothing that it names is opened.

    Args:
      content_type: the header.
      body: all of it.
      max_images: the largest number of images.

    Raises:
      RequestError: the body has another type, is malformed, or has no images or too many.
    """
    check_type(content_type)
    if is_image(content_type):
        return Body([body])
    if _kind(content_type) == FORM:
        parsed = _parse_form(content_type, body, max_images)
    else:
        parsed = _parse_json(body, max_images)
    if not parsed.images:
        raise RequestError(400, "the body has no image")
    return parsed


def parse_top(value: Any) -> int:
    """The number of classes to name, from JSON or a text; RequestError if it is none."""
    try:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            return int(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and int(value) == value:
            return int(value)
    except (OverflowError, ValueError):  # infinity, NaN
        pass
    raise RequestError(400, f"top must be a number of classes, got {printable(value)!r}")


def _parse_json(body: bytes, max_images: int) -> Body:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise RequestError(400, 'expected JSON as {"images": ["<base64>", …], "top": 5}')
    if unknown := content.keys() - {"images", "top"}:
        names = ", ".join(sorted(map(repr, unknown)))
        raise RequestError(400, f"expected the fields 'images' and 'top', got also {names}")
    _check_count(len(content["images"]), max_images)
    images = [_decode(text, number) for number, text in enumerate(content["images"], 1)]
    top = content.get("top")
    return Body(images, None if top is None else parse_top(top))


def _decode(text: Any, number: int) -> bytes:
    if not isinstance(text, str):
        raise RequestError(400, f"image {number} must be base64, as a string")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise RequestError(400, f"image {number} is not base64: {error}") from None


def _parse_form(content_type: str, body: bytes, max_images: int) -> Body:
    multipart = require("python_multipart.multipart", "serve")
    form = _Form(multipart.parse_options_header, max_images)
    try:
        boundary = multipart.parse_options_header(content_type)[1][b"boundary"]
        parser = multipart.MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except RequestError:
        raise
    except KeyError as error:
        raise RequestError(400, f"the form is malformed: {error} is missing") from None
    except Exception as error:  # of whatever the parser does not expect
        raise RequestError(400, f"the form is malformed: {error}") from None
    if not form.ended:
        raise RequestError(400, "the form ends before its last boundary")
    return Body(form.images, form.top)


class _Form:
    """The parts of a form, which a parser hands over piece by piece."""

    def __init__(self, parse_options: Callable[..., Any], max_images: int) -> None:
        self.images: list[bytes] = []
        self.top: int | None = None
        self.ended = False
        self._parse_options, self._max_images = parse_options, max_images
        self._header, self._value, self._content = bytearray(), bytearray(), bytearray()
        self._disposition: Mapping[bytes, bytes] = {}

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """What the parser calls, by its names."""
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": functools.partial(self._add, self._header),
            "on_header_value": functools.partial(self._add, self._value),
            "on_header_end": self._end_header,
            "on_part_data": functools.partial(self._add, self._content),
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    @staticmethod
    def _add(to: bytearray, data: bytes, start: int, end: int) -> None:
        to += data[start:end]

    def _begin_part(self) -> None:
        self._disposition = {}
        self._content.clear()

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._parse_options(bytes(self._value))[1]
        self._header.clear()
        self._value.clear()

    def _end_part(self) -> None:
        name = printable(self._disposition[b"name"].decode("utf-8", "replace"))
        if b"filename" in self._disposition:
            _check_count(len(self.images) + 1, self._max_images)
            self.images.append(bytes(self._content))
        elif name != "top":
            raise RequestError(
                400, f"the field {name!r} is no file; curl sends one by -F {name}=@photo.jpg"
            )
        elif self.top is not None:
            raise RequestError(400, "top is given twice")
        else:
            self.top = parse_top(self._content.decode("utf-8", "replace"))

    def _end(self) -> None:
        self.ended = True


def _check_count(count: int, max_images: int) -> None:
    if count > max_images:
        raise RequestError(413, f"a request has at most {max_images} images, got more")


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
