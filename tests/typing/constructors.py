"""Calls of the constructors for mypy alone: those that type-check, and those that must not."""

import jax.numpy as jnp

import zoo
from zoo.models.densenet import DenseNet
from zoo.models.mobilenet_v2 import MobileNetV2
from zoo.models.resnet import ResNet

# A positional argument breaks two rules, of which mypy names one or both: so no code stands there.

# Functions: what every constructor takes, and what a family adds.
resnet: ResNet = zoo.ResNet50(num_classes=10, dtype=jnp.bfloat16, output_stride=16, name="trunk")
half: ResNet = zoo.ResNet18(dtype="bfloat16", param_dtype=jnp.float32, remat=True, recompute=False)
zoo.EfficientNetLite0(dropout_rate=0.1, drop_path_rate=0.0)
zoo.VGG16_BN(hidden_features=64, norm_eps=1e-3, norm_momentum=0.99, padding="SAME")
zoo.MobileNetV3_Small(width=0.75)
zoo.SqueezeNet1_0(dropout_rate=0.0)
densenet: DenseNet = zoo.DenseNet121(dropout_rate=0.2)
zoo.ResNet50(num_clases=10)  # type: ignore[call-arg]
zoo.ResNet50(10)  # type: ignore
zoo.ResNet50(num_classes="10")  # type: ignore[arg-type]
zoo.ResNet50(dtype=32)  # type: ignore[arg-type]
zoo.ResNet50(depths=(3, 4, 6, 3))  # type: ignore[call-arg]
zoo.EfficientNetLite0(0.1)  # type: ignore
zoo.EfficientNetLite0(width=1.1)  # type: ignore[call-arg]
zoo.VGG16(norm=True)  # type: ignore[call-arg]
zoo.DenseNet121(growth_rate=48)  # type: ignore[call-arg]
zoo.SqueezeNet1_1(output_stride=16)  # type: ignore[call-arg]

# Classes that are constructors themselves.
mobilenet: MobileNetV2 = zoo.MobileNetV2(width=0.5, num_classes=10)
zoo.GoogLeNet(auxiliary=False, auxiliary_dropout_rate=0.5)
zoo.Xception(output_stride=8)
zoo.MobileNetV2(0.5)  # type: ignore
zoo.MobileNetV2(num_clases=10)  # type: ignore[call-arg]
zoo.MobileNetV1(width="half")  # type: ignore[arg-type]
zoo.Xception(auxiliary=False)  # type: ignore[call-arg]
