"""Files with names of classes, from whatever editor."""

import os

import pytest

from zoo.checkpoints.labels import read_labels
from zoo_pretrained.read import ReadError


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (b"cat\ndog\n", ["cat", "dog"]),
        (b"cat\ndog", ["cat", "dog"]),
        (b"\xef\xbb\xbfcat\r\ndog\r\n\r\n", ["cat", "dog"]),
        (b"cat\rdog\r", ["cat", "dog"]),
        (b" cat \ncat\n", ["cat", "cat"]),
        ("a\u2028b\x0bc\x85d\n猫".encode(), ["a\u2028b\x0bc\x85d", "猫"]),  # no ends of lines
    ],
)
def test_reads_a_name_a_line(content, labels, tmp_path):
    (tmp_path / "names").write_bytes(content)
    assert read_labels(tmp_path / "names") == labels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\n\ndog\n", "line 2 of 3 is empty"),
        (b"", "line 1 of 1 is empty"),
        (b"caf\xe9\n", r"is no text in UTF-8: byte 3 is 0xe9"),
        ("cat\n".encode("utf-16"), "is no text in UTF-8"),
        (b"a" * (17 << 20), "is larger than 16 MiB"),
    ],
)
def test_says_what_is_wrong(content, message, tmp_path):
    (tmp_path / "names").write_bytes(content)
    with pytest.raises(ReadError, match=f"names.*{message}") as raised:
        read_labels(tmp_path / "names")
    assert "\n" not in str(raised.value)


def test_reads_regular_files_only(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(ReadError, match="is no regular file"):
            read_labels(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="none"):
        read_labels(tmp_path / "none")
