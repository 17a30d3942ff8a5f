"""Which of a model's classes the classes of a data set are."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from zoo.data.dataset import Dataset, DatasetError
from zoo.data.files import list_some
from zoo_pretrained.catalogue import Label

_SYNSET = re.compile(r"(n\d{8})(?![0-9A-Za-z])")


@dataclasses.dataclass(frozen=True, eq=False)
class ClassMatch:
    """The classes of a data set as those of a model.

    Args:
      indices: the model's logit for each class [classes], −1 where it has none.
      unmatched: the classes that are none of the model's.
      ambiguous: the classes that may be several of the model's, with the names of these.
    """

    indices: np.ndarray
    unmatched: tuple[str, ...]
    ambiguous: Mapping[str, tuple[str, ...]]

    def describe(self) -> str:
        """What is left out and why, one sentence, or "" where every class has its logit."""
        parts = [f"the model has no class {list_some(self.unmatched)}"] if self.unmatched else []
        parts += [f"{name!r} may be {' or '.join(many)}" for name, many in self.ambiguous.items()]
        return "; ".join(parts)


def match_classes(classes: Sequence[str], labels: Sequence[Label]) -> ClassMatch:
    """Finds a model's classes by the names of a data set's classes.

    A class may be called by its synset, alone or before other text ("n02099601-golden_retriever"),
    by its name, or by "class 3" for the logit 3 where the model's labels are such numbers; a number
    alone ("3") is enough there. Case, spaces, hyphens and underscores do not matter, unless they
    tell names apart; nor do words in parentheses at a label's end: "crane" may be "crane (bird)" or
    "crane (machine)", so that it is ambiguous. The order of the classes tells nothing.

    Args:
      classes: the names of the data set's classes.
      labels: those of the model's logits: `trained.info.labels`.

    Raises:
      DatasetError: not a single class is found.
    """
    names = _index_names(labels)
    candidates = [_find(name, names) for name in classes]
    match = ClassMatch(
        indices=np.array([found[0] if len(found) == 1 else -1 for found in candidates], int),
        unmatched=tuple(n for n, found in zip(classes, candidates, strict=True) if not found),
        ambiguous={
            name: tuple(f"{labels[i].name} ({labels[i].synset or f'logit {i}'})" for i in found)
            for name, found in zip(classes, candidates, strict=True)
            if len(found) > 1
        },
    )
    if not np.any(match.indices >= 0):
        raise DatasetError(
            f"none of the classes is one of the model's: {match.describe()}; the model's are "
            f"{list_some(label.name for label in labels)}"
        )
    return match


def relabel(dataset: Dataset, labels: Sequence[Label]) -> tuple[Dataset, ClassMatch]:
    """A data set with the classes of a model, and how they were matched.

    Args:
      dataset: images of any classes. Those of classes that the model does not have are left out.
      labels: of the model's logits: `trained.info.labels`.

    Raises:
      DatasetError: no class is the model's, or there is no image of one that is.
    """
    match = match_classes(dataset.classes, labels)
    numbers = match.indices[dataset.labels]
    kept = dataset.select(np.flatnonzero(numbers >= 0))
    if not len(kept):
        raise DatasetError(f"there is no image of a class that the model has; {match.describe()}")
    names = tuple(label.name for label in labels)
    return dataclasses.replace(kept, labels=numbers[numbers >= 0], classes=names), match


def _index_names(labels: Sequence[Label]) -> Mapping[tuple[int, str], list[int]]:
    """The logits of each name, with how loosely it is one: 0 as it is, 1 loosely, 2 a part."""
    names: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        if label.synset:
            names[0, label.synset].append(index)
        names[0, label.name].append(index)
        names[1, _simplify(label.name)].append(index)
        if (shorter := re.sub(r" \([^()]*\)$", "", label.name)) != label.name:
            names[2, _simplify(shorter)].append(index)
        if label.name == f"class {index}":
            names[2, str(index)].append(index)
    return names


def _find(name: str, names: Mapping[tuple[int, str], list[int]]) -> list[int]:
    """The logits that a name may mean; by its synset, or else by the strictest kind of name."""
    synset = _SYNSET.match(name)
    if synset:
        return names.get((0, synset[1]), [])
    for key in ((0, name), (1, _simplify(name)), (2, _simplify(name))):
        if found := names.get(key):
            return found
    return []


def _simplify(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()
