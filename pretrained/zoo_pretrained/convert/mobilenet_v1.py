"""MobileNetV1, as its sources name the layers."""

from zoo_pretrained.convert.frameworks import KERAS
from zoo_pretrained.convert.source import MINUS_ONE_TO_ONE, TENSORFLOW, Source

_TIMM = (
    (r"conv_stem|bn1", "stem/"),
    (r"blocks\.(?P<block>\d\.\d+)\.(?:conv_dw|bn1)", "#/depthwise/"),
    (r"blocks\.(?P<block>\d\.\d+)\.(?:conv_pw|bn2)", "#/pointwise/"),
    (r"classifier", "head"),
)
_KERAS = (
    (r"conv1(?:_bn)?", "stem/"),
    (r"conv_dw_(?P<block>\d+)(?:_bn)?", "#/depthwise/"),
    (r"conv_pw_(?P<block>\d+)(?:_bn)?", "#/pointwise/"),
    (r"conv_preds", "head"),
)

SOURCES = {
    "timm": Source(_TIMM, normalization=MINUS_ONE_TO_ONE),
    "keras": Source(_KERAS, KERAS, arguments=TENSORFLOW, normalization=MINUS_ONE_TO_ONE),
}
