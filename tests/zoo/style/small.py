"""Small networks of random styles, ours and those of another library."""

import jax
import numpy as np

from zoo.style.network import StyleNetwork
from zoo.style.styles import Styles, variable_shapes

NAMES = ("dots", "lines")
# Of `TransformerNet` in PyTorch's example `fast_neural_style`, at full width:
# (convolution, norm, output channels, input channels, kernel size).
TRANSFORMER_LAYERS = [
    ("conv1", "in1", 32, 3, 9),
    ("conv2", "in2", 64, 32, 3),
    ("conv3", "in3", 128, 64, 3),
    *[
        (f"res{number}.conv{half}", f"res{number}.in{half}", 128, 128, 3)
        for number in range(1, 6)
        for half in (1, 2)
    ],
    ("deconv1", "in4", 64, 128, 3),
    ("deconv2", "in5", 32, 64, 3),
    ("deconv3", None, 3, 32, 9),
]


def random_styles(names=NAMES, **arguments):
    """Styles with random variables, whose norms are far from those that a network begins with.

    Args:
      names: of the styles.
      **arguments: of the network; by default it has an eighth of the full width.
    """
    network = StyleNetwork(len(names), **{"width": 1 / 8, **arguments})
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":  # activations neither vanish nor explode
            return np.float32(rng.normal(scale=np.prod(leaf.shape[:-1]) ** -0.5, size=leaf.shape))
        low, high = {"scale": (0.5, 2), "shift": (-0.5, 0.5), "bias": (0.4, 0.6)}[name]
        return np.float32(rng.uniform(low, high, leaf.shape))

    variables = jax.tree_util.tree_map_with_path(draw, variable_shapes(network))
    return Styles(network, jax.device_put(variables), tuple(names))


def transformer_state(seed=0, width=1 / 8):
    """Random arrays with the names of `TransformerNet().state_dict()`, at a share of its width."""
    rng = np.random.default_rng(seed)
    shapes = {}
    for conv, norm, *channels, size in TRANSFORMER_LAYERS:
        features, channels = (n if n == 3 else round(n * width) for n in channels)
        shapes[f"{conv}.conv2d.weight"] = (features, channels, size, size)
        shapes[f"{conv}.conv2d.bias"] = (features,)
        if norm is not None:
            shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (features,)
    return {name: np.float32(rng.normal(size=shape)) for name, shape in shapes.items()}
