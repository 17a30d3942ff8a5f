"""What stands for a model with weights."""

import pytest

import zoo
from tests.zoo.models.small_models import small
from zoo.surgery.unpack import unpack

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
        ((MODEL,), r"\(ResNet\)"),
        ((VARIABLES, MODEL), r"\(dict, ResNet\)"),
        ((zoo.ResNet18, VARIABLES), r"\(function, dict\)"),
        ("ResNet18", "str"),
        (None, "NoneType"),
    ],
    ids=["definition", "one", "swapped", "constructor", "name", "none"],
)
def test_anything_else_is_an_error_that_says_what_was_given(model, got):
    words = rf"what zoo\.trained returns or a pair \(model, variables\), got {got}$"
    for function in (unpack, zoo.adapt, lambda model: zoo.features(model, X, "stem")):
        with pytest.raises(TypeError, match=words):
            function(model)
