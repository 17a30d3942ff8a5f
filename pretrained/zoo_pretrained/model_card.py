"""The page that tells people what published weights are: a model card in Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from zoo_pretrained import catalogue
from zoo_pretrained.printable import printable

MAX_LABELS = 20
# Signs that Markdown or HTML would act on.
_SPECIAL = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]<>#|"})


def make_model_card(metadata: Mapping[str, Any], archive: str) -> str:
    """The model card of a checkpoint.

    Args:
      metadata: the checkpoint's.
      archive: the name of its archive in the store.
    """
    model, weights = metadata["model"], metadata.get("weights") or ""
    lines = [f"# {_text(model)}, weights {_text(weights)}", "", *_list_facts(metadata), ""]
    lines += ["## Use", "", "```python", "import zoo", ""]
    call = f"zoo.trained({str(model)!r}, weights={str(weights)!r})"
    lines += ["# ZOO_STORES names the store that this page is in", f"model = {call}"]
    verb = "detect" if _is_detector(str(model)) else "classify"
    lines += [f'model.{verb}("photo.jpg")', "```", "", f"The weights are in `{archive}`."]
    if training := (metadata.get("extra") or {}).get("training"):
        lines += ["", "## Training", "", *_list_items(training)]
    return "\n".join(lines) + "\n"


def _list_facts(metadata: Mapping[str, Any]) -> Iterator[str]:
    labels = metadata.get("labels")
    if isinstance(labels, list):
        names = [label if isinstance(label, str) else label[-1] for label in labels]
        more = f" and {len(names) - MAX_LABELS} more" if len(names) > MAX_LABELS else ""
        yield f"- {len(names)} classes: {', '.join(map(_text, names[:MAX_LABELS]))}{more}"
    elif labels:
        yield f"- classes: {_text(labels)}"
    preprocessing = metadata.get("preprocessing")
    if preprocessing:
        size, channels = preprocessing["size"], preprocessing.get("channels", "RGB")
        yield f"- images: {size}x{size} pixels, {_text(channels)}"
    accuracy = metadata.get("accuracy") or {}
    if accuracy.get("top1") is not None:
        yield f"- top-1 accuracy on ImageNet: {accuracy['top1']} %"
    if accuracy.get("box_map") is not None:
        yield f"- mean average precision of boxes on COCO: {accuracy['box_map']} %"
    yield f"- licence: {_text(metadata.get('licence') or 'not stated')}"
    source = metadata.get("source") or {}
    source = {"url": source} if isinstance(source, str) else source
    if origin := source.get("url") or source.get("hub") or source.get("file"):
        yield f"- made from: {_text(origin)}"


def _is_detector(model: str) -> bool:
    """Whether it is a detector, all of which have public weights."""
    entries = catalogue.entries().get(model, {}).values()
    return any("box_map" in entry["accuracy"] for entry in entries)


def _list_items(items: Mapping[str, Any]) -> Iterator[str]:
    for name, value in items.items():
        if isinstance(value, Mapping):
            yield f"- {_text(name)}:"
            yield from (f"  {line}" for line in _list_items(value))
        else:
            yield f"- {_text(name)}: {_text(value)}"


def _text(value: Any) -> str:
    """A value on one line, without signs that Markdown acts on."""
    return printable(value, 1000).translate(_SPECIAL)
