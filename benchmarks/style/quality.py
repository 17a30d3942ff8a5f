"""Measures how well the embedded styles paint photos that they were not trained on.

    python scripts/make_style_images.py IMAGES
    python -m benchmarks.style.quality IMAGES [--steps 300] [--size 256] [--json FILE.json]

For each style and each example photo it gives the losses, by the network and the layers that judged
the training, of the photo as it is, of the network's picture, and of a picture that L-BFGS finds
from the photo.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zoo
from benchmarks.harness.interleaved import describe_cpu
from benchmarks.harness.recording import ROOT, describe_commit, format_command, write_json
from zoo.style.losses import LossWeights, make_style_loss
from zoo.style.optimize import STEPS, minimize
from zoo.style.pixels import load_pixels

PHOTOS = ("cat", "espresso", "rocket")
UNPAINTED, NETWORK, OPTIMIZED = "unpainted", "network", "optimized"


def measure(judge: zoo.Trained, images: Path, size: int, steps: int) -> Iterator[dict[str, Any]]:
    """Yields a row for each style and photo.

    Args:
      judge: the network of the loss.
      images: the folder of the style images.
      size: the longer side of the photos.
      steps: of L-BFGS.
    """
    styles = zoo.style.load_styles()
    settings = styles.extra["settings"]
    weights = LossWeights(*(settings[f"{n}_weight"] for n in ("content", "style", "variation")))
    layers = styles.extra["content_layers"], styles.extra["style_layers"]
    loss = make_style_loss(judge, weights, *layers)
    compute = zoo.jit(loss)
    for name in styles.names:
        wanted = load_pixels(images / f"{name}.jpg", settings["style_size"], shorter=True)
        grams = loss.grams(judge.variables, jnp.asarray(wanted[None], jnp.float32) / 255)
        for photo in PHOTOS:
            pixels = load_pixels(ROOT / "examples" / f"{photo}.jpg", size)
            x = jnp.asarray(pixels[None], jnp.float32) / 255
            content = loss.maps(judge.variables, x, loss.content_layers)
            picture = zoo.style.apply(pixels, name).pixels
            optimized, _ = minimize(loss, judge.variables, x, content, grams, steps)
            shown = {UNPAINTED: x, NETWORK: jnp.asarray(picture[None], jnp.float32) / 255}
            row: dict[str, Any] = {"style": name, "photo": photo}
            for kind, pictures in {**shown, OPTIMIZED: optimized}.items():
                total, parts = compute(judge.variables, pictures, content, grams)
                row[kind] = {"loss": float(total)} | jax.tree.map(float, parts)
            row["ratio"] = row[NETWORK]["loss"] / row[OPTIMIZED]["loss"]
            yield row


def main() -> None:
    """Measures, prints the figures, and writes JSON if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.style.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", type=Path, help="the folder of the style images")
    parser.add_argument("--weights", help="of the network that judged the training")
    parser.add_argument("--steps", type=int, default=STEPS, help="of L-BFGS")
    parser.add_argument("--size", type=int, default=256, help="the photos' longer side")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    record: dict[str, Any] = {
        "benchmark": "style quality",
        "device": describe_cpu(),
        "command": format_command("benchmarks.style.quality", sys.argv[1:]),
        "commit": describe_commit(),
        "versions": {"jax": jax.__version__},
        "rows": [],
    }
    name = zoo.style.load_styles().extra["loss_network"]
    judge = zoo.trained(name, weights=options.weights)
    for row in measure(judge, options.images, options.size, options.steps):
        record["rows"].append(row)
        losses = ", ".join(f"{k} {row[k]['loss']:.3f}" for k in (UNPAINTED, NETWORK, OPTIMIZED))
        print(f"{row['style']}, {row['photo']}: {losses}, ratio {row['ratio']:.2f}", flush=True)
        write_json(options.json, record)
    print(f"ratio, mean: {np.mean([row['ratio'] for row in record['rows']]):.2f}")


if __name__ == "__main__":
    main()
