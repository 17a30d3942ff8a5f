"""MobileNetV2, as its sources name the layers."""

from zoo_pretrained.convert.efficientnet_lite import TIMM_RULES
from zoo_pretrained.convert.frameworks import KERAS
from zoo_pretrained.convert.source import MINUS_ONE_TO_ONE, TENSORFLOW, Source

_TORCHVISION = (
    (r"features\.0\.[01]", "stem/"),
    (r"features\.(?P<block>1)\.conv\.0\.[01]", "#/depthwise/"),  # nothing to expand
    (r"features\.(?P<block>1)\.conv\.[12]", "#/project/"),
    (r"features\.(?P<block>\d+)\.conv\.0\.[01]", "#/expand/"),
    (r"features\.(?P<block>\d+)\.conv\.1\.[01]", "#/depthwise/"),
    (r"features\.(?P<block>\d+)\.conv\.[23]", "#/project/"),
    (r"features\.18\.[01]", "conv_head/"),
    (r"classifier\.1", "head"),
)
# The weights that Keras offers still have the older name Logits.
_KERAS = (
    (r"Conv1|bn_Conv1", "stem/"),
    (r"(?:expanded_conv|block)_?(?P<block>\d*)_(expand|depthwise|project)(?:_BN)?", r"#/\2/"),
    (r"Conv_1(?:_bn)?", "conv_head/"),
    (r"predictions|Logits", "head"),
)

SOURCES = {
    "torchvision": Source(_TORCHVISION),
    "timm": Source(TIMM_RULES),  # the same names, of the same blocks
    "keras": Source(_KERAS, KERAS, arguments=TENSORFLOW, normalization=MINUS_ONE_TO_ONE),
}
