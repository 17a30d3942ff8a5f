"""Libraries that not everybody installs."""

import json
import sys

import pytest

from zoo.runtime.extras import MissingExtraError, require


def test_what_is_installed_is_imported():
    assert require("json", "train") is json


@pytest.mark.parametrize("module", ["no_such_library", "no_such_library.part"])
def test_what_is_missing_is_named_with_its_extra(module):
    message = r"no_such_library is not installed; pip install 'jax-zoo\[train\]' brings it"
    with pytest.raises(MissingExtraError, match=message):
        require(module, "train")


def test_a_library_that_lacks_another_one_is_not_missing_itself(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_library'") as caught:
        require("broken_library", "train")
    assert not isinstance(caught.value, MissingExtraError)
    assert "broken_library" not in sys.modules
