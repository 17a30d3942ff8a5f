"""MobileNetV2, as torchvision names its layers."""

TORCHVISION = (
    (r"features\.0\.[01]", "stem/"),
    (r"features\.(?P<block>1)\.conv\.0\.[01]", "#/depthwise/"),  # nothing to expand
    (r"features\.(?P<block>1)\.conv\.[12]", "#/project/"),
    (r"features\.(?P<block>\d+)\.conv\.0\.[01]", "#/expand/"),
    (r"features\.(?P<block>\d+)\.conv\.1\.[01]", "#/depthwise/"),
    (r"features\.(?P<block>\d+)\.conv\.[23]", "#/project/"),
    (r"features\.18\.[01]", "conv_head/"),
    (r"classifier\.1", "head"),
)
