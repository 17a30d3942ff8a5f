"""Random weights for both sides, with which as many boxes are likely as with trained ones.

    python -m benchmarks.detection.weights MODEL FILE.npz [--quick]

torchvision's model decides on them; the file has its state dict.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.detection.cases import DETECT, Case, make_photos

# How many pairs of a box and a class are likelier than the model's threshold in a photo.
CANDIDATES = 500


def make_weights(case: Case) -> dict[str, np.ndarray]:
    """A state dict of torchvision's, for the case's model."""
    from tests.peers.detectors import original, spread_scores, to_tensors
    from zoo.models.base import load_detectors

    load_detectors()  # into the table that the tests look into
    theirs = original(case.model, **case.sides)
    photos = to_tensors(make_photos(1))
    spread_scores(case.model, theirs, photos)
    set_candidates(case.model, theirs, photos, CANDIDATES)
    return {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}


def set_candidates(name: str, theirs: Any, photos: Any, count: int) -> None:
    """Changes the bias of the classes so that `count` pairs are likelier than the threshold."""
    import torch

    head = theirs.roi_heads.box_predictor if name.startswith("FasterRCNN") else theirs.head
    outputs: list[Any] = []
    hook = head.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.no_grad():
        theirs(photos)
        hook.remove()
        (output,) = outputs
        if name.startswith("FasterRCNN"):
            threshold = theirs.roi_heads.score_thresh
            shift = find_background_shift(output[0].numpy(), threshold, count)
            theirs.roi_heads.box_predictor.cls_score.bias[0] += shift
        elif name.startswith("SSD"):
            shift = find_background_shift(
                output["cls_logits"][0].numpy(), theirs.score_thresh, count
            )
            for layer in head.classification_head.module_list:
                bias = (layer if hasattr(layer, "bias") else layer[-1]).bias
                bias.view(-1, output["cls_logits"].shape[-1])[:, 0] += shift
        else:
            centerness = output.get("bbox_ctrness", torch.full((1, 1, 1), torch.inf))[0].numpy()
            squared = "bbox_ctrness" in output  # FCOS has the root of a product for a score
            threshold = theirs.score_thresh ** (2 if squared else 1)
            shift = find_shift(output["cls_logits"][0].numpy(), centerness, threshold, count)
            head.classification_head.cls_logits.bias += shift


def find_shift(logits: np.ndarray, factors: np.ndarray, threshold: float, count: int) -> float:
    """What to add to logits [A, classes], so that `count` scores are above a threshold.

    The score is the product of two logistic functions, of the logit and of a factor [A, 1].
    """
    needed = threshold * (1 + np.exp(-factors.astype(np.float64)))
    with np.errstate(invalid="ignore", divide="ignore"):
        needed = np.where(needed < 1, np.log(needed / (1 - needed)), np.inf)
    return float(np.partition((needed - logits).ravel(), count)[count])


def find_background_shift(logits: np.ndarray, threshold: float, count: int) -> float:
    """What to add to the logits of class 0, so that `count` other classes' scores are above.

    The scores are the softmax of the logits [A, classes].
    """
    exponentials = np.exp(logits.astype(np.float64))
    others = exponentials[:, 1:]
    room = others / threshold - others.sum(1, keepdims=True)  # for the background's exponential
    with np.errstate(invalid="ignore", divide="ignore"):
        limits = np.where(room > 0, np.log(room), -np.inf) - logits[:, :1]
    return float(-np.partition(-limits.ravel(), count)[count])


def main() -> None:
    """Writes a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection.weights")
    parser.add_argument("model")
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    weights: dict[str, Any] = make_weights(Case(options.model, DETECT, 1, options.quick))
    np.savez(options.file, **weights)


if __name__ == "__main__":
    main()
