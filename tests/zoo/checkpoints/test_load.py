"""What stands for a model with weights."""

import pytest

import zoo
from tests.zoo.models.small_models import small
from zoo.checkpoints.load import unpack

MODEL, VARIABLES, X = small("resnet")


def test_a_pair_and_a_trained_model(lite):
    assert unpack((MODEL, VARIABLES)) == (MODEL, VARIABLES)
    model, variables = unpack(lite)
    assert model is lite.model
    assert variables is lite.variables


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (MODEL, "ResNet"),
        (len(VARIABLES), "int"),
        ((MODEL,), r"\(ResNet\)"),
        ((VARIABLES, MODEL), r"\(dict, ResNet\)"),
        ((zoo.ResNet18, VARIABLES), r"\(function, dict\)"),
        (None, "NoneType"),
    ],
    ids=["definition", "number", "one", "swapped", "constructor", "none"],
)
def test_anything_else_is_an_error_that_says_what_was_given(model, got):
    words = rf"what zoo\.trained returns, a pair \(model, variables\) or a .* name, got {got}$"
    for function in (unpack, zoo.adapt, zoo.fuse, lambda model: zoo.features(model, X, "stem")):
        with pytest.raises(TypeError, match=words):
            function(model)
