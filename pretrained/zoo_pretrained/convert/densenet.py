"""DenseNet, as its sources name the layers."""

from zoo_pretrained.convert.frameworks import KERAS
from zoo_pretrained.convert.source import Source

# Of torchvision and timm; older files have one more dot, as in "norm.1".
_TORCH = (
    (r"features\.(?:conv|norm)0", "stem/"),
    (r"features\.denseblock(\d)\.denselayer(\d+)\.norm\.?1", r"stage\1/block\2/preact"),
    (
        r"features\.denseblock(\d)\.denselayer(\d+)\.(?:conv\.?1|norm\.?2)",
        r"stage\1/block\2/bottleneck/",
    ),
    (r"features\.denseblock(\d)\.denselayer(\d+)\.conv\.?2", r"stage\1/block\2/grow"),
    (r"features\.transition(\d)\.norm", r"transition\1/preact"),
    (r"features\.transition(\d)\.conv", r"transition\1/reduce"),
    (r"features\.norm5", "preact"),
    (r"classifier", "head"),
)
# The weights that Keras offers still have the older names conv1/conv and fc1000.
_KERAS = (
    (r"conv1[_/](?:conv|bn)", "stem/"),
    (r"conv(?P<block>\d_block\d+)_0_bn", "#/preact"),
    (r"conv(?P<block>\d_block\d+)_1_(?:conv|bn)", "#/bottleneck/"),
    (r"conv(?P<block>\d_block\d+)_2_conv", "#/grow"),
    *((rf"pool{number + 1}_bn", f"transition{number}/preact") for number in (1, 2, 3)),
    *((rf"pool{number + 1}_conv", f"transition{number}/reduce") for number in (1, 2, 3)),
    (r"bn", "preact"),
    (r"predictions|fc1000", "head"),
)

SOURCES = {
    "torchvision": Source(_TORCH),
    "timm": Source(_TORCH),
    "keras": Source(_KERAS, KERAS, arguments={"norm_eps": 1.001e-5}),
}
