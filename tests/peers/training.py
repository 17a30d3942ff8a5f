"""One step of training, ours and PyTorch's."""

import jax
import numpy as np
import pytest

from zoo_pretrained.checkpoint import flatten_variables


def check_step(theirs, model, convert, images, bound):
    """Loss, gradients and new statistics agree, in float64 on both sides and without dropout.

    In float32 the comparison would say little: where rounding moves an activation across a kink, a
    gradient through the normalisation of a few pixels moves by whole per cents.

    Args:
      theirs: the original, in training mode, in float64.
      model: ours.
      convert: makes our variables from a state dict.
      images: how many of 64x64 pixels.
      bound: on differences, as part of an array's largest entry.
    """
    import torch

    x = np.random.default_rng(3).normal(size=(images, 64, 64, 3))
    labels = np.arange(images) * 100
    variables = convert(theirs.state_dict())

    def loss(params):
        logits, new = model.apply(
            {**variables, "params": params},
            x,
            train=True,
            mutable=["batch_stats", "intermediates"],
        )
        losses = [
            -jax.nn.log_softmax(y)[np.arange(images), labels].mean()
            for y in (logits, *jax.tree.leaves(new.get("intermediates", {})))
        ]
        return losses[0] + 0.3 * sum(losses[1:]), new.get("batch_stats", {})

    with jax.enable_x64(True):
        step = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (value, stats), grads = jax.tree.map(np.asarray, step(variables["params"]))

    outputs = theirs(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    losses = [torch.nn.functional.cross_entropy(y, torch.from_numpy(labels)) for y in outputs]
    want = losses[0] + 0.3 * sum(losses[1:])
    want.backward()
    state = theirs.state_dict() | {name: p.grad for name, p in theirs.named_parameters()}
    expected = convert(state)
    assert value == pytest.approx(want.item(), rel=1e-9)
    for ours, wanted in ((grads, expected["params"]), (stats, expected.get("batch_stats", {}))):
        got = dict(flatten_variables(ours))
        for path, array in flatten_variables(wanted):
            atol = bound * np.abs(array).max() + 1e-12
            np.testing.assert_allclose(got[path], array, atol=atol, rtol=0, err_msg=path)
