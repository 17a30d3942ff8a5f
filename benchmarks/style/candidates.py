"""What is timed: painting a photo, and a step of training, here and in PyTorch."""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.style.cases import PAINT, STEP, TORCH, ZOO, Case


def make_photos(case: Case) -> np.ndarray:
    """Random photos [N, size, size, 3], uint8."""
    random = np.random.default_rng(0)
    shape = (case.batch, case.size, case.size, 3)
    return random.integers(0, 256, shape, np.uint8)


def make_zoo_work(case: Case) -> Callable[[], Any]:
    """Ours: from the photo to the picture as NumPy arrays; or a step of training."""
    from zoo.style.network import StyleNetwork
    from zoo.style.settings import StyleSettings
    from zoo.style.styles import Styles, variable_shapes
    from zoo.style.tiles import stylize

    network, photos = StyleNetwork(width=case.width), make_photos(case)
    random = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(0.05 * random.normal(size=leaf.shape), jnp.float32),
        variable_shapes(network),
    )
    if case.work == PAINT:
        styles = Styles(network, variables, ("style",), noise=StyleSettings.noise)
        weights = np.ones(1, np.float32)
        return lambda: stylize(styles, photos, weights, case.size)
    return _make_zoo_step(network, variables, photos)


def _make_zoo_step(network: Any, variables: Any, photos: np.ndarray) -> Callable[[], Any]:
    import zoo
    from zoo.inference.trained import Info, Trained
    from zoo.style.losses import LossWeights, make_style_loss
    from zoo.style.settings import StyleSettings
    from zoo.style.step import StyleTraining

    model = zoo.VGG16()
    shapes = model.variable_shapes()["params"]
    random = np.random.default_rng(2)
    params = {
        name: jax.tree.map(
            lambda leaf: jnp.asarray(
                random.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1])), jnp.float32
            ),
            stage,
        )
        for name, stage in shapes.items()
        if name.startswith("stage")
    }
    preprocessing = zoo.trained(zoo.EfficientNetLite0).info.preprocessing
    info = Info("VGG16", "random", "", "", preprocessing, (), None, head=False)
    trained = Trained(model, {"params": params}, info)
    loss = make_style_loss(trained, LossWeights(), ["stage2/conv2"])
    grams = loss.grams(trained.variables, jnp.asarray(photos[:1], jnp.float32) / 255)
    training = StyleTraining(network, loss, trained.variables, grams, StyleSettings())
    state = training.begin(variables["params"])

    def step() -> Any:
        nonlocal state
        state, metrics = training.step(state, photos, copies=False)
        return jax.block_until_ready(metrics)

    return step


def make_torch_work(case: Case) -> Callable[[], Any]:
    """PyTorch's, in channels_last: the same work."""
    import torch

    from tests.peers.style_network import transform
    from tests.zoo.style.small import transformer_state

    def prepare(array: np.ndarray) -> Any:
        tensor = torch.from_numpy(0.05 * array)
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        return tensor.contiguous(memory_format=layout).requires_grad_(case.work == STEP)

    state = {name: prepare(array) for name, array in transformer_state(width=case.width).items()}
    photos = make_photos(case)
    if case.work == PAINT:

        def paint() -> np.ndarray:
            with torch.inference_mode():
                x = torch.from_numpy(photos).permute(0, 3, 1, 2).float()
                pictures = transform(x, state).clamp(0, 255).round().byte()
                return np.asarray(pictures.permute(0, 2, 3, 1))

        return paint
    return _make_torch_step(functools.partial(transform, state=state), state, photos)


def _make_torch_step(
    net: Callable[[Any], Any], state: Mapping[str, Any], photos: np.ndarray
) -> Callable[[], Any]:
    import torch

    from benchmarks.harness.torchvision_operators import declare_operators

    declare_operators()
    models = importlib.import_module("torchvision.models")

    # The ends of VGG16's first four stages; the second is the content's.
    ends = (3, 8, 15, 22)
    layers = models.vgg16(weights=None).features[: ends[-1] + 1].requires_grad_(requires_grad=False)
    layers = layers.to(memory_format=torch.channels_last)
    for layer in layers:
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False

    def see(x: Any, last: int) -> list[Any]:
        found, x = [], x / 255
        for number, layer in enumerate(layers[: last + 1]):
            x = layer(x)
            if number in ends:
                found.append(x)
        return found

    def gram(x: Any) -> Any:
        n, c, h, w = x.shape
        flat = x.permute(0, 2, 3, 1).reshape(n, h * w, c)
        return flat.transpose(1, 2) @ flat / (c * h * w)

    optimizer = torch.optim.Adam(state.values(), lr=1e-3)
    with torch.no_grad():
        first = torch.from_numpy(photos[:1]).permute(0, 3, 1, 2).float()
        wanted = [gram(x) for x in see(first, ends[-1])]

    def step() -> Any:
        x = torch.from_numpy(photos).permute(0, 3, 1, 2).float()
        optimizer.zero_grad(set_to_none=True)
        pictures = net(x)
        with torch.no_grad():
            content = see(x, ends[1])[1]
        maps = see(pictures, ends[-1])
        loss = (maps[1] - content).square().sum() / content.square().sum()
        for found, reference in zip(maps, wanted, strict=True):
            loss = loss + (gram(found) - reference).square().sum() / reference.square().sum()
        loss = loss + (pictures.diff(dim=2).square().mean() + pictures.diff(dim=3).square().mean())
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


CANDIDATES = {ZOO: make_zoo_work, TORCH: make_torch_work}
