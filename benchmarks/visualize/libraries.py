"""The same methods by captum and by pytorch-grad-cam, as their documentation calls them."""

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.visualize.cases import (
    FORWARD_BATCH,
    GRADIENT_BATCH,
    LAYERS,
    NOISE,
    SAMPLES,
    STEPS,
    STRIDE,
    WINDOW,
    Case,
    prepare_photo,
)

CAMS = {
    "grad-cam": "GradCAM",
    "grad-cam++": "GradCAMPlusPlus",
    "xgrad-cam": "XGradCAM",
    "hires-cam": "HiResCAM",
    "layer-cam": "LayerCAM",
    "eigen-cam": "EigenCAM",
    "score-cam": "ScoreCAM",
    "ablation-cam": "AblationCAM",
}


@functools.cache
def prepare(name: str) -> tuple[Any, Any, int]:
    """The network of torchvision, the photo [1, C, H, W], and the likeliest class.

    Its rectifiers write their result elsewhere than over their input, which the guided rules of
    both libraries need.
    """
    import torch

    from tests.peers import originals

    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = originals.original(name)
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU | torch.nn.ReLU6):
            module.inplace = False
    x = torch.from_numpy(prepare_photo().transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        return model, x, int(model(x).argmax())


def make_captum_work(case: Case) -> Callable[[], Any]:
    """A function that computes a case's maps [1, C or 1, H, W] by captum."""
    model, x, target = prepare(case.model)
    from captum import attr

    layer = model.get_submodule(LAYERS[case.model][1])
    size = tuple(x.shape[2:])
    noise = NOISE * float(x.max() - x.min())
    x = x.clone().requires_grad_()
    run: Callable[[], Any]
    match case.method:
        case "gradient":
            saliency = attr.Saliency(model)
            run = functools.partial(saliency.attribute, x, target=target, abs=False)
        case "input-x-gradient":
            run = functools.partial(attr.InputXGradient(model).attribute, x, target=target)
        case "integrated-gradients":
            run = functools.partial(
                attr.IntegratedGradients(model).attribute,
                x,
                target=target,
                n_steps=STEPS,
                internal_batch_size=GRADIENT_BATCH,
            )
        case "smooth-grad":
            run = functools.partial(
                attr.NoiseTunnel(attr.Saliency(model)).attribute,
                x,
                nt_type="smoothgrad",
                nt_samples=SAMPLES,
                nt_samples_batch_size=GRADIENT_BATCH,
                stdevs=noise,
                target=target,
                abs=False,
            )
        case "guided-backprop":
            run = functools.partial(attr.GuidedBackprop(model).attribute, x, target=target)
        case "deconvnet":
            run = functools.partial(attr.Deconvolution(model).attribute, x, target=target)
        case "occlusion":
            channels = x.shape[1]
            run = functools.partial(
                attr.Occlusion(model).attribute,
                x.detach(),
                (channels, WINDOW, WINDOW),
                strides=(channels, STRIDE, STRIDE),
                target=target,
                perturbations_per_eval=FORWARD_BATCH,
            )
        case "grad-cam":
            cam = attr.LayerGradCam(model, layer)

            def enlarge() -> Any:
                small = cam.attribute(x, target=target, relu_attributions=True)
                return attr.LayerAttribution.interpolate(small, size, "bilinear")

            run = enlarge

        case "guided-grad-cam":
            guided = attr.GuidedGradCam(model, layer)
            run = functools.partial(guided.attribute, x, target, interpolate_mode="bilinear")
        case _:
            raise NotImplementedError(f"captum has no {case.method}")
    return lambda: run().detach().numpy()


def make_grad_cam_work(case: Case) -> Callable[[], Any]:
    """A function that computes a case's map [1, H, W], or [H, W, C], by pytorch-grad-cam."""
    os.environ["TQDM_DISABLE"] = "1"  # its progress would fill the terminal
    model, x, target = prepare(case.model)
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def make_cam(method: str) -> Callable[[], Any]:
        layer = model.get_submodule(LAYERS[case.model][1])
        cam = getattr(pytorch_grad_cam, CAMS[method])(model, [layer])
        cam.batch_size = FORWARD_BATCH
        return lambda: cam(x, [ClassifierOutputTarget(target)])

    def guide() -> np.ndarray:
        guided = pytorch_grad_cam.GuidedBackpropReLUModel(model, x.device)
        return np.asarray(guided(x.clone(), target))

    if case.method == "guided-backprop":
        return guide
    if case.method == "guided-grad-cam":
        run = make_cam("grad-cam")
        return lambda: run()[0][..., None] * guide()
    if case.method not in CAMS:
        raise NotImplementedError(f"pytorch-grad-cam has no {case.method}")
    return make_cam(case.method)
