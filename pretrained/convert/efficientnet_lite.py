"""EfficientNet-Lite, as the package `efficientnet-lite-pytorch` names its layers."""

RULES = (
    (r"_conv_stem", "stem/conv"),
    (r"_bn0", "stem/norm"),
    (r"_blocks\.(\d+)\._expand_conv", r"\1/expand/conv"),
    (r"_blocks\.(\d+)\._bn0", r"\1/expand/norm"),
    (r"_blocks\.(\d+)\._depthwise_conv", r"\1/depthwise/conv"),
    (r"_blocks\.(\d+)\._bn1", r"\1/depthwise/norm"),
    (r"_blocks\.(\d+)\._project_conv", r"\1/project/conv"),
    (r"_blocks\.(\d+)\._bn2", r"\1/project/norm"),
    (r"_conv_head", "conv_head/conv"),
    (r"_bn1", "conv_head/norm"),
    (r"_fc", "head"),
)
