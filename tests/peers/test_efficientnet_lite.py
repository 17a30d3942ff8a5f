"""EfficientNet-Lite against the PyTorch definition that its weights were published with."""

import copy

import jax
import numpy as np
import pytest

import zoo
from pretrained.store import leaves
from tests.peers.originals import torch_logits
from tests.peers.torch_lite import converted_lite, torch_lite

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def batches(lite, examples):
    """Real photos, and noise at the native size and at an odd one."""
    rng = np.random.default_rng(0)
    return {
        "photos": lite.preprocess(sorted(examples.glob("*.jpg"))),
        "noise": np.float32(rng.normal(size=(2, 224, 224, 3))),
        "odd": np.float32(rng.normal(size=(2, 161, 195, 3))),
    }


def agree(ours, theirs):
    """The issue's bound on logits, and the same five classes in the same order."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(np.argsort(-ours)[:, :5], np.argsort(-theirs)[:, :5])


@pytest.mark.parametrize("kind", ["photos", "noise", "odd"])
def test_imagenet_weights_plain_and_fused(lite, batches, kind):
    x = batches[kind]
    theirs = torch_logits(torch_lite(0, pretrained=True), x)
    agree(np.asarray(lite(x)), theirs)
    model, variables = zoo.fuse(lite.model, lite.variables)
    agree(np.asarray(jax.jit(model.apply)(variables, x)), theirs)


def test_the_embedded_checkpoint_is_the_published_file(lite):
    """Converted again, bit for bit."""
    _, again = converted_lite(0, torch_lite(0, pretrained=True).state_dict())
    embedded = dict(leaves(lite.variables))
    assert embedded.keys() == dict(leaves(again)).keys()
    for path, array in leaves(again):
        assert np.asarray(embedded[path]).tobytes() == array.tobytes(), path


@pytest.mark.parametrize("size", range(5))
def test_every_size_with_random_weights_and_statistics(size):
    theirs = torch_lite(size)
    model, variables = converted_lite(size, theirs.state_dict())
    x = np.float32(np.random.default_rng(size).normal(size=(2, 97, 64, 3)))
    want = torch_logits(theirs, x)
    for ours, parameters in ((model, variables), zoo.fuse(model, variables)):
        got = jax.jit(ours.apply)(parameters, x)
        assert float(np.abs(got - want).max()) <= 1e-4 * np.abs(want).max()
    count = sum(array.size for _, array in leaves(variables["params"]))
    assert count == sum(p.numel() for p in theirs.parameters())


def test_training_agrees_in_loss_gradients_and_statistics():
    """One step of Lite0 in float64 on both sides, without dropout, on random weights.

    In float32 the comparison would say little: where rounding moves an activation across one of
    ReLU6's kinks, a gradient through the normalisation of a few pixels moves by whole per cents.
    """
    import torch

    theirs = copy.deepcopy(torch_lite(0)).double().train()
    theirs._dropout.p = 0.0
    theirs._global_params = theirs._global_params._replace(drop_connect_rate=0.0)
    with jax.enable_x64(True):
        model, variables = converted_lite(0, theirs.state_dict(), np.float64)
        model = model.clone(dropout_rate=0.0, drop_path_rate=0.0, dtype=np.float64)
        x = np.random.default_rng(3).normal(size=(4, 64, 64, 3))
        labels = np.arange(4) * 100

        @jax.jit
        def step(params):
            def loss(params):
                logits, new = model.apply(
                    {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
                )
                picked = jax.nn.log_softmax(logits)[np.arange(4), labels]
                return -picked.mean(), new["batch_stats"]

            return jax.value_and_grad(loss, has_aux=True)(params)

        (loss, stats), grads = jax.tree.map(np.asarray, step(variables["params"]))

    images = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    want = torch.nn.functional.cross_entropy(theirs(images), torch.from_numpy(labels))
    want.backward()
    state = theirs.state_dict() | {name: p.grad for name, p in theirs.named_parameters()}
    _, expected = converted_lite(0, state, np.float64)
    assert loss == pytest.approx(want.item(), rel=1e-9)
    for ours, wanted in ((grads, expected["params"]), (stats, expected["batch_stats"])):
        got = dict(leaves(ours))
        for path, array in leaves(wanted):
            np.testing.assert_allclose(
                got[path], array, atol=1e-7 * np.abs(array).max() + 1e-12, rtol=0
            )
