"""What files and servers say cannot forge lines, colours or the order of letters."""

import pytest

from zoo_pretrained.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("conv1/kernel γ σ² 猫 \\x", "conv1/kernel γ σ² 猫 \\x"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x9b31m\x7f\x85", r"\x9b31m\x7f\x85"),
        ("a\u202egnp.exe\u2066\u200f", r"a\u202egnp.exe\u2066\u200f"),
        ("\u2028\u2029\ufeff\u00a0", r"\u2028\u2029\ufeff\xa0"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\U000e0041"),
        (5, "5"),
        (None, "None"),
    ],
)
def test_only_what_acts_is_escaped(text, shown):
    assert printable(text) == shown


def test_long_texts_are_cut():
    assert printable("a" * 200) == "a" * 200
    assert printable("a" * 201) == "a" * 199 + "…"
    assert printable("\x1b" * 100, 9) == r"\x1b\x1b…"
    assert len(printable("\n" * 10_000_000, 50)) == 50
