"""Our side: the methods of networks that torchvision has, and those of the embedded model."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.visualize.cases import (
    DREAM,
    EMBEDDED,
    GRAD_CAM_OF_A_FILE,
    LAYERS,
    OPTIONS,
    PHOTO,
    RISE,
    SMOOTH_GRAD,
    Case,
    make_preprocessing,
)


def make_work(case: Case) -> Callable[[], Any]:
    """A function that computes a case's maps."""
    from zoo import visualize

    if case.model == EMBEDDED:
        return _make_embedded_work(case.method)
    inputs = prepare(case.model)
    method, options = visualize.METHODS[case.method], OPTIONS.get(case.method, {})
    if "cam" in case.method:
        options = {**options, "layer": LAYERS[case.model][0]}
    return lambda: method(inputs.trained, inputs, **options).maps


def make_forward(case: Case) -> Callable[[], Any]:
    """A function that computes the embedded model's logits of the prepared photo, and no more."""
    import jax

    model = _embedded()
    x = jax.device_put(model.preprocess(PHOTO))
    return lambda: np.asarray(model(x))


@functools.cache
def prepare(name: str) -> Any:
    """The photo as `Inputs` of a model with the weights of its original, and the likeliest class.

    What the first call of a method computes is not among it.
    """
    from tests.peers import originals
    from zoo.inference.trained import Info, Trained, make_labels
    from zoo.models.base import MODELS
    from zoo.visualize.inputs import prepare_inputs

    model = MODELS[name].constructor()
    variables = originals.converted(name, originals.original(name).state_dict(), model)
    info = Info(name, "random", "", "", make_preprocessing(), make_labels(None, 1000), None)
    return prepare_inputs(Trained(model, variables, info), PHOTO)


@functools.cache
def _embedded() -> Any:
    import zoo

    return zoo.trained(EMBEDDED)


def _make_embedded_work(method: str) -> Callable[[], Any]:
    import zoo
    from zoo.inference.images import load_image
    from zoo.visualize.inputs import prepare_inputs

    model = _embedded()
    if method == GRAD_CAM_OF_A_FILE:
        return lambda: zoo.visualize.grad_cam(model, PHOTO).maps
    if method == DREAM:
        image = load_image(PHOTO).resize((512, 512))
        return lambda: zoo.dream(model, image, octaves=4, steps=10).pixels
    inputs = prepare_inputs(model, PHOTO)
    works: dict[str, Callable[[], Any]] = {
        SMOOTH_GRAD: lambda: zoo.visualize.smooth_grad(model, inputs, samples=50).maps,
        RISE: lambda: zoo.visualize.rise(model, inputs, masks=2000).maps,
    }
    return works[method]
