"""Converts EfficientNet-Lite0's ImageNet weights to the checkpoint that the zoo ships.

Needs the weights' package, which is in the extra `peers`.

    python scripts/embed_efficientnet_lite0.py
"""

from importlib import metadata
from pathlib import Path

import zoo
from zoo_pretrained import catalogue, read
from zoo_pretrained import checkpoint as store
from zoo_pretrained.convert import convert, efficientnet_lite
from zoo_pretrained.fetch import Digest, verify

MODEL, WEIGHTS = "EfficientNetLite0", "IMAGENET1K"


def main() -> None:
    """Verifies, reads, converts and saves the weights."""
    entry = catalogue.entries()[MODEL][WEIGHTS]
    source = entry["source"]
    file = Path(str(metadata.distribution(source["package"]).locate_file(source["file"])))
    verify(file, Digest("sha256", source["sha256"]))
    variables = convert(
        read.arrays(file), efficientnet_lite.LITE_PYTORCH, zoo.EfficientNetLite0().variable_shapes()
    )
    target = catalogue.checkpoint(entry)
    metadata_ = {"model": MODEL, "weights": WEIGHTS, "arguments": {}, **entry}
    store.save(target, variables, metadata_, overwrite=True)
    print(f"saved {target}")


if __name__ == "__main__":
    main()
