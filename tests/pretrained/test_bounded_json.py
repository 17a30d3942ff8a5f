"""JSON of files is read up to a size and a depth, whatever it holds."""

import contextlib
import json
import time

import pytest

from zoo_pretrained.bounded_json import MAX_BYTES, MAX_DEPTH, parse_json


def nested(depth, opening="[", closing="]"):
    return opening * depth + closing * depth


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True], "é": "ü"},
        {"a": "[" * 500},
        {"[" * 500: '"' + "[{" * 500},
        {"a": "\\" * 99 + '"' + "[" * 200},
        [[{}]] * 1000,
        "text",
    ],
)
def test_values_are_those_of_json(value):
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


def test_limits_are_exact():
    assert parse_json(nested(MAX_DEPTH))
    objects = '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH
    assert parse_json(objects.encode())
    for text in (nested(MAX_DEPTH + 1), f"[{objects}]", "[" * MAX_BYTES, '[""' * (MAX_BYTES // 4)):
        with pytest.raises(ValueError, match=f"nested deeper than {MAX_DEPTH}"):
            parse_json(text)
    assert parse_json(f'"{"a" * (MAX_BYTES - 2)}"') == "a" * (MAX_BYTES - 2)
    with pytest.raises(ValueError, match=f"JSON of {MAX_BYTES + 1} bytes; at most {MAX_BYTES}"):
        parse_json(f'"{"a" * (MAX_BYTES - 1)}"')


@pytest.mark.parametrize(
    "text",
    [
        '"' + "\\" * (MAX_BYTES - 2),
        '"' * MAX_BYTES,
        '"\\"' * (MAX_BYTES // 3),
        "1" * MAX_BYTES,
        "1." + "1" * (MAX_BYTES - 2),
        "[" + "[]," * (MAX_BYTES // 3 - 2) + "0]",
        "{" + '"":{},' * (MAX_BYTES // 6 - 2) + '"":0}',
        "[" + "9" * 4000 + ("," + "9" * 4000) * 1000 + "]",
    ],
)
def test_the_worst_texts_take_seconds(text):
    start = time.process_time()
    with contextlib.suppress(ValueError):
        parse_json(text)
    assert time.process_time() - start < 20
