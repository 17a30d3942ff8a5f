"""Tables of any width, and of a terminal's."""

import pytest

from zoo.runtime.columns import format_columns

ROWS = [
    ("model", "where", "licence"),
    ("ResNet18", "https://host/a/long/path/of/a/file-f37072fd.pth", "BSD-3-Clause"),
    ("VGG11", "x" * 50, "a licence of several words"),
]


def test_a_pipe_has_no_width():
    lines = format_columns(ROWS).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == list(ROWS[1])
    assert lines[0].index("licence") == lines[1].index("BSD") == lines[2].index("a licence")


@pytest.mark.parametrize("width", [120, 80, 60, 40])
@pytest.mark.parametrize("align_right", [False, True])
def test_folded_cells_lose_nothing(width, align_right):
    lines = format_columns(ROWS, width=width, align_right=align_right).splitlines()
    assert max(map(len, lines)) <= width
    assert (len(lines) > 3) == (width < 92)
    letters = sorted("".join(lines).replace(" ", ""))
    assert letters == sorted("".join(map("".join, ROWS)).replace(" ", ""))


def test_cells_break_behind_words_and_folders():
    rows = [("of several words", "https://host/a/path")]
    lines = format_columns(rows, width=23).splitlines()
    assert lines == ["of several  https://", "words       host/a/path"]


def test_columns_are_never_narrower_than_a_word():
    lines = format_columns(ROWS, width=1).splitlines()
    assert 8 + 2 + 8 + 2 < max(map(len, lines)) <= 8 + 2 + 8 + 2 + 8
    assert format_columns([]) == ""
