"""The operators against PyTorch's, running statistics included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo_kernels as kernels
from zoo.models.layers import BatchNorm, LayerOptions

pytestmark = pytest.mark.peer
rng = np.random.default_rng(0)


def assert_close(ours, theirs, rtol=2e-5):
    """Compares relative to the largest entry: both sides are float32."""
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours / scale, theirs / scale, atol=rtol)


def nchw(x):
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1))).requires_grad_()


def nhwc(x):
    return x.permute(0, 2, 3, 1)


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_batch_norm_layer_in_training_and_inference(mean):
    """Two steps and inference: outputs, gradients, running mean and (unbiased) variance."""
    import torch

    layer = BatchNorm("relu", LayerOptions(norm_eps=1e-3, norm_momentum=0.9))
    theirs = torch.nn.BatchNorm2d(6, eps=1e-3, momentum=0.1)
    scale, bias = (np.float32(rng.normal(size=6)) for _ in range(2))
    theirs.load_state_dict(
        {
            **theirs.state_dict(),
            "weight": torch.from_numpy(scale),
            "bias": torch.from_numpy(bias),
        }
    )
    params = {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}
    stats = {"mean": jnp.zeros(6), "var": jnp.ones(6)}
    for _ in range(2):
        x = np.float32(rng.normal(size=(3, 5, 4, 6)) * 2 + mean)
        dy = np.float32(rng.normal(size=x.shape))

        def f(params, x, stats=stats):
            variables = {"params": params, "batch_stats": stats}
            return layer.apply(variables, x, train=True, mutable=["batch_stats"])

        y, vjp, new = jax.vjp(f, params, x, has_aux=True)
        stats = new["batch_stats"]
        tx = nchw(x)
        ty = torch.relu(theirs(tx))
        grads = torch.autograd.grad(ty, (tx, theirs.weight, theirs.bias), nchw(dy))
        dparams, dx = vjp(dy)
        # At a mean of 100 float32 keeps two digits fewer of what is left of it.
        rtol = 2e-5 if mean == 0 else 2e-3
        assert_close(y, nhwc(ty), rtol)
        assert_close(dx, nhwc(grads[0]), rtol)
        assert_close(dparams["scale"], grads[1], rtol)
        assert_close(dparams["bias"], grads[2], rtol)
        assert_close(stats["mean"], theirs.running_mean)
        assert_close(stats["var"], theirs.running_var, 1e-4)
    y = layer.apply({"params": params, "batch_stats": stats}, x)
    assert_close(y, nhwc(torch.relu(theirs.eval()(tx))), 1e-4)


@pytest.mark.parametrize(
    ("kernel", "strides", "padding", "dilation"), [(3, 1, 1, 1), (5, 2, 2, 1), (3, 1, 2, 2)]
)
@pytest.mark.parametrize("groups", [1, 4, 8])
def test_convolutions(groups, kernel, strides, padding, dilation):
    import torch

    x = np.float32(rng.normal(size=(2, 13, 12, 8)))
    w = np.float32(rng.normal(size=(kernel, kernel, 8 // groups, 16)))
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    op = kernels.depthwise_conv if groups == 8 else kernels.conv
    if groups != 8:
        options["groups"] = groups
    tx, tw = nchw(x), torch.from_numpy(w.transpose(3, 2, 0, 1).copy()).requires_grad_()
    ty = torch.nn.functional.conv2d(tx, tw, None, strides, padding, dilation, groups)
    y, vjp = jax.vjp(lambda x, w: op(x, w, **options), x, w)
    dy = np.float32(rng.normal(size=y.shape))
    dx, dw = vjp(jnp.asarray(dy))
    tdx, tdw = torch.autograd.grad(ty, (tx, tw), nchw(dy))
    assert_close(y, nhwc(ty))
    assert_close(dx, nhwc(tdx))
    assert_close(dw, tdw.permute(2, 3, 1, 0))


@pytest.mark.parametrize(
    ("act", "theirs"),
    [
        ("relu", "relu"),
        ("relu6", "relu6"),
        ("leaky_relu", "leaky_relu"),
        ("elu", "elu"),
        ("hard_sigmoid", "hardsigmoid"),
        ("hard_swish", "hardswish"),
        ("silu", "silu"),
        ("gelu_exact", "gelu"),
        ("sigmoid", "sigmoid"),
        ("tanh", "tanh"),
    ],
)
def test_activations(act, theirs):
    """By PyTorch's names, kinks included: what is exactly 0, 3 or 6 meets the same derivative."""
    import torch

    x = np.concatenate([np.float32(rng.normal(size=60) * 3), np.float32([0, 6, 3, -3])])
    ours, vjp = jax.vjp(lambda x: kernels.bias_act(x[:, None], jnp.zeros(1), act)[:, 0], x)
    tx = torch.from_numpy(x).requires_grad_()
    ty = getattr(torch.nn.functional, theirs)(tx)
    assert_close(ours, ty)
    count = 62 if act == "hard_swish" else 64  # at ±3 PyTorch takes the mean of both derivatives
    (derivative,) = torch.autograd.grad(ty.sum(), tx)
    assert_close(vjp(jnp.ones(64))[0][:count], derivative[:count])


@pytest.mark.parametrize(
    ("size", "strides", "padding", "dilation"),
    [(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 1), (3, 2, 1, 2), (2, 3, 1, 1)],
)
def test_max_pool_gradient_where_values_are_equal(size, strides, padding, dilation):
    """After a ReLU most windows have several largest values: PyTorch's gradient takes the first."""
    import torch

    x = np.float32(rng.integers(0, 3, size=(2, 11, 10, 3)))
    x[1] = -np.inf
    tx = nchw(x)
    ty = torch.nn.functional.max_pool2d(tx, size, strides, padding, dilation)
    dy = np.float32(rng.normal(size=nhwc(ty).shape))
    ty.backward(torch.from_numpy(dy).permute(0, 3, 1, 2))

    def pool(x):
        return kernels.max_pool(x, size, strides=strides, padding=padding, dilation=dilation)

    y, vjp = jax.vjp(pool, x)
    np.testing.assert_array_equal(y, nhwc(ty).detach())
    assert_close(vjp(dy)[0], nhwc(tx.grad), rtol=1e-6)
