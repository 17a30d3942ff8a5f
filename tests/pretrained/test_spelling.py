"""Messages name arguments as their reader types them."""

import pytest

from zoo_pretrained.spelling import argument, choose, for_shell


@pytest.mark.parametrize(
    ("given", "python", "shell"),
    [
        (("num_classes",), "num_classes", "--num-classes"),
        (("num_classes", 7), "num_classes=7", "--num-classes 7"),
        (("inside", "the net"), "inside='the net'", "--inside 'the net'"),
        (("head", False), "head=False", "--no-head"),
        (("overwrite", True), "overwrite=True", "--overwrite"),
        (("ignore", ["a", "b.*"]), "ignore=['a', 'b.*']", "--ignore a --ignore 'b.*'"),
    ],
)
def test_arguments_and_options(given, python, shell):
    assert argument(*given) == python
    with for_shell():
        assert argument(*given) == shell
        assert choose(python="here", shell="there") == "there"
    assert choose(python="here", shell="there") == "here"
