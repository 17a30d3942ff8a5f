"""Style networks and their losses against PyTorch, with the same random weights.

PyTorch computes in float64.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo_kernels as kernels
from tests.peers.originals import converted, original
from tests.peers.style_network import transform
from tests.zoo.style.small import transformer_state
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Info, Trained, make_labels
from zoo.models.base import MODELS
from zoo.style.convert import convert
from zoo.style.convolutions import transposed_conv
from zoo.style.losses import LossWeights, gram_matrix, make_style_loss, total_variation

pytestmark = pytest.mark.peer
rng = np.random.default_rng(0)
HEIGHT, WIDTH, SIZE = 48, 64, 32
# Roundings of float32, of which 14 norms make more.
TOLERANCE = 1e-4


def assert_close(ours, theirs, tolerance=TOLERANCE):
    """Compares relative to the largest entry of theirs."""
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    largest = np.abs(theirs).max()
    np.testing.assert_allclose(np.asarray(ours) / largest, theirs / largest, atol=tolerance)


def nchw(x):
    import torch

    x = np.float64(np.moveaxis(x, -1, 1))
    return torch.from_numpy(np.ascontiguousarray(x)).requires_grad_()


def nhwc(x):
    return x.permute(0, 2, 3, 1)


@pytest.fixture(scope="module")
def transformed(tmp_path_factory):
    """A network of theirs as saved by PyTorch, and the same converted."""
    import torch

    state = {name: torch.from_numpy(array) for name, array in transformer_state().items()}
    path = tmp_path_factory.mktemp("saved") / "wave.pth"
    torch.save(state, path)
    return {name: tensor.double() for name, tensor in state.items()}, convert(path)


def test_converted_network(transformed):
    state, styles = transformed
    photos = np.float32(rng.random((2, HEIGHT, WIDTH, 3)))
    theirs = nhwc(transform(255 * nchw(photos), state)) / 255
    assert_close(styles(photos, np.ones((2, 1), np.float32)), theirs)


def test_gradients_of_a_converted_network(transformed):
    """By the photo, whose way back is through all layers and borders."""
    state, styles = transformed
    photos = np.float32(rng.random((1, HEIGHT, WIDTH, 3)))
    dy = np.float32(rng.normal(size=photos.shape))
    x = nchw(photos)
    (transform(255 * x, state) / 255 * nchw(dy)).sum().backward()

    @jax.jit
    @jax.grad
    def gradient(photos):
        y = styles.network.apply(styles.variables, photos, jnp.ones((1, 1)))
        return (y * dy).sum()

    ours, theirs = np.asarray(gradient(photos)), nhwc(x.grad).numpy()
    # In float32 a few values take the other side of a rectifier's kink, so the largest says little.
    assert np.linalg.norm(ours - theirs) < 1e-3 * np.linalg.norm(theirs)


def test_gram_matrix():
    """As in their example: products of all pairs of channels over the number of values."""
    maps = np.float32(rng.normal(size=(2, 6, 5, 4)))
    flat = nchw(maps).flatten(2)
    assert_close(gram_matrix(jnp.asarray(maps)), flat @ flat.mT / (4 * 6 * 5), 1e-6)


def test_total_variation():
    from torch.nn.functional import mse_loss

    x = nchw(images := np.float32(rng.random((2, 6, 5, 3))))
    theirs = mse_loss(x[:, :, 1:], x[:, :, :-1]) + mse_loss(x[..., 1:], x[..., :-1])
    assert_close(total_variation(jnp.asarray(images)), theirs, 1e-6)


def test_transposed_conv():
    import torch

    x, kernel = np.float32(rng.normal(size=(2, 5, 6, 4))), np.float32(rng.normal(size=(3, 3, 4, 2)))
    theirs = torch.nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1, bias=False)
    weight = np.float64(kernel.transpose(2, 3, 0, 1))
    theirs.weight = torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(weight)))
    assert_close(transposed_conv(jnp.asarray(x), jnp.asarray(kernel)), nhwc(theirs(nchw(x))), 1e-6)


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_instance_norm(mean):
    """Outputs, and gradients by the input, scale and bias."""
    import torch

    x = np.float32(mean + rng.normal(size=(3, 5, 4, 6)))
    scale, bias = (np.float32(rng.normal(size=6)) for _ in range(2))
    dy = np.float32(rng.normal(size=x.shape))
    y, vjp = jax.vjp(
        lambda *a: kernels.instance_norm(*a, eps=1e-3)[0], *map(jnp.asarray, (x, scale, bias))
    )
    weight, shift = (torch.from_numpy(np.float64(a)).requires_grad_() for a in (scale, bias))
    tx = nchw(x)
    ty = torch.nn.functional.instance_norm(tx, weight=weight, bias=shift, eps=1e-3)
    ty.backward(nchw(dy))
    assert_close(y, nhwc(ty), 2e-5)
    for ours, theirs in zip(
        vjp(jnp.asarray(dy)), (nhwc(tx.grad), weight.grad, shift.grad), strict=True
    ):
        assert_close(ours, theirs, 2e-5)


# What torchvision's `features` call the ends of stages 1 to 4, behind their rectifiers.
ENDS = {"VGG11": (1, 4, 9, 14), "VGG16": (3, 8, 15, 22)}
WEIGHTS = LossWeights(content=2.0, style=3.0, total_variation=5.0)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torch_loss(net, ends, picture, photo, style):
    """The loss by its definition, [1, 3, H, W] each."""
    import torch

    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))

    def maps(x):
        x, found = (x - mean) / std, []
        for index, layer in enumerate(net[: ends[-1] + 1]):
            x = torch.relu(x) if isinstance(layer, torch.nn.ReLU) else layer(x)  # not in place
            if index in ends:
                found.append(x)
        return found

    def gram(x):
        return x.flatten(2) @ x.flatten(2).mT / x.numel()

    def distance(x, reference):
        return ((x - reference) ** 2).sum() / (reference**2).sum()

    found = maps(picture)
    pairs = zip(found, maps(style), strict=True)
    content = distance(found[2], maps(photo)[2])
    styles = sum(distance(gram(x), gram(wanted)) for x, wanted in pairs) / len(ends)
    down, right = picture.diff(dim=2), picture.diff(dim=3)
    variation = (down**2).mean() + (right**2).mean()
    return WEIGHTS.content * content + WEIGHTS.style * styles + WEIGHTS.total_variation * variation


@pytest.mark.parametrize("name", ENDS)
def test_loss_and_its_gradient(name):
    theirs = original(name)
    model = MODELS[name].constructor()
    variables = converted(name, theirs.state_dict(), model)
    preprocessing = Preprocessing(SIZE, SIZE, "nearest", MEAN, STD)
    info = Info(name, "random", "", "", preprocessing, make_labels(None, 1000), None)
    loss = make_style_loss(Trained(model, variables, info), WEIGHTS)
    picture, photo, style = np.float32(rng.random((3, 1, SIZE, SIZE, 3)))
    content = loss.maps(variables, photo, loss.content_layers)
    grams = loss.grams(variables, style)
    value, gradient = jax.value_and_grad(lambda x: loss(variables, x, content, grams)[0])(picture)

    x = nchw(picture)
    net = theirs.features.double()
    wanted = torch_loss(net, ENDS[name], x, nchw(photo), nchw(style))
    wanted.backward()
    np.testing.assert_allclose(value, wanted.item(), rtol=TOLERANCE)
    exact = nhwc(x.grad).numpy()
    # In float32 a few values take the other side of a rectifier's kink.
    assert np.linalg.norm(gradient - exact) < 1e-3 * np.linalg.norm(exact)
