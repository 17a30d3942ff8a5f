"""The pages written in Markdown, and the code blocks in them."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class Block(NamedTuple):
    """A code block of a page.

    Args:
      page: the file.
      line: where the code begins, counted from 1.
      language: "sh", "python" or "".
      code: the text.
      reason: why it is not run, from the comment above it; None where it is run.
    """

    page: Path
    line: int
    language: str
    code: str
    reason: str | None

    @property
    def location(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def code_blocks(page: Path) -> list[Block]:
    """All code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, m.start("code")) + 1, m["language"], m["code"], m["reason"])
        for m in _BLOCK.finditer(text)
    ]
