"""Exported weights load into the libraries' own models, with every name."""

import numpy as np
import pytest

import zoo
from tests.peers.originals import built, randomised, torch_logits
from zoo_pretrained import restore

pytestmark = pytest.mark.peer

# With a flattened classifier, biases before norms, separable and grouped convolutions.
MODELS = [
    ("torchvision", "resnet18", "ResNet18"),
    ("torchvision", "resnext50_32x4d", "ResNeXt50_32x4d"),
    ("torchvision", "vgg11_bn", "VGG11_BN"),
    ("torchvision", "densenet121", "DenseNet121"),
    ("torchvision", "squeezenet1_1", "SqueezeNet1_1"),
    ("torchvision", "mobilenet_v2", "MobileNetV2"),
    ("torchvision", "mobilenet_v3_small", "MobileNetV3_Small"),
    ("timm", "mobilenetv1_100", "MobileNetV1"),
    ("timm", "mobilenetv3_small_100", "MobileNetV3_Small"),
    ("timm", "legacy_xception", "Xception"),
    ("timm_tf", "tf_efficientnet_lite0", "EfficientNetLite0"),
]


@pytest.mark.parametrize(("source", "architecture", "name"), MODELS)
def test_a_checkpoint_loads_into_the_librarys_model(source, architecture, name, tmp_path):
    import torch
    from safetensors.torch import load_file

    theirs = randomised(built(source, architecture))
    torch.save(theirs.state_dict(), tmp_path / "file.pth")
    torch.save(built(source, architecture).state_dict(), tmp_path / "like.pth")
    zoo.convert(tmp_path / "file.pth", name, tmp_path / "mine", source=source)
    checkpoint = restore(tmp_path / "mine")
    zoo.export(checkpoint, tmp_path / "back.safetensors", like=tmp_path / "like.pth")
    fresh = built(source, architecture).eval()
    fresh.load_state_dict(load_file(tmp_path / "back.safetensors"), strict=True)
    if architecture == "vgg11_bn":  # whose means absorb the biases before them
        x = np.float32(np.random.default_rng(0).normal(size=(1, 64, 64, 3)))
        want = torch_logits(theirs, x)
        assert np.abs(torch_logits(fresh, x) - want).max() <= 1e-4 * np.abs(want).max()
    state = theirs.state_dict()
    for key, tensor in fresh.state_dict().items():
        absorbed = architecture == "vgg11_bn" and key.startswith("features")
        assert absorbed or torch.equal(tensor, state[key]), key
