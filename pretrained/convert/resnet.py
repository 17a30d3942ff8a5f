"""ResNet, ResNeXt and Wide ResNet, as torchvision and timm name their layers."""

TORCHVISION = (
    (r"(?:conv|bn)1", "stem/"),
    (r"layer(?P<block>\d\.\d+)\.(?:conv|bn)(\d)", r"#/conv\2/"),
    (r"layer(?P<block>\d\.\d+)\.downsample\.[01]", "#/shortcut/"),
    (r"fc", "head"),
)
