"""Checks of a checkpoint's metadata: what its entries may be."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zoo_pretrained import catalogue
from zoo_pretrained.printable import printable

# What each entry holds. Its own checks are below.
ENTRIES = {
    "model": "the model's name",
    "weights": "the weights' name",
    "arguments": "those of the model's constructor that are not its defaults",
    "head": "whether there are weights for the classifier",
    "source": "where the weights come from",
    "licence": "of the weights",
    "preprocessing": "how images become input; see `PREPROCESSING`",
    "labels": "the name of a set of labels, or a label for each class",
    "accuracy": 'published accuracy in per cent, such as {"top1": 71.5}, or {"box_map": 25.1}',
    "parameters": "how many the model has",
    "checkpoint": "the folder of an embedded checkpoint",
    "kernel_convention": '"cross-correlation" or "convolution"',
    "format": "the version of the checkpoint's format",
    "extra": "whatever else its author wants to keep",
}
# Of classifiers on ImageNet's validation set, and of detectors on COCO's: its mean AP of boxes.
ACCURACIES = ("top1", "top5", "box_map")
PREPROCESSING = ("size", "resize", "interpolation", "mean", "std", "channels")
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest")
# A photo's channels in the order of the model's; "grey" of one; "bands" of an array, as they are.
CHANNELS = ("RGB", "BGR", "grey", "bands")
# How many channels those are that have a fixed number.
COUNTS = {"RGB": 3, "BGR": 3, "grey": 1}
MAX_SIDE = 1 << 14


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raises ValueError for the first entry that cannot be used; the message is one line.

    Entries of other names are not looked at: a later version may have written them.
    """
    if not _is_record(metadata):
        raise ValueError(f"metadata must be a record of entries, got {_quote(metadata)}")
    for name, (is_valid, expected) in _EXPECTED.items():
        value = metadata.get(name)
        if value is not None and not is_valid(value):
            raise ValueError(f"{name} must be {expected}, got {_quote(value)}")
    if metadata.get("preprocessing") is not None:
        check_preprocessing(metadata["preprocessing"])
    labels = metadata.get("labels")
    if isinstance(labels, str):
        catalogue.labels(labels)
    elif labels is not None:
        check_labels(labels)


def check_names(metadata: Mapping[str, Any]) -> None:
    """Raises ValueError for the name of an entry that is not known, such as a misspelt one."""
    for name in metadata:
        if name not in ENTRIES:
            raise ValueError(
                f"metadata have no entry {_quote(name)}; there are {', '.join(ENTRIES)} "
                f'("extra" holds what is your own)'
            )


def check_preprocessing(fields: Mapping[str, Any]) -> None:
    """Raises ValueError unless these are the fields of a preprocessing."""
    required = set(PREPROCESSING) - {"channels"}
    if not _is_record(fields) or not required <= fields.keys() <= set(PREPROCESSING):
        raise ValueError(
            f"preprocessing must have {', '.join(PREPROCESSING)}, "
            f"got {_quote(list(fields) if _is_record(fields) else fields)}"
        )
    fields = {"channels": "RGB", **fields}
    for name, (is_valid, expected) in _EXPECTED_OF_PREPROCESSING.items():
        if not is_valid(fields[name]):
            raise ValueError(
                f"preprocessing: {name} must be {expected}, got {_quote(fields[name])}"
            )
    if fields["resize"] < fields["size"]:
        raise ValueError(
            f"preprocessing: resize must be at least size, got {fields['resize']} "
            f"for a size of {fields['size']}"
        )
    mean, std = fields["mean"], fields["std"]
    count = COUNTS.get(fields["channels"], len(mean))
    if not len(mean) == len(std) == count:
        raise ValueError(
            f"preprocessing: mean and std must have {count} numbers for {fields['channels']}, "
            f"got {len(mean)} and {len(std)}"
        )


def check_labels(labels: Any) -> list[Any]:
    """The labels as a list; ValueError unless they are names, or (synset, name) pairs."""
    is_one = isinstance(labels, str | bytes | Mapping) or not isinstance(labels, Iterable)
    if is_one or not (labels := list(labels)):
        raise ValueError(f"labels must be a list with a name for each class, got {_quote(labels)}")
    for number, label in enumerate(labels):
        texts = ("", label) if isinstance(label, str) else label
        if (
            not isinstance(texts, list | tuple)
            or len(texts) != 2
            or not all(isinstance(text, str) for text in texts)
            or not texts[-1].strip()
        ):
            raise ValueError(
                f"labels must be names, or (synset, name) pairs: number {number} is {_quote(label)}"
            )
    return [str(label) if isinstance(label, str) else label for label in labels]


def _quote(value: Any) -> str:
    return printable(repr(value), 100)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_record(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _is_source(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return _is_record(value) and all(
        isinstance(value.get(name, ""), str) for name in ("url", "hub", "file")
    )


def _is_accuracy(value: Any) -> bool:
    return _is_record(value) and all(
        value.get(name) is None or (_is_number(value[name]) and 0 <= value[name] <= 100)
        for name in ACCURACIES
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_side(value: Any) -> bool:
    return _is_count(value) and 1 <= value <= MAX_SIDE


def _is_number(value: Any) -> bool:
    # By comparison, as integers may be too large for `math.isfinite`; NaN compares to nothing.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_number, value))


def _are_positive(value: Any) -> bool:
    return _are_numbers(value) and min(value) > 1e-30


def _is_one_of(*known: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in known


# The entries that have a type of their own: a predicate, and what it expects.
_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": (_is_text, "a name"),
    "weights": (_is_text, "a name"),
    "arguments": (_is_record, "a record of the constructor's arguments"),
    "head": (_is_flag, "true or false"),
    "source": (_is_source, "an address, or a record with texts url, hub or file"),
    "licence": (_is_text, "a text"),
    "accuracy": (_is_accuracy, f"a record with numbers from 0 to 100: {', '.join(ACCURACIES)}"),
    "parameters": (_is_count, "a number of parameters"),
}


_SIDE = _is_side, f"an integer from 1 to {MAX_SIDE}"
_EXPECTED_OF_PREPROCESSING: dict[str, tuple[Callable[[Any], bool], str]] = {
    "size": _SIDE,
    "resize": _SIDE,
    "interpolation": (_is_one_of(*INTERPOLATIONS), f"one of {', '.join(INTERPOLATIONS)}"),
    "channels": (_is_one_of(*CHANNELS), f"one of {', '.join(CHANNELS)}"),
    "mean": (_are_numbers, "a finite number for each channel"),
    "std": (_are_positive, "a finite number above 0 for each channel"),
}
