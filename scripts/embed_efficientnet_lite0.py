"""Converts EfficientNet-Lite0's ImageNet weights to the checkpoint that the zoo ships.

Needs the extra `peers`, which holds the weights' package and PyTorch to read it with.

    python scripts/embed_efficientnet_lite0.py
"""

import hashlib
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import torch

import zoo
from pretrained import catalogue, store
from pretrained.convert import convert, efficientnet_lite

MODEL, WEIGHTS = "EfficientNetLite0", "IMAGENET1K"


def main() -> None:
    """Reads, verifies, converts and saves the weights."""
    entry = catalogue.entries()[MODEL][WEIGHTS]
    source = entry["source"]
    file = Path(str(metadata.distribution(source["package"]).locate_file(source["file"])))
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != source["sha256"]:
        raise SystemExit(f"{file} has sha256 {found}, expected {source['sha256']}")
    state = torch.load(file, map_location="cpu", weights_only=True)
    model = zoo.EfficientNetLite0()
    template = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    variables = convert(
        {name: tensor.numpy() for name, tensor in state.items()},
        efficientnet_lite.LITE_PYTORCH,
        template,
    )
    target = catalogue.checkpoint(entry)
    metadata_ = {"model": MODEL, "weights": WEIGHTS, "arguments": {}, **entry}
    store.save(target, variables, metadata_, overwrite=True)
    print(f"saved {target}")


if __name__ == "__main__":
    main()
