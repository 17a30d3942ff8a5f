"""MobileNetV3, as torchvision names its layers."""

TORCHVISION = (
    (r"features\.0\.[01]", "stem/"),
    (r"features\.(?P<block>\d+)\.block\.\d\.fc1", "#/squeeze_excite/reduce"),
    (r"features\.(?P<block>\d+)\.block\.\d\.fc2", "#/squeeze_excite/expand"),
    (r"features\.(?P<block>1)\.block\.0\.[01]", "#/depthwise/"),  # nothing to expand
    (r"features\.(?P<block>1)\.block\.[12]\.[01]", "#/project/"),
    (r"features\.(?P<block>\d+)\.block\.0\.[01]", "#/expand/"),
    (r"features\.(?P<block>\d+)\.block\.1\.[01]", "#/depthwise/"),
    (r"features\.(?P<block>\d+)\.block\.[23]\.[01]", "#/project/"),
    (r"features\.\d+\.[01]", "conv_head/"),
    (r"classifier\.0", "fc"),
    (r"classifier\.3", "head"),
)
