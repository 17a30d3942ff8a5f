"""EfficientNet-Lite against the PyTorch definition that its weights were published with."""

import copy

import jax
import numpy as np
import pytest

import zoo
from tests.peers.originals import torch_logits
from tests.peers.torch_lite import converted_lite, torch_lite
from tests.peers.training import check_step
from zoo_pretrained.checkpoint import flatten_variables

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def batches(lite, examples):
    """Real photos, and noise at the native size and at an odd one."""
    rng = np.random.default_rng(0)
    return {
        "photos": lite.preprocess(sorted(examples.glob("*.jpg"))),
        "noise": np.float32(rng.normal(size=(3, 224, 224, 3))),
        "odd": np.float32(rng.normal(size=(2, 161, 195, 3))),
    }


@pytest.fixture(scope="module")
def fused(lite):
    """The fused model as a function, compiled once a shape."""
    model, variables = zoo.fuse(lite.model, lite.variables)
    apply = jax.jit(model.apply)
    return lambda x: np.asarray(apply(variables, x))


def assert_agree(ours, theirs):
    """Logits within 0.001, and the same five classes in the same order."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(np.argsort(-ours)[:, :5], np.argsort(-theirs)[:, :5])


@pytest.mark.parametrize("kind", ["photos", "noise", "odd"])
def test_logits_with_imagenet_weights_plain_and_fused(lite, fused, batches, kind):
    x = batches[kind]
    theirs = torch_logits(torch_lite(0, pretrained=True), x)
    assert_agree(np.asarray(lite(x)), theirs)
    assert_agree(fused(x), theirs)


def test_embedded_checkpoint_equals_the_published_file(lite):
    """Converted again, bit for bit."""
    _, converted = converted_lite(0, torch_lite(0, pretrained=True).state_dict())
    embedded = dict(flatten_variables(lite.variables))
    assert embedded.keys() == dict(flatten_variables(converted)).keys()
    for path, array in flatten_variables(converted):
        assert np.asarray(embedded[path]).tobytes() == array.tobytes(), path


@pytest.mark.parametrize("size", range(5))
def test_every_size_with_random_weights_and_statistics(size):
    theirs = torch_lite(size)
    model, variables = converted_lite(size, theirs.state_dict())
    x = np.float32(np.random.default_rng(size).normal(size=(2, 97, 64, 3)))
    want = torch_logits(theirs, x)
    got = jax.jit(model.apply)(variables, x)
    assert float(np.abs(got - want).max()) <= 1e-4 * np.abs(want).max()
    count = sum(array.size for _, array in flatten_variables(variables["params"]))
    assert count == sum(p.numel() for p in theirs.parameters())


def test_training_step_agrees_in_loss_gradients_and_statistics():
    theirs = copy.deepcopy(torch_lite(0)).double().train()
    theirs._dropout.p = 0.0
    theirs._global_params = theirs._global_params._replace(drop_connect_rate=0.0)
    model = zoo.EfficientNetLite0(dropout_rate=0.0, drop_path_rate=0.0, dtype=np.float64)
    check_step(theirs, model, lambda state: converted_lite(0, state, np.float64)[1], 4, 1e-7)
