"""EfficientNet-Lite, as its sources name the layers."""

from zoo_pretrained.convert.source import (
    MINUS_ONE_TO_ONE,
    TENSORFLOW,
    TIMM_TF,
    Normalization,
    Source,
)

_LITE_PYTORCH = (
    (r"_conv_stem|_bn0", "stem/"),
    (r"_blocks\.(?P<block>\d+)\.(?:_expand_conv|_bn0)", "#/expand/"),
    (r"_blocks\.(?P<block>\d+)\.(?:_depthwise_conv|_bn1)", "#/depthwise/"),
    (r"_blocks\.(?P<block>\d+)\.(?:_project_conv|_bn2)", "#/project/"),
    (r"_conv_head|_bn1", "conv_head/"),
    (r"_fc", "head"),
)
TIMM_RULES = (
    (r"conv_stem|bn1", "stem/"),
    (r"blocks\.(?P<block>0\.\d+)\.(?:conv_dw|bn1)", "#/depthwise/"),  # nothing to expand
    (r"blocks\.(?P<block>0\.\d+)\.(?:conv_pw|bn2)", "#/project/"),
    (r"blocks\.(?P<block>\d+\.\d+)\.(?:conv_pw|bn1)", "#/expand/"),
    (r"blocks\.(?P<block>\d+\.\d+)\.(?:conv_dw|bn2)", "#/depthwise/"),
    (r"blocks\.(?P<block>\d+\.\d+)\.(?:conv_pwl|bn3)", "#/project/"),
    (r"conv_head|bn2", "conv_head/"),
    (r"classifier", "head"),
)
# timm's own sizes of the input and of the image that it is cropped from.
_TIMM_SIZES = {
    "EfficientNetLite1": (240, 272),
    "EfficientNetLite2": (260, 292),
    "EfficientNetLite3": (300, 331),
    "EfficientNetLite4": (380, 413),
}

SOURCES = {
    "timm": Source(
        TIMM_RULES,
        arguments={"padding": "symmetric", "norm_eps": 1e-5},
        sizes=_TIMM_SIZES,
    ),
    "timm_tf": Source(
        TIMM_RULES,
        arguments=TENSORFLOW,
        normalization=MINUS_ONE_TO_ONE,
        sizes=_TIMM_SIZES,
        hint=TIMM_TF,
    ),
    # The package efficientnet-lite-pytorch, whose weights of EfficientNetLite0 are embedded.
    "efficientnet_lite_pytorch": Source(
        _LITE_PYTORCH,
        normalization=Normalization((127 / 255,) * 3, (128 / 255,) * 3),
        interpolation="bicubic",
    ),
}
