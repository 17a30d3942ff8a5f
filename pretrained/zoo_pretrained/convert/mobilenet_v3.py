"""MobileNetV3, as its sources name the layers."""

from zoo_pretrained.convert.efficientnet_lite import TIMM_RULES
from zoo_pretrained.convert.frameworks import KERAS
from zoo_pretrained.convert.rules import Rule
from zoo_pretrained.convert.source import MINUS_ONE_TO_ONE, TENSORFLOW, TIMM_TF, Source

_TORCHVISION = (
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
_TIMM = (
    (r"blocks\.(?P<block>\d\.\d+)\.se\.conv_(reduce|expand)", r"#/squeeze_excite/\2"),
    (r"blocks\.\d\.0\.conv", "conv_head/"),  # the last block, which has no other layer
    Rule(r"blocks\.(\d)\.0\.bn1", "conv_head/", beside=r"blocks.\1.0.conv"),
    (r"conv_head", "fc"),
    *TIMM_RULES,
)
# The weights that Keras offers still have older names, as in Conv/BatchNorm, expanded_conv/expand
# and Logits.
_BLOCK = r"expanded_conv_?(?P<block>\d*)[_/]"
_KERAS = (
    (r"[Cc]onv(?:_bn|/BatchNorm)?", "stem/"),
    (_BLOCK + r"squeeze_excite[_/][Cc]onv", "#/squeeze_excite/reduce"),
    (_BLOCK + r"squeeze_excite[_/][Cc]onv_1", "#/squeeze_excite/expand"),
    (_BLOCK + r"(expand|depthwise|project)(?:_bn|/BatchNorm)?", r"#/\2/"),
    (r"[Cc]onv_1(?:_bn|/BatchNorm)?", "conv_head/"),
    (r"[Cc]onv_2", "fc"),
    (r"[Ll]ogits", "head"),
)

SOURCES = {
    "torchvision": Source(_TORCHVISION),
    "timm": Source(_TIMM, arguments={"norm_eps": 1e-5}),
    "timm_tf": Source(_TIMM, arguments=TENSORFLOW, normalization=MINUS_ONE_TO_ONE, hint=TIMM_TF),
    "keras": Source(_KERAS, KERAS, arguments=TENSORFLOW, normalization=MINUS_ONE_TO_ONE),
}
