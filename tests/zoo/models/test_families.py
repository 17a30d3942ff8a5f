"""What a family of models needs beside its file in zoo/models; the failures say what is lacking."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import flax.linen as nn
import pytest

import zoo
import zoo.models
import zoo_pretrained.convert
from tests.zoo.models.small_models import PUBLISHED, SMALL
from zoo.models.base import MODELS, Model, ModelEntry
from zoo.models.costs import load_costs
from zoo.models.options import INTERNAL

ROOT = Path(__file__).parents[3]
PEERS = ROOT / "tests" / "peers"
CONVERT = Path(zoo_pretrained.convert.__path__[0])


def family_files() -> Iterator[str]:
    """The files of zoo/models that define a model."""
    for info in pkgutil.iter_modules(zoo.models.__path__):
        module = importlib.import_module(f"zoo.models.{info.name}")
        defined = [cls for cls in vars(module).values() if isinstance(cls, type)]
        families = [cls for cls in defined if issubclass(cls, Model) and cls is not Model]
        if any(cls.__module__ == module.__name__ for cls in families):
            yield info.name


def lacking(family: str) -> list[str]:
    """What a family still lacks, one sentence each."""
    entries = [entry for entry in MODELS.values() if entry.family == family]
    if not entries:
        return [f"zoo/models/{family}.py: put @register() above a constructor"]
    checks = (lacking_in_zoo, lacking_in_tests, lacking_weights, lacking_docs, lacking_in_class)
    return [sentence for check in checks for sentence in check(family, entries)]


def lacking_in_zoo(family: str, entries: list[ModelEntry]) -> Iterator[str]:
    for entry in entries:
        if getattr(zoo, entry.name, None) is not entry.constructor:
            yield f"zoo/__init__.py: import {entry.name} from zoo.models.{family}"
        if entry.name not in zoo.__all__:
            yield f'zoo/__init__.py: add "{entry.name}" to __all__'


def lacking_in_tests(family: str, entries: list[ModelEntry]) -> Iterator[str]:
    if family not in SMALL:
        yield f"tests/zoo/models/small_models.py: add a small {family} to SMALL"
    elif type(SMALL[family]).__module__ != f"zoo.models.{family}":
        yield f"tests/zoo/models/small_models.py: the small {family} is a {type(SMALL[family])}"
    if entries[0].name not in PUBLISHED:
        yield (
            f"tests/zoo/models/small_models.py: add the published parameters of "
            f"{entries[0].name} to PUBLISHED"
        )
    peers = [PEERS / "test_models.py", PEERS / f"test_{family}.py"]
    text = "".join(path.read_text() for path in peers if path.exists())
    if not any(re.search(rf"\b{entry.name}\b", text) for entry in entries):
        yield (
            f"tests/peers/test_models.py: add {entries[0].name} to TRAINED, and its original to "
            f"tests/peers/originals.py"
        )


def lacking_weights(family: str, entries: list[ModelEntry]) -> Iterator[str]:
    if not (CONVERT / f"{family}.py").is_file():
        yield (
            f"pretrained/zoo_pretrained/convert/{family}.py: make it, with the rules of one source "
            f"or more"
        )
        return
    try:
        sources = zoo_pretrained.convert.sources(family)
    except ValueError:
        yield f"pretrained/zoo_pretrained/convert/__init__.py: add {family}.SOURCES to _FAMILIES"
        return
    if not sources:
        yield f"pretrained/zoo_pretrained/convert/{family}.py: add a Source to SOURCES"


def lacking_docs(family: str, entries: list[ModelEntry]) -> Iterator[str]:
    page = ROOT / "docs" / "models.md"
    text = page.read_text()
    for entry in entries:
        if not re.search(rf"\b{entry.name}\b", text):
            yield f"{page.relative_to(ROOT)}: add {entry.name} to the table of models"
    for entry in entries:
        if entry.name not in load_costs():
            yield f"zoo/models/costs.json: python scripts/make_costs.py adds {entry.name}"


def lacking_in_class(family: str, entries: list[ModelEntry]) -> Iterator[str]:
    file = f"zoo/models/{family}.py"
    for entry in entries:
        model = entry.constructor()
        cls = type(model)
        fields = {field.name: field.type for field in dataclasses.fields(cls)}
        for name in ("architecture", "backbone_options"):
            for field in set(getattr(cls, name)) - fields.keys():
                yield f"{file}: {cls.__name__}.{name} names {field!r}, which is no argument"
        shown = inspect.signature(entry.constructor).parameters.keys()
        options = fields.keys() - set(INTERNAL) - set(cls.architecture)
        if shown != options:
            yield f"{file}: {entry.name} shows {sorted(shown)} in place of {sorted(options)}"
        if inspect.isfunction(entry.constructor):
            typed = typed_options(inspect.unwrap(entry.constructor))
            for name in sorted(options ^ typed.keys()):
                verb = "add" if name in options else "take"
                yield f"{file}: {verb} {name!r} {'to' if verb == 'add' else 'from'} the TypedDict"
            for name in sorted(options & typed.keys()):
                if typed[name] != fields[name]:
                    yield f"{file}: {name!r} of the TypedDict is {typed[name]}, not {fields[name]}"
    if family in SMALL:
        modules = SMALL[family].variable_shapes()["params"]
        cls = type(SMALL[family])
        for name in {*cls.classifier, *cls.backbone_excludes} - set(modules):
            yield (
                f"{file}: the classifier or backbone_excludes of {cls.__name__} name {name!r}; its "
                f"modules are {', '.join(modules)}"
            )


def typed_options(constructor) -> dict[str, object]:
    """The arguments of a function that mypy knows: its own, and those of its TypedDict."""
    hints = typing.get_type_hints(constructor)
    hints.pop("return")
    (options,) = typing.get_args(hints.pop("options"))
    return {**typing.get_type_hints(options), **hints}


@pytest.mark.parametrize("family", sorted({*family_files(), *(e.family for e in MODELS.values())}))
def test_family_lacks_nothing(family):
    assert lacking(family) == []


def test_a_new_family_is_told_what_it_lacks(monkeypatch):
    class ToyNet(Model, kw_only=True):
        architecture = ("depths",)

        @nn.compact
        def __call__(self, x, train=False):
            return self.logits(x, train)

    assert lacking("toynet") == ["zoo/models/toynet.py: put @register() above a constructor"]
    monkeypatch.setitem(MODELS, "ToyNet", ModelEntry("ToyNet", "toynet", ToyNet, 224))
    places = [sentence.partition(": ")[0] for sentence in lacking("toynet")]
    assert places == [
        "zoo/__init__.py",
        "zoo/__init__.py",
        "tests/zoo/models/small_models.py",
        "tests/zoo/models/small_models.py",
        "tests/peers/test_models.py",
        "pretrained/zoo_pretrained/convert/toynet.py",
        "docs/models.md",
        "zoo/models/costs.json",
        "zoo/models/toynet.py",
    ]
    assert "names 'depths', which is no argument" in lacking("toynet")[-1]


def test_classes_that_declare_modules_they_do_not_have(monkeypatch):
    monkeypatch.setattr(type(SMALL["vgg"]), "classifier", ("fc8", "head"))
    (sentence,) = lacking("vgg")
    assert sentence.startswith("zoo/models/vgg.py: the classifier")
    assert "name 'fc8'; its modules are" in sentence
