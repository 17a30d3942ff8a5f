"""Attributions against captum's and pytorch-grad-cam's, with the same random weights.

A plain, a residual, a dense and a depthwise network. Maps are compared relative to their largest
value.
"""

import copy
import functools

import numpy as np
import pytest

import zoo
from benchmarks.harness.torchvision_operators import declare_operators
from tests.conftest import ROOT
from tests.peers.originals import converted, original
from tests.peers.torch_lite import torch_lite
from zoo import visualize
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Info, Trained, make_labels
from zoo.models.base import MODELS
from zoo.visualize.attribution import resize_maps
from zoo.visualize.inputs import prepare_inputs

pytestmark = [
    pytest.mark.peer,
    # Both libraries use functions of torch and NumPy that are to go, and captum tells what it does.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Setting (backward|forward) hooks:UserWarning"),
    pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require:UserWarning"),
]

SIZE, TOLERANCE = 64, 1e-3
# Of each network a layer, by our path and by torchvision's.
LAYERS = {
    "VGG11": ("stage5", "features.20"),
    "ResNet18": ("stage4", "layer4"),
    "DenseNet121": ("stage4", "features.denseblock4"),
    "MobileNetV2": ("conv_head", "features.18"),
}
REAL_LAYERS = {"EfficientNetLite0": ("stage7", "_blocks.15")}
# For the two methods that compute all channels one by one: few channels, behind a rectifier.
NARROW_LAYERS = {
    "VGG11": ("stage2", "features.5"),
    "ResNet18": ("stage1", "layer1"),
    "DenseNet121": ("pool", "features.pool0"),
    "MobileNetV2": ("stage2/block2/expand", "features.3.conv.0"),
}


@functools.cache
def both(name):
    """Our model and theirs, with the same weights; images as both take them, and the targets.

    Theirs is in float64: in float32 each side may take another side of a rectifier's kink, which
    changes a gradient by more than the tolerance.
    """
    import torch

    if name == "EfficientNetLite0":  # with real weights, on real photos
        theirs, ours = torch_lite(0, pretrained=True), zoo.trained(name)
        photos = [ROOT / "examples" / f"{photo}.jpg" for photo in ("cat", "espresso")]
        return _as_both_take(theirs, ours, prepare_inputs(ours, photos, size=SIZE))
    theirs = original(name)
    ours = MODELS[name].constructor()
    variables = converted(name, theirs.state_dict(), ours)
    for module in theirs.modules():
        if isinstance(module, torch.nn.ReLU | torch.nn.ReLU6):
            module.inplace = False  # hooks see what it would overwrite
    if name == "DenseNet121":  # its last rectifier is a function, which no library's rule finds
        theirs.features.add_module("relu", torch.nn.ReLU())
        theirs.__class__ = type("Dense", (type(theirs),), {"forward": _forward_densenet})
    preprocessing = Preprocessing(SIZE, SIZE, "nearest", (0.5,) * 3, (0.25,) * 3)
    info = Info(name, "random", "", "", preprocessing, make_labels(None, 1000), None)
    ours = Trained(ours, variables, info)
    photos = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    # Of predicted classes no map is 0.
    return _as_both_take(theirs, ours, prepare_inputs(ours, photos))


def _forward_densenet(self, x):
    return self.classifier(self.features(x).mean((2, 3)))


def _as_both_take(theirs, ours, inputs):
    import torch

    x = torch.from_numpy(np.float64(inputs.x).transpose(0, 3, 1, 2).copy())
    theirs = copy.deepcopy(theirs).double()  # other tests share the original
    return ours, theirs, inputs, x, torch.tensor(np.array(inputs.targets, np.int64))


def check(ours, theirs):
    """Compares maps of two images, relative to the largest value of each."""
    theirs = np.asarray(theirs)
    if ours.ndim == 4:
        theirs = theirs.transpose(0, 2, 3, 1)
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0  # of one image nothing may speak for the class
    for one, other in zip(ours, theirs, strict=True):
        largest = float(np.abs(other).max())
        error = float(np.abs(one - other).max())
        assert error <= TOLERANCE * largest


def captum():
    declare_operators()
    from captum import attr

    return attr


@pytest.mark.parametrize("name", [*LAYERS, "EfficientNetLite0"])
def test_gradients(name):
    ours, theirs, inputs, x, targets = both(name)
    x = x.clone().requires_grad_()
    saliency = captum().Saliency(theirs).attribute(x, targets, abs=False)
    check(visualize.gradient(ours, inputs).maps, saliency.detach())
    product = captum().InputXGradient(theirs).attribute(x, targets)
    check(visualize.input_x_gradient(ours, inputs).maps, product.detach())


@pytest.mark.parametrize("name", LAYERS)
def test_integrated_gradients(name):
    ours, theirs, inputs, x, targets = both(name)
    wanted = (
        captum()
        .IntegratedGradients(theirs)
        .attribute(x, target=targets, n_steps=4, method="gausslegendre", internal_batch_size=8)
    )
    found = visualize.integrated_gradients(ours, inputs, baselines="grey", steps=4, batch_size=4)
    check(found.maps, wanted.detach())


