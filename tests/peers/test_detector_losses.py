"""The detectors' losses and their gradients against torchvision's."""

import jax
import numpy as np
import pytest

from tests.peers.detectors import converted, is_fixed, is_two_stage, original, spread_scores
from zoo.detection.models.matching import Truth
from zoo.models.base import DETECTORS
from zoo_pretrained.checkpoint import flatten_variables

pytestmark = pytest.mark.peer

# All anchors and proposals count, so that nothing is drawn by chance.
ALL = {"anchor_samples": 100_000, "box_samples": 1000}
FEW = {"training_candidates": 100, "training_proposals": 30}
# Our names of torchvision's losses.
NAMES = {
    "classification": "classification",
    "bbox_regression": "box",
    "bbox_ctrness": "centerness",
    "loss_classifier": "classification",
    "loss_box_reg": "box",
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposal",
}
SIZES = ((32, 160), (24, 80), (32, 160))  # of the images, in a batch of 32x160
# The objects of three images: several, one of them nearly as large as the image; none; and two.
BOXES = (
    ((3, 5, 40, 30), (20.5, 10.25, 60, 30), (2, 0, 132, 32)),
    (),
    ((10, 4, 50, 20), (12, 10, 13, 11)),  # one pixel
)
LABELS = ((3, 7, 90), (), (1, 5))
# Of one pixel there is none for SSD: many default boxes cover it equally, and rounding decides.
LARGER_BOXES = (
    ((3, 5, 40, 50), (20.5, 10.25, 60, 30), (5, 0, 290, 300)),
    (),
    ((10, 4, 50, 30), (100, 20, 230, 150)),
)
# Its second version has batch norms in the head, too. Their statistics are equal where all images
# have as many proposals and objects as count.
EVEN_BOXES = (BOXES[0][:2], BOXES[0][1:], BOXES[2])
EVEN_LABELS = ((3, 7), (7, 90), (1, 5))


# How batch norms normalise: "batch" by the statistics of the batch, "running" by those of the
# model, and "frozen" as in most published weights: without parameters, and with an epsilon of 0.
# The MobileNet for 320 pixels is the same model in training.
NORMS = {
    "SSDLite320_MobileNetV3_Large": "running",
    "RetinaNet_ResNet50_FPN": "frozen",
    "RetinaNet_ResNet50_FPN_V2": "running",
    "FCOS_ResNet50_FPN": "running",
    "FasterRCNN_ResNet50_FPN": "frozen",
    "FasterRCNN_ResNet50_FPN_V2": "batch",
    "FasterRCNN_MobileNetV3_Large_FPN": "batch",
}


@pytest.mark.parametrize("name", NORMS)
def test_losses(name):
    """In float64 on both sides, as gradients through norms of few pixels say little in float32.

    What is left is that SSD's default boxes, and torchvision's labels of anchors, are float32.
    """
    with jax.enable_x64(True):
        check_step(name, NORMS[name], np.float64, loss_bound=1e-6, grad_bound=1e-5)


def test_losses_ssd():
    """In float32, as float64 would take minutes at 300 pixels.

    Where rounding moves an activation across a kink, gradients move by some thousandths:
    torchvision's own are up to 3.6e-3 from those in float64.
    """
    check_step("SSD300_VGG16", "running", np.float32, loss_bound=1e-5, grad_bound=1e-2)


def check_step(name, norm, dtype, *, loss_bound, grad_bound):
    """Losses, all gradients and the new statistics agree.

    Args:
      name: of the detector.
      norm: see `NORMS`.
      dtype: of all numbers.
      loss_bound: on the relative difference of losses.
      grad_bound: on the length of the difference of gradients, as a part of the gradient's.
    """
    options = {**ALL, **FEW} if is_two_stage(name) else {}
    if is_even(name):
        options["box_samples"] = FEW["training_proposals"] + len(EVEN_LABELS[0])
    theirs = original(name, **options).to(to_torch(np.zeros(1, dtype)).dtype)
    freeze(theirs, norm)
    images, pixels = make_images(name, dtype)
    pad_only(theirs.transform)
    spread_scores(name, theirs, images)
    eps = {"norm_eps": 0.0} if norm == "frozen" else {}
    ours = DETECTORS[name].constructor(dtype=dtype, param_dtype=dtype, **options, **eps)
    variables = converted(name, theirs, ours, dtype)
    set_training(theirs, norm)
    losses = theirs(images, make_targets(name, dtype))
    sum(losses.values()).backward()
    parts, stats, grads = run_step(ours, variables, pixels, norm, make_truth(name, dtype))
    wanted = {NAMES[name]: loss.item() for name, loss in losses.items()}
    assert parts.keys() == wanted.keys()
    for part, value in wanted.items():
        assert value > 0
        assert parts[part] == pytest.approx(value, rel=loss_bound), part
    compare_gradients(grads, converted(name, with_gradients(theirs), ours, dtype), grad_bound)
    found = dict(flatten_variables(stats))
    for path, array in flatten_variables(
        converted(name, theirs, ours, dtype).get("batch_stats", {})
    ):
        atol = 1e-9 * np.abs(array).max()
        np.testing.assert_allclose(found[path], array, atol=atol, rtol=0, err_msg=path)


