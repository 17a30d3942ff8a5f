"""Names of classes in a text file."""

import os
from pathlib import Path

from zoo_pretrained.read import ReadError

# Of ImageNet's 21,841 classes the names take 1 MB.
MAX_BYTES = 16 << 20


def read_labels(file: str | os.PathLike[str]) -> list[str]:
    """The names of classes in a UTF-8 text file, one a line, in the order of the logits.

    A byte-order mark, the line ends of any system and empty lines at the end are no part of names;
    several classes may have one name.

    Raises:
      ReadError: it is no such file, or a line is empty.
      OSError: it cannot be read.
    """
    path = Path(file)
    if path.exists() and not path.is_file():
        raise ReadError(f"{path} is no regular file")
    if path.stat().st_size > MAX_BYTES:
        raise ReadError(f"{path} is larger than {MAX_BYTES >> 20} MiB, too large for names")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReadError(
            f"{path} is no text in UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
        ) from error
    labels = [line.strip() for line in text.rstrip().split("\n")]
    for number, label in enumerate(labels, start=1):
        if not label:
            raise ReadError(f"{path}: line {number} of {len(labels)} is empty")
    return labels
