"""Random weights of a small model as torchvision would publish them, made without PyTorch."""

import hashlib

import jax
import numpy as np
from safetensors.numpy import save

import zoo
from zoo_pretrained import restore
from zoo_pretrained.checkpoint import flatten_variables

MODEL, WEIGHTS = "SqueezeNet1_1", "TEST"


def state(num_classes=1000, seed=0):
    """Makes a state dict of SqueezeNet 1.1, with PyTorch's names and layouts."""
    rng = np.random.default_rng(seed)
    shapes = dict(
        flatten_variables(zoo.SqueezeNet1_1(num_classes=num_classes).variable_shapes()["params"])
    )
    # torchvision numbers all layers in one list, pools included.
    blocks = sorted({path.rsplit("/", 2)[0] for path in shapes if "block" in path})
    numbers = dict(zip(blocks, (3, 4, 6, 7, 9, 10, 11, 12), strict=True))
    arrays = {}
    for path, leaf in shapes.items():
        *module, name = path.split("/")
        module_name = {"stem": "features.0", "head": "classifier.1"}.get("/".join(module))
        if module_name is None:
            module_name = f"features.{numbers['/'.join(module[:-1])]}.{module[-1]}"
        array = rng.normal(size=leaf.shape).astype(np.float32) * leaf.size**-0.25
        if name == "kernel":
            arrays[f"{module_name}.weight"] = np.ascontiguousarray(array.transpose(3, 2, 0, 1))
        else:
            arrays[f"{module_name}.bias"] = array
    return arrays


def entry(url, body, **source):
    """Makes the catalogue's entry for a published file."""
    return {
        "arguments": {},
        "source": {
            "from": "torchvision",
            "url": url,
            "sha256": hashlib.sha256(body).hexdigest()[:8],
            "size": len(body),
            **source,
        },
        "preprocessing": {
            "size": 224,
            "resize": 256,
            "interpolation": "bilinear",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "channels": "RGB",
        },
        "labels": "imagenet1k",
        "licence": "BSD-3-Clause",
        "accuracy": {"top1": 58.2},
        "parameters": 1235496,
    }


def body(**options):
    """Makes the bytes of the published file."""
    return save(state(**options))


def assert_same_variables(trained, checkpoint):
    """Asserts that a trained model has a checkpoint's arrays."""
    expected = restore(checkpoint).variables
    jax.tree.map(np.testing.assert_array_equal, trained.variables, expected)
