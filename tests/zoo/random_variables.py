"""Variables drawn by NumPy: quick, and with statistics that are nobody's defaults."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import zoo


def random_variables(model, channels=3, seed=0):
    """Variables of a model's structure, scaled so that activations neither vanish nor explode."""
    rng = np.random.default_rng(seed)
    x = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            fan_in = np.prod(leaf.shape[:-1])
            return np.float32(rng.normal(scale=fan_in**-0.5, size=leaf.shape))
        low, high = (-0.5, 0.5) if name in ("mean", "bias") else (0.5, 2.0)
        return np.float32(rng.uniform(low, high, leaf.shape))

    return jax.device_put(jax.tree_util.tree_map_with_path(draw, shapes))


@functools.cache
def thin_lite():
    """A thin, shallow EfficientNet-Lite, its variables, and two images of an odd size."""
    model = zoo.EfficientNetLite0(num_classes=5).clone(width=0.25, depth=0.4)
    x = jnp.float32(np.random.default_rng(1).normal(size=(2, 39, 33, 3)))
    return model, random_variables(model), x
