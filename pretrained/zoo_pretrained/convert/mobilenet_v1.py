"""MobileNetV1, as its sources name the layers."""

TIMM = (
    (r"conv_stem|bn1", "stem/"),
    (r"blocks\.(?P<block>\d\.\d+)\.(?:conv_dw|bn1)", "#/depthwise/"),
    (r"blocks\.(?P<block>\d\.\d+)\.(?:conv_pw|bn2)", "#/pointwise/"),
    (r"classifier", "head"),
)
KERAS = (
    (r"conv1(?:_bn)?", "stem/"),
    (r"conv_dw_(?P<block>\d+)(?:_bn)?", "#/depthwise/"),
    (r"conv_pw_(?P<block>\d+)(?:_bn)?", "#/pointwise/"),
    (r"conv_preds", "head"),
)
