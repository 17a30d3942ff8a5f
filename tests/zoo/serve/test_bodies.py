"""Bodies of requests: what is malformed is refused, whatever it is."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zoo.serve.clients import as_form, as_json
from zoo.serve.bodies import Body, RequestError, check_type, is_image, parse_body, parse_top

FORM = "multipart/form-data; boundary=frontier"
DEEP = b"[" * 200_000


def parse(content_type, body, max_images=3):
    return parse_body(content_type, body, max_images)


def test_an_image_is_the_body_itself():
    for kind in ("image/jpeg", "IMAGE/png; q=1", "application/octet-stream", ""):
        assert is_image(kind)
        assert parse(kind, b"photo") == Body([b"photo"])


def test_json_has_images_in_base64():
    assert parse("application/json", as_json(b"a", b"b\0")) == Body([b"a", b"b\0"])
    kind = "Application/JSON; charset=utf-8"
    assert parse(kind, as_json(b"a", top=2)) == Body([b"a"], 2)
    assert parse(kind, json.dumps({"images": ["YQ=="], "top": None}).encode("utf-16")).top is None


def test_a_form_has_files():
    body, headers = as_form(("x", "a.jpg", b"a\r\n--b"), ("x", "", b""), ("top", None, b"2"))
    assert parse(headers["Content-Type"], body) == Body([b"a\r\n--b", b""], 2)
    large = bytes(range(256)) * 10_000
    assert parse(FORM, as_form(("x", "a", large))[0]) == Body([large])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (DEEP, "is not JSON"),
        (b'{"top": ' + b"9" * 5000 + b', "images": ["YQ=="]}', "is not JSON"),
        (b"null", "expected JSON as"),
        (b"[]", "expected JSON as"),
        (b"{}", "expected JSON as"),
        (b'{"images": "YQ=="}', "expected JSON as"),
        (b'{"images": {"0": "YQ=="}}', "expected JSON as"),
        (b'{"images": []}', "has no image"),
        (b'{"images": [1]}', "image 1 must be base64"),
        (b'{"images": ["YQ==", null]}', "image 2 must be base64"),
        (b'{"images": ["/etc/passwd"]}', "image 1 is not base64"),
        (b'{"images": ["https://example.org/cat.jpg"]}', "image 1 is not base64"),
        (b'{"images": ["YQ=="], "url": "x"}', "got also 'url'"),
        (b'{"images": ["Y\\u00e9=="]}', "image 1 is not base64"),
        (b'{"images": ["\\ud800"]}', "image 1 is not base64"),
        (b'{"images": ["YQ=="], "\\ud800": 1}', "got also"),
        (b'{"images": ["YQ=="], "top": "x"}', "got 'x'"),
        (b'{"images": ["YQ=="], "top": 1.5}', "got '1.5'"),
        (b'{"images": ["YQ=="], "top": 1e999}', "got 'inf'"),
        (b'{"images": ["YQ=="], "top": NaN}', "got 'nan'"),
        (b'{"images": ["YQ=="], "top": true}', "got 'True'"),
        (b'{"images": ["YQ=="], "top": [1]}', "top must be"),
    ],
)
def test_malformed_json(body, words):
    with pytest.raises(RequestError, match=words) as caught:
        parse("application/json", body)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 500


GOOD = as_form(("x", "a.jpg", b"photo"))[0]


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"", FORM, "last boundary"),
        (b"hello", FORM, "malformed"),
        (GOOD[:-4], FORM, "last boundary"),
        (GOOD, "multipart/form-data", "malformed"),
        (GOOD, "multipart/form-data; boundary=", "malformed"),
        (GOOD, "multipart/form-data; boundary=other", "malformed"),
        (GOOD, f"multipart/form-data; boundary={'x' * 5000}", "malformed"),
        (b"--frontier--\r\n", FORM, "has no image|malformed"),
        (GOOD.replace(b'name="x"; ', b""), FORM, "malformed"),
        (GOOD.replace(b"Content-Disposition", b"Content Disposition"), FORM, "malformed"),
        (GOOD.replace(b"form-data;", b"form-data;" + b"x" * 100_000), FORM, "malformed"),
        (as_form(("x", None, b"photo"))[0], FORM, "-F x=@photo.jpg"),
        (as_form(("\x1b", None, b"photo"))[0], FORM, "is no file"),
        (as_form(("top", None, b"2"))[0], FORM, "has no image"),
        (as_form(("top", None, b"two"), ("x", "a", b""))[0], FORM, "got 'two'"),
        (as_form(("top", None, b"\xff"), ("x", "a", b""))[0], FORM, "top must be"),
        (as_form(*[("top", None, b"2")] * 2, ("x", "a", b""))[0], FORM, "twice"),
    ],
)
def test_malformed_forms(body, content_type, words):
    with pytest.raises(RequestError, match=words) as caught:
        parse(content_type, body)
    assert caught.value.status == 400
    assert "\x1b" not in str(caught.value)


def test_too_many_images():
    for content_type, body in (
        ("application/json", as_json(*[b"a"] * 4)),
        (FORM, as_form(*[("x", "a", b"")] * 4)[0]),
        (FORM, as_form(*[("x", "a", b"")] * 100_000)[0]),
    ):
        with pytest.raises(RequestError, match="at most 3 images") as caught:
            parse(content_type, body)
        assert caught.value.status == 413


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/mixed", "json", "\x1b[2J", "/"],
)
def test_other_types_are_not_supported(kind):
    with pytest.raises(RequestError, match="send an image as") as caught:
        parse(kind, b"")
    assert caught.value.status == 415
    assert "\x1b" not in str(caught.value)


def test_compressed_bodies_are_not_supported():
    check_type("image/png", "identity")
    with pytest.raises(RequestError, match="'gzip' is not supported") as caught:
        check_type("image/png", "gzip")
    assert caught.value.status == 415


@pytest.mark.parametrize("value", ["", "-1", "1e3", "²", "9" * 5000, "1 ", "\ud800", None, "x"])
def test_a_wrong_top(value):
    with pytest.raises(RequestError, match="top must be"):
        parse_top(value)


@given(body=st.binary(max_size=200), kind=st.sampled_from(["application/json", FORM]))
def test_any_bytes(body, kind):
    for content in (body, GOOD[:60] + body, GOOD[:-12] + body, b'{"images": [' + body):
        with contextlib.suppress(RequestError):
            assert 1 <= len(parse(kind, content).images) <= 3
