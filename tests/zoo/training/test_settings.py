"""Settings: their types and ranges, files, and texts of a command line."""

import contextlib
import dataclasses
import math
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.training.settings import RECIPES, Settings, SettingsError, parse
from zoo_pretrained.spelling import for_shell

NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))
FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
NUMBERS = [name for name, field in FIELDS.items() if field.type in (int, float)]


def message(**settings):
    with pytest.raises(SettingsError) as caught:
        Settings(**settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lists_become_tuples_and_whole_numbers_lengths():
    settings = Settings(freeze=["stem"], epochs=3, batch_size=8)
    assert settings.freeze == ("stem",)
    assert (settings.epochs, settings.batch_size) == (3.0, 8)
    assert isinstance(settings.epochs, float)
    assert hash(settings) == hash(settings.replace())


def test_numbers_of_numpy_are_numbers():
    settings = Settings(epochs=np.int64(3), rate=np.float32(0.5), size=np.uint8(64), remat=np.True_)
    assert settings == Settings(epochs=3, rate=0.5, size=64, remat=True)
    assert [type(getattr(settings, name)) for name in ("epochs", "rate", "size", "remat")] == [
        float,
        float,
        int,
        bool,
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", "3", "a number, got '3'"),
        ("epochs", None, "a number, got None"),
        ("epochs", True, "a number, got True"),
        ("rate", [0.1], "a number, got [0.1]"),
        ("batch_size", 8.0, "an integer, got 8.0"),
        ("batch_size", True, "an integer, got True"),
        ("batch_size", None, "an integer, got None"),
        ("size", "224", "an integer, got '224'"),
        ("optimizer", 1, "a string, got 1"),
        ("remat", 1, "true or false, got 1"),
        ("freeze", "stem", "a list of strings, got 'stem'"),
        ("freeze", [1], "a list of strings, got [1]"),
        ("freeze_norms", None, "a list of strings, got None"),
        ("optimizer", "adam", "one of sgd, adamw, lamb, rmsprop, got 'adam'"),
        ("schedule", "linear", "one of constant, cosine, step, plateau, got 'linear'"),
        ("dtype", "float16", "one of float32, bfloat16, got 'float16'"),
        ("class_weights", "", "one of none, balanced, got ''"),
        ("epochs", 0, "more than 0 and at most 1e+09, got 0"),
        ("epochs", 10**400, f"more than 0 and at most 1e+09, got {10**400}"),
        ("layer_decay", 0.0, "more than 0 and at most 1, got 0.0"),
        ("batch_size", 0, "at least 1 and at most 1.04858e+06, got 0"),
        ("flip", 1.5, "at least 0 and at most 1, got 1.5"),
        ("validation", 1, "at least 0 and less than 1, got 1"),
        ("average_decay", 1.0, "at least 0 and less than 1, got 1.0"),
        ("seed", -1, "at least 0 and at most"),
        ("rotate", 181.0, "at least 0 and at most 180, got 181.0"),
        ("randaugment", 9, "at least 0 and at most 8, got 9"),
        ("size", 7, "at least 8 and at most 16384, got 7"),
    ],
)
def test_what_a_setting_does_not_take(name, value, expected):
    assert message(**{name: value}).startswith(f"{name} must be {expected}")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, "many", None, 1 + 2j])
def test_no_number_is_negative_or_infinite_or_none(name, value):
    assert message(**{name: value}).startswith(f"{name} must be ")


@pytest.mark.parametrize("name", [n for n in FIELDS if FIELDS[n].type is float])
def test_each_share_and_length_has_a_largest_value(name):
    assert message(**{name: 2e9}).startswith(f"{name} must be ")


@pytest.mark.parametrize("recipe", NAMES)
def test_recipes_are_read_by_name(recipe):
    settings = Settings.read(recipe)
    assert settings != Settings()
    assert Settings.read(recipe, rate=0.5) == settings.replace(rate=0.5)
    assert Settings.read(RECIPES / f"{recipe}.toml") == settings
    assert Settings.read(str(RECIPES / f"{recipe}.toml")) == settings


def test_the_recipes_that_are_named_in_the_design_are_there():
    assert set(NAMES) >= {"imagenet", "finetune", "cifar10", "mura"}


def test_an_unknown_recipe_is_named_with_those_that_there_are():
    with pytest.raises(SettingsError, match=r"one of cifar10, detection, .*got 'fine'"):
        Settings.read("fine")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"epochs = ", "is not TOML: "),
        (b"\xff", "cannot be read: "),
        (b"[model]\nname = 1", "mine.toml: there is no setting 'model'"),
        (b"epochs = 'many'", "mine.toml: epochs must be a number, got 'many'"),
        (b"rate = nan", "mine.toml: rate must be at least 0"),
        (b"epochs = 2024-01-01", "mine.toml: epochs must be a number"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, content, expected):
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        Settings.read(path)
    assert expected in str(caught.value)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_setting_suggests_others():
    with pytest.raises(SettingsError, match="no setting 'epoch'; did you mean epochs"):
        Settings.from_mapping({"epoch": 1})
    with pytest.raises(SettingsError, match="no setting 'xyz'; help"):
        Settings().replace(xyz=1)
    with for_shell(), pytest.raises(SettingsError, match="no setting 'xyz'; see docs"):
        Settings.read("finetune", xyz=1)


def test_replace_changes_what_it_is_given():
    settings = Settings(freeze=("stem",), rate=0.5)
    assert settings.replace(rate=1) == Settings(freeze=("stem",), rate=1.0)
    with pytest.raises(SettingsError, match="rate must be"):
        settings.replace(rate=-1)


PATTERNS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=3)
SHARES = st.floats(0, 0.99)


@given(
    freeze=PATTERNS,
    epochs=st.floats(1e-9, 1e9),
    rate=st.floats(0, 1e9),
    flip=SHARES,
    size=st.none() | st.integers(8, 512),
    remat=st.booleans(),
    optimizer=st.sampled_from(["sgd", "adamw"]),
)
def test_a_file_of_settings_is_read_as_the_same(tmp_path_factory, **values):
    settings = Settings(**values)
    path = tmp_path_factory.mktemp("settings") / "mine.toml"
    path.write_text(settings.to_toml(), encoding="utf-8")
    assert Settings.read(path) == settings


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "3", 3),
        ("rate", "1e-3", 1e-3),
        ("batch_size", "1_024", 1024),
        ("remat", "true", True),
        ("optimizer", "adamw", "adamw"),
        ("optimizer", '"adamw"', "adamw"),
        ("schedule", "step", "step"),
        ("freeze", "stem", ("stem",)),
        ("freeze", "stem,stage[1-3]/**", ("stem", "stage[1-3]/**")),
        ("freeze", '["stem", "head"]', ["stem", "head"]),
        ("freeze", "", ()),
        ("xyz", "word", "word"),
    ],
)
def test_texts_of_a_command_line(name, text, value):
    assert parse(name, text) == value


@pytest.mark.parametrize("text", ["", "1\nrate = 2", "1 2", "ten", "0x", "[", "=", "1\x00"])
def test_a_text_that_is_no_number_is_refused(text):
    assert message(epochs=parse("epochs", text)).startswith("epochs must be a number, got ")


@given(text=st.text(string.printable, max_size=6))
def test_any_text_is_a_setting_or_refused(text):
    for name in ("epochs", "size", "freeze", "optimizer", "remat"):
        with contextlib.suppress(SettingsError):
            Settings(**{name: parse(name, text)})
