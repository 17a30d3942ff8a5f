"""Data sets in tables: a CSV file with an image and its label in each line."""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from zoo.data.dataset import Dataset, DatasetError
from zoo.data.files import ARRAY_ENDING, expand_path, list_some
from zoo.data.folders import TRAIN_NAMES, VALIDATION_NAMES, find_name
from zoo.data.groups import guess_groups, match_groups
from zoo.inference.images import extensions
from zoo_pretrained.natural_order import natural_key

ENDINGS = (".csv", ".tsv")
# What columns are called, in any case; the first that is there is taken.
IMAGE_COLUMNS = (
    "file", "filename", "file_name", "filepath", "path", "image", "image_path", "image_file",
)  # fmt: skip
LABEL_COLUMNS = ("label", "class", "target", "category", "class_name")


class _Row(NamedTuple):
    """What a line says; the number is the line's, for messages."""

    line: int
    image: str
    label: str
    group: str
    part: str


def load_table(
    file: str | os.PathLike[str],
    *,
    image: str | None = None,
    label: str | None = None,
    group: str | re.Pattern[str] | None = None,
) -> tuple[Dataset, Dataset | None]:
    """The images that a CSV file lists with their labels.

    The first line names the columns: one for the images' paths, relative to the CSV file, and one
    for their labels, which are names or numbers. A column "group" says which images belong
    together, and a column "split" (train, val) which are for validation. Other columns are left
    out. Without such a line the first column is the path, and the second one the label. Columns are
    separated by commas, semicolons or tabs.

    Args:
      file: the CSV file.
      image: the column of the paths; by default one of `IMAGE_COLUMNS`.
      label: the column of the labels; by default one of `LABEL_COLUMNS`.
      group: as of `zoo.data.folders.load_folder`, looked for in the paths as the file has them.

    Returns:
      The training images, and those for validation; None where they are not told apart.

    Raises:
      DatasetError: the file cannot be read, lacks a column or an entry, or lists an image that does
        not exist; there is no training image of a class. The message names the line.
    """
    path = expand_path(file)
    rows = list(_read_rows(path, image, label))
    if not rows:
        raise DatasetError(f"{path} lists no images")
    images = [str(path.parent / row.image) for row in rows]
    _check_exist(path, images, rows)
    labels, classes = number_labels([row.label for row in rows])
    dataset = Dataset(
        images=images, labels=labels, classes=classes, columns=_group(rows, labels, group)
    )
    return _split(path, dataset, rows)


def number_labels(names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The numbers of labels that are names [N], and the classes, in natural order."""
    classes = sorted(set(names), key=natural_key)
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[name] for name in names], int), tuple(classes)


def _read_rows(path: Path, image: str | None, label: str | None) -> Iterator[_Row]:
    lines = _read_lines(path)
    first_line, first = next(lines, (0, []))
    endings = (*extensions(), ARRAY_ENDING)
    if image is None and label is None and first and first[0].lower().endswith(endings):
        if len(first) < 2:
            raise DatasetError(f"{path}: line {first_line} has a path, but no label behind it")
        columns: list[int | None] = [0, 1, None, None]
        yield _make_row(path, first_line, first, columns)
    else:
        columns = [
            _find_column(path, first, "image", image, IMAGE_COLUMNS),
            _find_column(path, first, "label", label, LABEL_COLUMNS),
            *(
                first.index(name) if name else None
                for name in (find_name(("group",), first), find_name(("split",), first))
            ),
        ]
    for line, cells in lines:
        yield _make_row(path, line, cells, columns)


def _read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each line that is not empty: its number and its cells."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            start = stream.readline()
            stream.seek(0)
            separator = max(",;\t", key=start.count)
            reader = csv.reader(stream, delimiter=separator, strict=True)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise DatasetError(f"{path}: line {reader.line_num} is no CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is no text in UTF-8: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error


def _find_column(
    path: Path, header: list[str], kind: str, given: str | None, usual: Sequence[str]
) -> int:
    name = find_name(usual if given is None else (given.lower(),), header)
    if name is None:
        wanted = f"one of {', '.join(usual)}" if given is None else repr(given)
        raise DatasetError(
            f"{path} has no column for the {kind}: expected {wanted}; its first line is "
            f"{', '.join(map(repr, header))}"
        )
    return header.index(name)


def _make_row(path: Path, line: int, cells: list[str], columns: Sequence[int | None]) -> _Row:
    if len(cells) <= max(column for column in columns if column is not None):
        raise DatasetError(f"{path}: line {line} has {len(cells)} columns, fewer than are needed")
    row = _Row(line, *("" if column is None else cells[column] for column in columns))
    for name, column in zip(("path", "label", "group", "split"), columns, strict=True):
        if column is not None and not cells[column]:
            raise DatasetError(f"{path}: line {line} has no {name}")
    if row.part.lower() not in ("", *TRAIN_NAMES, *VALIDATION_NAMES):
        raise DatasetError(f"{path}: line {line} has split {row.part!r}, expected train or val")
    return row


def _check_exist(path: Path, images: list[str], rows: list[_Row]) -> None:
    missing = [row for image, row in zip(images, rows, strict=True) if not Path(image).is_file()]
    if missing:
        raise DatasetError(
            f"{path}: {len(missing)} of {len(rows)} images do not exist, the first is "
            f"{path.parent / missing[0].image} in line {missing[0].line}; paths are relative to "
            f"{path.parent}"
        )


def _group(
    rows: list[_Row], labels: np.ndarray, pattern: str | re.Pattern[str] | None
) -> dict[str, np.ndarray]:
    names = [PurePath(row.image).as_posix() for row in rows]
    if pattern is not None:
        return {"group": match_groups(names, pattern)}
    if rows[0].group:
        return {"group": np.array([row.group for row in rows], str)}
    groups = guess_groups(names, labels)
    return {} if groups is None else {"group": groups}


def _split(path: Path, dataset: Dataset, rows: list[_Row]) -> tuple[Dataset, Dataset | None]:
    parts = np.array([row.part.lower() for row in rows])
    validation = find_name(VALIDATION_NAMES, set(parts.tolist()))
    if validation is None:
        return dataset, None
    train = dataset.select(np.flatnonzero(np.isin(parts, TRAIN_NAMES)))
    if lacking := [
        name for name, n in zip(train.classes, train.count_classes(), strict=True) if not n
    ]:
        raise DatasetError(f"{path} has no training images of {list_some(lacking)}")
    return train, dataset.select(np.flatnonzero(parts == validation))
