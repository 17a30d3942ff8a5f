"""A small member of each family, quick to compile, and what is published of the real ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from zoo.models import (
    densenet,
    efficientnet_lite,
    googlenet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    resnet,
    squeezenet,
    vgg,
    xception,
)

SMALL = {
    "densenet": densenet.DenseNet(
        num_classes=5, depths=(1, 1, 1, 2), growth_rate=8, stem_channels=16
    ),
    "efficientnet_lite": efficientnet_lite.EfficientNetLite(
        num_classes=5,
        stages=(
            efficientnet_lite.StageConfig(3, 1, 1, 8, 1),
            efficientnet_lite.StageConfig(3, 2, 2, 8, 1),
            efficientnet_lite.StageConfig(5, 2, 1, 16, 1),
            efficientnet_lite.StageConfig(3, 1, 2, 16, 2),
            efficientnet_lite.StageConfig(3, 2, 2, 24, 1),
        ),
    ),
    "googlenet": googlenet.GoogLeNet(
        num_classes=5,
        stages=(
            googlenet.StageConfig(3, (googlenet.BlockConfig(8, 8, 8, 4, 4, 4),)),
            googlenet.StageConfig(3, (googlenet.BlockConfig(8, 8, 8, 4, 4, 4, auxiliary=True),)),
            googlenet.StageConfig(2, (googlenet.BlockConfig(8, 8, 8, 4, 4, 4),)),
        ),
    ),
    "mobilenet_v1": mobilenet_v1.MobileNetV1(
        num_classes=5,
        stages=(
            mobilenet_v1.StageConfig(1, 8, 1),
            mobilenet_v1.StageConfig(2, 16, 1),
            mobilenet_v1.StageConfig(2, 16, 1),
            mobilenet_v1.StageConfig(2, 24, 1),
            mobilenet_v1.StageConfig(2, 32, 2),
        ),
    ),
    "mobilenet_v2": mobilenet_v2.MobileNetV2(
        num_classes=5,
        stages=(
            mobilenet_v2.StageConfig(1, 8, 1, 1),
            mobilenet_v2.StageConfig(2, 8, 1, 2),
            mobilenet_v2.StageConfig(2, 16, 1, 2),
            mobilenet_v2.StageConfig(2, 24, 1, 2),
            mobilenet_v2.StageConfig(2, 24, 2, 2),
        ),
    ),
    "mobilenet_v3": mobilenet_v3.MobileNetV3(
        num_classes=5,
        stages=(
            (mobilenet_v3.BlockConfig(3, 16, 16, True, "relu", 2),),
            (mobilenet_v3.BlockConfig(5, 24, 16, False, "hard_swish", 2),),
            (mobilenet_v3.BlockConfig(3, 24, 24, False, "hard_swish", 2),),
            (
                mobilenet_v3.BlockConfig(3, 24, 24, False, "relu", 2),
                mobilenet_v3.BlockConfig(3, 32, 24, True, "relu", 1),
            ),
        ),
    ),
    "resnet": resnet.ResNet(num_classes=5, depths=(1, 1, 1, 1), groups=2, base_width=16),
    "squeezenet": squeezenet.SqueezeNet(
        num_classes=5, version=squeezenet.Version(8, 3, ((2,), (2,), (4, 4)))
    ),
    "vgg": vgg.VGG(num_classes=5, depths=(1, 1, 1, 1, 1), norm=True, hidden_features=8),
    "xception": xception.Xception(
        num_classes=5,
        stages=(
            (xception.BlockConfig((16,), pool=True),),
            (xception.BlockConfig((16,), pool=True),),
            (
                xception.BlockConfig((24,), pool=True),
                xception.BlockConfig((24, 24), pool=False),
            ),
            (xception.BlockConfig((32,), pool=True),),
        ),
    ),
}

# Parameters, and 10⁹ multiply-adds at the native size, as published with torchvision's weights
# (`num_params` and `_ops`); for the others the parameters of their PyTorch definitions.
PUBLISHED = {
    "VGG11": (132_863_336, 7.609),
    "VGG11_BN": (132_868_840, 7.609),
    "VGG13": (133_047_848, 11.308),
    "VGG13_BN": (133_053_736, 11.308),
    "VGG16": (138_357_544, 15.47),
    "VGG16_BN": (138_365_992, 15.47),
    "VGG19": (143_667_240, 19.632),
    "VGG19_BN": (143_678_248, 19.632),
    "ResNet18": (11_689_512, 1.814),
    "ResNet34": (21_797_672, 3.664),
    "ResNet50": (25_557_032, 4.089),
    "ResNet101": (44_549_160, 7.801),
    "ResNet152": (60_192_808, 11.514),
    "ResNeXt50_32x4d": (25_028_904, 4.23),
    "ResNeXt101_32x8d": (88_791_336, 16.414),
    "ResNeXt101_64x4d": (83_455_272, 15.46),
    "WideResNet50_2": (68_883_240, 11.398),
    "WideResNet101_2": (126_886_696, 22.753),
    "DenseNet121": (7_978_856, 2.834),
    "DenseNet161": (28_681_000, 7.728),
    "DenseNet169": (14_149_480, 3.36),
    "DenseNet201": (20_013_928, 4.291),
    "GoogLeNet": (6_624_904, 1.498),
    "SqueezeNet1_0": (1_248_424, 0.819),
    "SqueezeNet1_1": (1_235_496, 0.349),
    "MobileNetV1": (4_231_976, None),
    "MobileNetV2": (3_504_872, 0.301),
    "MobileNetV3_Large": (5_483_032, 0.217),
    "MobileNetV3_Small": (2_542_856, 0.057),
    "Xception": (22_855_952, None),
    "EfficientNetLite0": (4_652_008, None),
}


def random_variables(model, channels=3, seed=0):
    """Variables of a model's structure, scaled so that activations neither vanish nor explode."""
    rng = np.random.default_rng(seed)
    x = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            fan_in = np.prod(leaf.shape[:-1])
            return np.float32(rng.normal(scale=fan_in**-0.5, size=leaf.shape))
        low, high = (-0.5, 0.5) if name in ("mean", "bias") else (0.5, 2.0)
        return np.float32(rng.uniform(low, high, leaf.shape))

    return jax.device_put(jax.tree_util.tree_map_with_path(draw, shapes))


@functools.cache
def small(family):
    """A family's small member, its variables, and two images of an odd size."""
    model = SMALL[family]
    size = (max(39, model.min_size), max(33, model.min_size))
    x = jnp.float32(np.random.default_rng(1).normal(size=(2, *size, 3)))
    return model, random_variables(model), x


def logits(model, variables, x):
    """By a program that is compiled once for each of the tests' models."""
    return _compiled(model)(variables, x)


@functools.cache
def _compiled(model):
    return jax.jit(model.apply)
