"""VGG, plain and with batch normalisation, as torchvision names its layers."""

TORCHVISION = (
    (r"features\.(?P<block>\d+)", "#/"),
    (r"classifier\.0", "fc6", (512, 7, 7)),
    (r"classifier\.3", "fc7"),
    (r"classifier\.6", "head"),
)