def run_step(ours, variables, pixels, norm, truth):
    """The losses by name, the new statistics, and the gradients."""
    sizes = np.asarray(SIZES, np.float32)

    def loss(params):
        outputs, new = ours.apply(
            {**variables, "params": params},
            pixels,
            train=norm == "batch",
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
            **ours.apply_arguments(sizes, truth),
        )
        parts = ours.losses(outputs, truth)
        return sum(parts.values()), (parts, new.get("batch_stats", {}))

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, (parts, stats)), grads = jax.tree.map(np.asarray, step(variables["params"]))
    return parts, stats, grads


def compare_gradients(grads, wanted, bound):
    """All gradients are equal but for a part `bound` of their length."""
    wanted = dict(flatten_variables(wanted["params"]))
    found = dict(flatten_variables(grads))
    assert found.keys() == wanted.keys()
    frozen = {path for path, array in wanted.items() if np.isnan(array).all()}
    assert all(path.split("/")[-2] == "norm" for path in frozen)
    lengths = {path: np.linalg.norm(wanted[path]) for path in wanted.keys() - frozen}
    # What precedes a norm may have no gradient but rounding, 1e-12 of the others.
    rounding = 1e-12 * max(lengths.values())
    for path, length in lengths.items():
        error = np.linalg.norm(found[path] - wanted[path])
        assert error <= bound * length + rounding, (path, error, length)


def with_gradients(theirs):
    """The original's state, with gradients for parameters, and NaN for what has none."""
    import torch

    grads = {path: parameter.grad for path, parameter in theirs.named_parameters()}
    return {
        path: grads.get(path, torch.full_like(value, torch.nan) if value.ndim else value)
        for path, value in theirs.state_dict().items()
    }


def freeze(theirs, norm):
    """Puts frozen norms in place of the backbone's, where norms are frozen."""
    import torch
    from torchvision.ops import FrozenBatchNorm2d

    if norm != "frozen":
        return
    for parent in list(theirs.modules()):
        for name, child in parent.named_children():
            if isinstance(child, torch.nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(child.num_features, eps=0.0).to(child.weight.dtype)
                frozen.load_state_dict(child.state_dict())
                setattr(parent, name, frozen)


def set_training(theirs, norm):
    """Training mode, but for norms by the model's statistics."""
    import torch

    theirs.train()
    if norm == "running":
        for layer in theirs.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.eval()


def pad_only(transform):
    """Leaves images as they are, but for padding."""
    transform.resize = lambda image, target: (image, target)
    transform.image_mean, transform.image_std = [0.0] * 3, [1.0] * 3


def make_images(name, dtype):
    """Random images: a list of tensors of several sizes, and the batch that they make."""
    if is_fixed(name):
        side = DETECTORS[name].constructor().image_size
        height, width, sizes = side, side, ((side, side),) * len(SIZES)
    else:
        (height, width), sizes = np.max(SIZES, axis=0), SIZES
    pixels = np.random.default_rng(0).normal(size=(len(sizes), height, width, 3)).astype(dtype)
    images = []
    for image, (rows, columns) in zip(pixels, sizes, strict=True):
        image[rows:], image[:, columns:] = 0, 0
        images.append(to_torch(image[:rows, :columns].transpose(2, 0, 1)))
    return images, pixels


def make_targets(name, dtype):
    """The objects, as torchvision wants them."""
    truth = make_truth(name, dtype)
    return [
        {"boxes": to_torch(boxes[labels >= 0]), "labels": to_torch(labels[labels >= 0])}
        for boxes, labels in zip(*truth, strict=True)
    ]


def make_truth(name, dtype):
    """The objects, as we want them, with padding behind the longest row."""
    rows = LARGER_BOXES if is_fixed(name) else EVEN_BOXES if is_even(name) else BOXES
    boxes, labels = np.zeros((3, 4, 4), dtype), np.full((3, 4), -1)
    for number, classes in enumerate(EVEN_LABELS if is_even(name) else LABELS):
        count = len(classes)
        boxes[number, :count] = np.reshape(rows[number], (count, 4))
        labels[number, :count] = classes
    return Truth(boxes, labels)


def is_even(name):
    """Whether all images are to have as many objects."""
    return name == "FasterRCNN_ResNet50_FPN_V2"


def to_torch(array):
    """A NumPy array as a tensor."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))
