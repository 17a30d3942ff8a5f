"""MobileNetV1, as timm names its layers."""

TIMM = (
    (r"conv_stem|bn1", "stem/"),
    (r"blocks\.(?P<block>\d\.\d+)\.(?:conv_dw|bn1)", "#/depthwise/"),
    (r"blocks\.(?P<block>\d\.\d+)\.(?:conv_pw|bn2)", "#/pointwise/"),
    (r"classifier", "head"),
)
