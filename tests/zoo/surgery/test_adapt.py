"""Trained weights for other classes and other images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.small_models import SMALL, logits, small
from zoo_pretrained.checkpoint import flatten_variables

PATHS = {
    "vgg": "params/stage1/conv1/conv/kernel",
    "googlenet": "params/stem/conv1/conv/kernel",
    "squeezenet": "params/stem/kernel",
    "xception": "params/stem/conv1/conv/kernel",
}


def arrays(variables):
    return dict(flatten_variables(variables))


def test_draws_a_fresh_head_and_keeps_the_other_arrays():
    model, variables, x = small("mobilenet_v1")
    key = jax.random.key(3)
    new, adapted = zoo.adapt((model, variables), num_classes=7, key=key)
    assert logits(new, adapted, x).shape == (2, 7)
    for path, array in flatten_variables(adapted):
        if path.startswith("params/head/"):
            assert array.shape[-1] == 7
        else:
            assert array is arrays(variables)[path]
    head = adapted["params"]["head"]
    assert not np.any(head["bias"])
    assert float(head["kernel"].std()) == pytest.approx(0.01, rel=0.25)  # of 224 numbers
    again = zoo.adapt((model, variables), num_classes=7, key=key).variables["params"]["head"]
    np.testing.assert_array_equal(head["kernel"], again["kernel"])
    other = zoo.adapt((model, variables), num_classes=7).variables["params"]["head"]
    assert not np.array_equal(head["kernel"], other["kernel"])


def test_auxiliary_heads_are_replaced_too():
    model, variables, _ = small("googlenet")
    _, adapted = zoo.adapt((model, variables), num_classes=7)
    heads = [path for path, array in flatten_variables(adapted) if array.shape[-1] == 7]
    assert {path.rpartition("/")[0] for path in heads} == {
        "params/head", "params/stage4/block1/auxiliary/head"
    }  # fmt: skip


@pytest.mark.parametrize("family", sorted(SMALL))
def test_other_channels_change_only_the_first_kernel(family):
    model, variables, _ = small(family)
    _, adapted = zoo.adapt((model, variables), channels=5)
    changed = [
        path for path, array in flatten_variables(adapted) if array is not arrays(variables)[path]
    ]
    assert changed == [PATHS.get(family, "params/stem/conv/kernel")]


def test_a_grey_image_gives_the_logits_of_three_equal_channels():
    model, variables, x = small("mobilenet_v1")
    grey = x[..., :1]
    want = logits(model, variables, jnp.repeat(grey, 3, axis=-1))
    got = logits(*zoo.adapt((model, variables), channels=1), grey)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(jnp.abs(want).max()))


def test_an_image_repeated_to_six_channels_gives_the_same_logits():
    """Bands in turn, scaled by 3 / 6: red, green, blue twice over are the image again."""
    model, variables, x = small("mobilenet_v1")
    want = logits(model, variables, x)
    got = logits(*zoo.adapt((model, variables), channels=6), jnp.tile(x, (1, 1, 1, 2)))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(jnp.abs(want).max()))
    _, four = zoo.adapt((model, variables), channels=4)
    kernel = variables["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_allclose(
        four["params"]["stem"]["conv"]["kernel"][:, :, 3], 0.75 * kernel[:, :, 0], rtol=1e-6
    )


def test_accepts_a_trained_model(lite):
    model, adapted = zoo.adapt(lite, num_classes=3, channels=4)
    shape = jax.eval_shape(model.apply, adapted, jnp.zeros((1, 32, 32, 4))).shape
    assert (model.title, shape) == ("EfficientNetLite0", (1, 3))
    same_model, same = zoo.adapt(lite)
    assert same_model == lite.model
    assert all(array is arrays(lite.variables)[path] for path, array in flatten_variables(same))


def test_raises_for_bad_arguments():
    model, variables, _ = small("resnet")
    with pytest.raises(ValueError, match=r"num_classes must be .* at least 1, got 0"):
        zoo.adapt((model, variables), num_classes=0)
    with pytest.raises(ValueError, match=r"channels must be an integer.*got 2\.5"):
        zoo.adapt((model, variables), channels=2.5)
    with pytest.raises(ValueError, match=r"not those of this VGG: .* and \d+ more"):
        zoo.adapt((SMALL["vgg"], variables), num_classes=3)
    # The same names, but other shapes in between.
    with pytest.raises(ValueError, match=r"not those of this ResNet: .*conv.* and \d+ more"):
        zoo.adapt((model.clone(base_width=32), variables), num_classes=3)


def test_draws_a_fresh_head_for_the_same_number_of_classes_too():
    model, variables, _ = small("squeezenet")
    new, adapted = zoo.adapt((model, variables), num_classes=np.int64(5))
    assert new == model
    changed = [
        path for path, array in flatten_variables(adapted) if array is not arrays(variables)[path]
    ]
    assert changed == ["params/head/bias", "params/head/kernel"]
