"""Measures how well the embedded styles paint photos that they were not trained on.

    python scripts/make_style_images.py IMAGES
    python -m benchmarks.style.quality IMAGES [--steps 300] [--size 256] [--json FILE.json]

For each style and each example photo it gives the losses of the photo as it is, of the network's
picture, and of a picture that L-BFGS finds from the photo. They are judged by the network and the
layers of the training; or by another network, and its usual layers: `--model VGG16`.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zoo
from benchmarks.harness.interleaved import describe_cpu
from benchmarks.harness.recording import ROOT, describe_commit, format_command, write_json
from benchmarks.style.cases import NETWORK, OPTIMIZED, PICTURES, UNPAINTED
from zoo.style.losses import LossWeights, StyleLoss, make_style_loss
from zoo.style.optimize import STEPS, minimize
from zoo.style.pixels import load_pixels

PHOTOS = ("cat", "espresso", "rocket")


def make_judge(name: str | None, weights: str | None) -> tuple[StyleLoss, Any]:
    """The loss and the variables of its network.

    Args:
      name: of the network; None takes that of the training, with its layers.
      weights: of the network, if they are not the usual ones.
    """
    extra = zoo.style.load_styles().extra
    judge = zoo.trained(name or extra["loss_network"], weights=weights)
    parts = ("content", "style", "variation")
    loss_weights = LossWeights(*(extra["settings"][f"{part}_weight"] for part in parts))
    layers = () if name else (extra["content_layers"], extra["style_layers"])
    return make_style_loss(judge, loss_weights, *layers), judge.variables


def measure(
    loss: StyleLoss, variables: Any, images: Path, size: int, steps: int
) -> Iterator[dict[str, Any]]:
    """Yields a row for each style and photo.

    Args:
      loss, variables: the judge.
      images: the folder of the style images.
      size: the longer side of the photos.
      steps: of L-BFGS.
    """
    styles = zoo.style.load_styles()
    compute = zoo.jit(loss)
    for name in styles.names:
        style_size = styles.extra["settings"]["style_size"]
        wanted = load_pixels(images / f"{name}.jpg", style_size, shorter=True)
        grams = loss.grams(variables, jnp.asarray(wanted[None], jnp.float32) / 255)
        for photo in PHOTOS:
            pixels = load_pixels(ROOT / "examples" / f"{photo}.jpg", size)
            x = jnp.asarray(pixels[None], jnp.float32) / 255
            content = loss.maps(variables, x, loss.content_layers)
            picture = zoo.style.apply(pixels, name).pixels
            optimized, _ = minimize(loss, variables, x, content, grams, steps)
            shown = {UNPAINTED: x, NETWORK: jnp.asarray(picture[None], jnp.float32) / 255}
            row: dict[str, Any] = {"style": name, "photo": photo}
            for kind, pictures in {**shown, OPTIMIZED: optimized}.items():
                total, parts = compute(variables, pictures, content, grams)
                row[kind] = {"loss": float(total)} | jax.tree.map(float, parts)
            row["ratio"] = row[NETWORK]["loss"] / row[OPTIMIZED]["loss"]
            yield row


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.style.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", type=Path, help="the folder of the style images")
    parser.add_argument("--model", help="another network that judges, by its usual layers")
    parser.add_argument("--weights", help="of the network that judges")
    parser.add_argument("--steps", type=int, default=STEPS, help="of L-BFGS")
    parser.add_argument("--size", type=int, default=256, help="the photos' longer side")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args(arguments)


def main() -> None:
    """Measures, prints the figures, and writes JSON if asked to."""
    options = parse_arguments()
    loss, variables = make_judge(options.model, options.weights)
    record: dict[str, Any] = {
        "benchmark": "style_quality",
        "judge": loss.model.title,
        "device": describe_cpu(),
        "command": format_command("benchmarks.style.quality", sys.argv[1:]),
        "commit": describe_commit(),
        "versions": {"jax": jax.__version__},
        "rows": [],
    }
    for row in measure(loss, variables, options.images, options.size, options.steps):
        record["rows"].append(row)
        losses = ", ".join(f"{kind} {row[kind]['loss']:.3f}" for kind in PICTURES)
        print(f"{row['style']}, {row['photo']}: {losses}, ratio {row['ratio']:.2f}", flush=True)
        write_json(options.json, record)
    print(f"ratio, mean: {np.mean([row['ratio'] for row in record['rows']]):.2f}")


if __name__ == "__main__":
    main()
