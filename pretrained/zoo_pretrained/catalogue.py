"""The catalogue: which trained weights there are, and what belongs to them."""

import functools
import json
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

_HERE = Path(str(resources.files(__package__)))


class Label(NamedTuple):
    """A class that a model knows: WordNet's identifier for it, and a name in English."""

    synset: str
    name: str


@functools.cache
def entries() -> dict[str, dict[str, dict[str, Any]]]:
    """The catalogue: model name → weights name → entry; a model's first weights are its default.

    An entry has: checkpoint (an embedded one's folder), source (package, version, file, sha256,
    url), kernel_convention, preprocessing, labels, licence, accuracy (published, with its
    reference), parameters.
    """
    return json.loads((_HERE / "catalogue.json").read_text(encoding="utf-8"))


def checkpoint(entry: dict[str, Any]) -> Path:
    """The folder of an entry's embedded checkpoint."""
    return _HERE / "checkpoints" / entry["checkpoint"]


@functools.cache
def labels(name: str) -> tuple[Label, ...]:
    """A set of labels in the order of the logits; "imagenet1k" is ILSVRC 2012's.

    Raises:
      ValueError: there is no such set.
    """
    known = sorted(file.stem for file in (_HERE / "labels").glob("*.tsv"))
    if name not in known:
        raise ValueError(f"there are no labels {name!r}; there are: {', '.join(known)}")
    text = (_HERE / "labels" / f"{name}.tsv").read_text(encoding="utf-8")
    return tuple(Label(*line.split("\t")) for line in text.splitlines())
