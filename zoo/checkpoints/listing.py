"""Which models there are, with weights and without."""

from zoo.models.base import MODELS, load_detectors
from zoo.models.suggest import matches
from zoo_pretrained import catalogue

TASKS = ("classification", "detection")


def list_models(
    pattern: str = "*",
    *,
    trained: bool | None = None,
    family: str | None = None,
    task: str | None = "classification",
) -> list[str]:
    """The names of the models.

    Args:
      pattern: a shell pattern such as "efficientnet*", or a part of a name, in any case.
      trained: True for models with public weights, False for the others, None for all. Stores may
        have weights for any model.
      family: the name of a family's file in `zoo/models` or `zoo/detection/models`, such as
        "resnet", which holds ResNeXt and Wide ResNet too; None for all.
      task: "classification" or "detection"; None for both.

    Raises:
      ValueError: no family of the task has that name, or there is no such task.
    """
    if task not in (None, *TASKS):
        raise ValueError(f"task must be one of {', '.join(TASKS)}, or None for all, got {task!r}")
    models = {} if task == "detection" else MODELS
    if task != "classification":
        models = {**models, **load_detectors()}
    entries, families = catalogue.entries(), sorted({entry.family for entry in models.values()})
    if family is not None and family not in families:
        raise ValueError(f"family must be one of {', '.join(families)}, got {family!r}")
    return [
        name
        for name, entry in models.items()
        if matches(name, pattern)
        and (trained is None or trained == (name in entries))
        and family in (None, entry.family)
    ]
