"""DenseNet, as torchvision names its layers; older files have a dot more, as in "norm.1"."""

TORCHVISION = (
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
