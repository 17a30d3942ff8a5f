"""MobileNetV3, as its sources name the layers."""

from zoo_pretrained.convert import efficientnet_lite

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
TIMM = (
    (r"blocks\.(?P<block>\d\.\d+)\.se\.conv_(reduce|expand)", r"#/squeeze_excite/\2"),
    (r"blocks\.\d\.0\.conv", "conv_head/"),  # the last block, which is no other
    (r"blocks\.(\d)\.0\.bn1", "conv_head/", r"blocks.\1.0.conv"),
    (r"conv_head", "fc"),
    *efficientnet_lite.TIMM,
)
# The weights that Keras offers still have older names, as in Conv/BatchNorm, expanded_conv/expand
# and Logits.
_KERAS = r"expanded_conv_?(?P<block>\d*)[_/]"
KERAS = (
    (r"[Cc]onv(?:_bn|/BatchNorm)?", "stem/"),
    (_KERAS + r"squeeze_excite[_/][Cc]onv", "#/squeeze_excite/reduce"),
    (_KERAS + r"squeeze_excite[_/][Cc]onv_1", "#/squeeze_excite/expand"),
    (_KERAS + r"(expand|depthwise|project)(?:_bn|/BatchNorm)?", r"#/\2/"),
    (r"[Cc]onv_1(?:_bn|/BatchNorm)?", "conv_head/"),
    (r"[Cc]onv_2", "fc"),
    (r"[Ll]ogits", "head"),
)
