"""SqueezeNet, as torchvision names its layers."""

from zoo_pretrained.convert.source import Source

_TORCHVISION = (
    (r"features\.0", "stem"),
    (r"features\.(?P<block>\d+)\.(squeeze|expand1x1|expand3x3)", r"#/\2"),
    (r"classifier\.1", "head"),
)

SOURCES = {"torchvision": Source(_TORCHVISION)}