@pytest.mark.parametrize("name", ["VGG11", "ResNet18", "DenseNet121"])
def test_guided_backprop(name):
    """Not MobileNetV2: both libraries leave ReLU6 as it is."""
    import torch

    declare_operators()
    from pytorch_grad_cam import GuidedBackpropReLUModel

    ours, theirs, inputs, x, _ = both(name)
    guided = GuidedBackpropReLUModel(theirs, torch.device("cpu"))
    wanted = [
        guided(x[row : row + 1].clone(), target)
        for row, target in enumerate(map(int, inputs.targets))
    ]
    found = visualize.guided_backprop(ours, inputs)
    check(found.maps, np.stack(wanted).transpose(0, 3, 1, 2))


def test_guided_backprop_and_deconvnet_of_captum():
    """On VGG alone: its hooks know no rectifier that is called twice, as residual blocks do."""
    ours, theirs, inputs, x, targets = both("VGG11")
    wanted = captum().GuidedBackprop(theirs).attribute(x, targets)
    check(visualize.guided_backprop(ours, inputs).maps, wanted.detach())
    wanted = captum().Deconvolution(theirs).attribute(x, targets)
    check(visualize.deconvnet(ours, inputs).maps, wanted.detach())


@pytest.mark.parametrize("name", LAYERS)
def test_occlusion(name):
    ours, theirs, inputs, x, targets = both(name)
    wanted = (
        captum()
        .Occlusion(theirs)
        .attribute(x, (3, 24, 24), strides=(3, 20, 20), target=targets, perturbations_per_eval=8)
    )
    found = visualize.occlusion(ours, inputs, window=24, stride=20, fill="grey")
    check(found.maps, wanted[:, 0].detach())


ONE_BY_ONE = ("score-cam", "ablation-cam")
# Of the last block, which has no rectifier behind it, Grad-CAM++'s map is 0 on both sides.
NOT_OF_LITE = (*ONE_BY_ONE, "grad-cam++")
CAMS = {
    "grad-cam": "GradCAM",
    "grad-cam++": "GradCAMPlusPlus",
    "xgrad-cam": "XGradCAM",
    "hires-cam": "HiResCAM",
    "layer-cam": "LayerCAM",
    "score-cam": "ScoreCAM",
    "ablation-cam": "AblationCAM",
}


def scaled(maps):
    """As pytorch-grad-cam scales its maps: each from 0 to 1."""
    low = maps.min((1, 2), keepdims=True)
    span = maps.max((1, 2), keepdims=True) - low
    return (maps - low) / np.where(span > 0, span, 1)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((name, method) for name in LAYERS for method in CAMS),
        *(("EfficientNetLite0", method) for method in CAMS if method not in NOT_OF_LITE),
    ],
)
def test_class_activation_maps(name, method, monkeypatch):
    import torch

    declare_operators()
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    # Of Score-CAM's masks, corners and centres of pixels are mixed there: theirs are enlarged with
    # aligned corners, their maps, like all of ours, between the centres.
    monkeypatch.setattr(
        torch.nn,
        "UpsamplingBilinear2d",
        lambda size: torch.nn.Upsample(size, mode="bilinear", align_corners=False),
    )
    ours, theirs, inputs, x, _ = both(name)
    layers = NARROW_LAYERS if method in ONE_BY_ONE else {**LAYERS, **REAL_LAYERS}
    path, their_path = layers[name]
    layer = theirs.get_submodule(their_path)
    targets = [ClassifierOutputTarget(int(target)) for target in inputs.targets]
    with getattr(pytorch_grad_cam, CAMS[method])(theirs, [layer]) as cam:
        cam.batch_size = 64
        wanted = cam(x, targets)
    found = visualize.METHODS[method](ours, inputs, layer=path)
    check(scaled(found.maps), wanted)


@pytest.mark.parametrize("name", LAYERS)
def test_eigen_cam(name):
    """The component itself, since its sign is by chance there."""
    import torch

    declare_operators()
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    ours, theirs, inputs, x, _ = both(name)
    path, their_path = LAYERS[name]
    outputs = []
    hook = theirs.get_submodule(their_path).register_forward_hook(lambda *a: outputs.append(a[2]))
    with torch.no_grad():
        theirs(x)
    hook.remove()
    wanted = get_2d_projection(outputs[0].numpy().copy())
    found = visualize.eigen_cam(ours, inputs, layer=path).maps
    for one, other in zip(found, wanted, strict=True):
        parts = np.maximum(np.stack([other, -other]), 0)
        errors = np.abs(one - resize_maps(parts, one.shape)).max((1, 2))
        assert errors.min() <= TOLERANCE * np.abs(other).max()


@pytest.mark.parametrize("name", ["VGG11"])
def test_guided_grad_cam(name):
    """Whose map captum enlarges without interpolation, if it isn't told otherwise."""
    ours, theirs, inputs, x, targets = both(name)
    path, their_path = LAYERS[name]
    layer = theirs.get_submodule(their_path)
    wanted = (
        captum().GuidedGradCam(theirs, layer).attribute(x, targets, interpolate_mode="bilinear")
    )
    check(visualize.guided_grad_cam(ours, inputs, layer=path).maps, wanted.detach())
