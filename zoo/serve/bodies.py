"""Reads the bodies of requests: an image, a form with files, or JSON."""

import base64
import json
import math
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
    images: list[bytes] = []
    tops: list[int] = []
    ends: list[bool] = []

    def add_file(file: Any) -> None:
        _check_count(len(images) + 1, max_images)
        file.file_object.seek(0)
        images.append(file.file_object.read())
        file.close()

    def add_field(field: Any) -> None:
        name = printable((field.field_name or b"").decode("utf-8", "replace"))
        if name != "top":
            raise RequestError(
                400, f"the field {name!r} is no file; curl sends one by -F {name}=@photo.jpg"
            )
        tops.append(parse_top((field.value or b"").decode("utf-8", "replace")))
        if len(tops) > 1:
            raise RequestError(400, "top is given twice")

    try:
        boundary = multipart.parse_options_header(content_type)[1].get(b"boundary")
        parser = multipart.FormParser(
            *(FORM, add_field, add_file),
            on_end=lambda: ends.append(True),
            boundary=boundary,
            config={"MAX_MEMORY_FILE_SIZE": math.inf},  # no files on the disk
        )
        parser.write(body)
        parser.finalize()
    except RequestError:
        raise
    except Exception as error:  # of whatever the parser does not expect
        raise RequestError(400, f"the form is malformed: {error}") from None
    if not ends:
        raise RequestError(400, "the form ends before its last boundary")
    return Body(images, *tops)


def _check_count(count: int, max_images: int) -> None:
    if count > max_images:
        raise RequestError(413, f"a request has at most {max_images} images, got more")


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
