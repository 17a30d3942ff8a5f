"""Fresh detectors on the weights of trained classifiers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from zoo.checkpoints.load import ModelWithWeights, as_trained, find_definition, make_info
from zoo.checkpoints.validate import compare_shapes
from zoo.detection.models.detector import Detector
from zoo.detection.trained import TrainedDetector
from zoo.inference.trained import Trained
from zoo.models.base import Model, create, find_model
from zoo.runtime.checks import ArgumentError
from zoo_pretrained.checkpoint import flatten_variables, unflatten_variables

# Arguments of a classifier on which its feature maps do not depend in inference.
_INDIFFERENT = {"num_classes", "dtype", "param_dtype", "norm_momentum", "remat", "recompute"}
_INDIFFERENT |= {"constructor", "name", "parent", "hidden_features", "auxiliary"}
_INDIFFERENT |= {"ceil_pool"}  # no weight depends on it, and SSD decides
# Those that the detector takes over.
_TAKEN = ("norm_eps", "reduced_tail")


def initialize(detector: Detector, key: jax.Array) -> TrainedDetector:
    """A detector with random weights, to be trained."""
    side = detector.min_size
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    variables: Any = jax.jit(detector.init, static_argnums=1)(key, images)
    return TrainedDetector(detector, variables, make_info(detector, variables, {}))


def with_backbone(
    detector: Detector | Callable[..., Model] | str,
    classifier: ModelWithWeights,
    *,
    key: jax.Array | None = None,
) -> TrainedDetector:
    """A fresh detector whose backbone has the weights of a trained classifier, to be trained.

        detector = zoo.detection.FCOS_ResNet50_FPN(num_classes=4)
        detector = zoo.detection.with_backbone(detector, zoo.trained(zoo.ResNet50))

    It takes over the epsilon of the classifier's norms, how its images are normalised, and for
    SSDLite how wide MobileNetV3's last stage is.

    Args:
      detector: a definition, or a detector's constructor or name.
      classifier: what `zoo.trained` returns, a pair (model, variables), or a model's name; of the
        model that the detector's `backbone` names. What it has behind the backbone is left out.
      key: a random key for everything else; `jax.random.key(0)` by default.

    Raises:
      ArgumentError: the classifier is another model, or one that the backbone does not equal.
    """
    definition, trained = find_definition(detector), as_trained(classifier)
    if not isinstance(definition, Detector):
        raise ArgumentError(f"detector must be a detector, got a {definition.title}")
    definition = _adopt(definition, trained.model)
    arrays = _fill(definition, trained, jax.random.key(0) if key is None else key)
    info = make_info(definition, arrays, {})
    ours, theirs = info.preprocessing, trained.info.preprocessing
    preprocessing = dataclasses.replace(
        ours, mean=theirs.mean, std=theirs.std, channels=theirs.channels
    )
    info = dataclasses.replace(
        info,
        preprocessing=preprocessing,
        source=trained.info.source,
        licence=trained.info.licence,
    )
    return TrainedDetector(definition, arrays, info)


def _adopt(detector: Detector, classifier: Model) -> Detector:
    """The detector as its backbone must be for a classifier; ArgumentError if it cannot."""
    wanted = find_model(detector.backbone).name
    if classifier.title != wanted:
        raise ArgumentError(
            f"classifier must be a {wanted}, which is the backbone of this {detector.title}, "
            f"got a {classifier.title}"
        )
    taken = {
        name: getattr(classifier, name)
        for name in _TAKEN
        if hasattr(classifier, name) and hasattr(detector, name)
    }
    detector = detector.clone(**taken)
    backbone = create(wanted, norm_eps=detector.norm_eps, **detector.backbone_arguments)
    backbone = backbone.clone(fused=detector.fused)
    for field in dataclasses.fields(classifier):
        name = field.name
        if name in _INDIFFERENT or name.endswith("_rate"):
            continue
        ours, theirs = getattr(backbone, name), getattr(classifier, name)
        if ours != theirs:
            raise ArgumentError(
                f"classifier must have {name}={ours!r}, as the backbone of a {detector.title} "
                f"does, got {name}={theirs!r}"
            )
    return detector


def _fill(detector: Detector, classifier: Trained, key: jax.Array) -> dict[str, Any]:
    """Fresh variables of a detector, but for its backbone, which has the classifier's."""
    side = detector.min_size
    images = jax.ShapeDtypeStruct((1, side, side, classifier.channels or 3), jnp.float32)
    arrays = dict(flatten_variables(detector.init(key, images)))
    inside = {path: path.replace("/backbone/", "/", 1) for path in arrays if "/backbone/" in path}
    given = dict(flatten_variables(classifier.variables))
    found = {path: given[theirs] for path, theirs in inside.items() if theirs in given}
    wanted = {path: tuple(arrays[path].shape) for path in inside}
    if mismatch := compare_shapes({path: tuple(x.shape) for path, x in found.items()}, wanted):
        raise ArgumentError(f"classifier does not fit this {detector.title}: {mismatch}")
    taken = {path: jnp.asarray(x, arrays[path].dtype) for path, x in found.items()}
    return dict(unflatten_variables({**arrays, **taken}))
