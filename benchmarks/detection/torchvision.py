"""The same work in torchvision."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.detection.cases import (
    DETECT,
    MOMENTUM,
    NETWORK,
    RATE,
    Case,
    Summarize,
    Work,
    make_photos,
    make_training_batch,
    summarize_loss,
    summarize_nothing,
    summarize_scores,
)


def make_work(case: Case, weights: Mapping[str, np.ndarray]) -> tuple[Work, Summarize]:
    """(what is timed, what is compared of its result)."""
    import torch

    model = build(case, weights)
    if case.work not in (DETECT, NETWORK):
        return _make_step(case, model)
    model.eval()
    photos = make_photos(case.batch)

    def read() -> list[Any]:
        return [torch.from_numpy(photo).permute(2, 0, 1).float() / 255 for photo in photos]

    def detect() -> list[dict[str, np.ndarray]]:
        with torch.inference_mode():
            found = model(read())
        return [{name: tensor.numpy() for name, tensor in each.items()} for each in found]

    if case.work == DETECT:
        return detect, lambda found: summarize_scores(found[0]["scores"])
    with torch.inference_mode():
        images, _ = model.transform(read())

    def run() -> Any:
        with torch.inference_mode():
            return run_network(model, images)

    return run, summarize_nothing


def build(case: Case, weights: Mapping[str, np.ndarray]) -> Any:
    """A model of torchvision's with a state dict."""
    import torch

    from tests.peers.detectors import NAMES, OPTIONS

    detection = importlib.import_module("torchvision.models.detection")
    options = {OPTIONS[name]: value for name, value in case.sides.items()}
    model = getattr(detection, NAMES[case.model])(weights=None, weights_backbone=None, **options)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return model.to(memory_format=torch.channels_last)


def run_network(model: Any, images: Any) -> Any:
    """What the heads compute of a batch that torchvision prepared."""
    maps = model.backbone(images.tensors)
    if not hasattr(model, "roi_heads"):
        return model.head(list(maps.values()))
    proposals, _ = model.rpn(images, maps)
    heads = model.roi_heads
    pooled = heads.box_roi_pool(maps, proposals, images.image_sizes)
    return heads.box_predictor(heads.box_head(pooled))


def _make_step(case: Case, model: Any) -> tuple[Work, Summarize]:
    """A step of SGD with momentum, of all parameters."""
    import torch

    images, boxes, classes = make_training_batch(case)
    targets = [
        {"boxes": torch.from_numpy(each), "labels": torch.from_numpy(labels)}
        for each, labels in zip(boxes, classes, strict=True)
    ]
    model.train().requires_grad_()
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)

    def step() -> float:
        photos = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]
        optimizer.zero_grad()
        loss = sum(model(photos, targets).values())
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step, summarize_loss
