"""The catalogue of published trained weights, with their sources, licences and labels."""

import functools
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from zoo_pretrained.bounded_json import read_json

_HERE = Path(str(resources.files(__package__)))


class Label(NamedTuple):
    """A class that a model recognises: its WordNet identifier or "", and its English name."""

    synset: str
    name: str


@functools.cache
def entries() -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the catalogue: model → weights → entry; a model's first weights are its default.

    An entry has: checkpoint (the folder of an embedded one), source (package, version, file,
    sha256, url), kernel_convention, preprocessing, labels, licence, accuracy (published, with its
    reference), parameters.
    """
    return read_json(_HERE / "catalogue.json")


def embedded_checkpoint_path(entry: dict[str, Any]) -> Path:
    """Returns the path of an entry's embedded checkpoint, a folder."""
    return _HERE / "checkpoints" / entry["checkpoint"]


@functools.cache
def label_sets() -> tuple[str, ...]:
    """Returns the names of the sets of labels."""
    return tuple(sorted(file.stem for file in (_HERE / "labels").glob("*.tsv")))


@functools.cache
def labels(name: str) -> tuple[Label, ...]:
    """Returns a set of labels in the order of the logits.

    Args:
      name: "imagenet1k" is that of ILSVRC 2012; "coco" that of the COCO data set's categories,
        whose numbers go up to 90: 0 is the background, and those without a category are "N/A".

    Raises:
      ValueError: no set has this name.
    """
    if name not in label_sets():
        raise ValueError(f"there are no labels {name!r}; there are: {', '.join(label_sets())}")
    text = (_HERE / "labels" / f"{name}.tsv").read_text(encoding="utf-8")
    return tuple(Label(*line.split("\t")) for line in text.splitlines())
