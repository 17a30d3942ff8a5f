"""GoogLeNet, as torchvision names its layers."""

from zoo_pretrained.convert.rules import Rule
from zoo_pretrained.convert.source import MINUS_ONE_TO_ONE, Source

_TORCHVISION = (
    (r"conv(\d)\.(?:conv|bn)", r"stem/conv\1/"),
    (r"inception(?P<block>\d[a-e])\.branch1\.(?:conv|bn)", "#/ones/"),
    (r"inception(?P<block>\d[a-e])\.branch2\.0\.(?:conv|bn)", "#/reduce3/"),
    (r"inception(?P<block>\d[a-e])\.branch2\.1\.(?:conv|bn)", "#/threes/"),
    (r"inception(?P<block>\d[a-e])\.branch3\.0\.(?:conv|bn)", "#/reduce5/"),
    (r"inception(?P<block>\d[a-e])\.branch3\.1\.(?:conv|bn)", "#/fives/"),
    (r"inception(?P<block>\d[a-e])\.branch4\.1\.(?:conv|bn)", "#/pooled/"),
    (r"aux1\.conv\.(?:conv|bn)", "stage4/block1/auxiliary/conv/"),
    Rule(r"aux1\.fc1", "stage4/block1/auxiliary/fc", flattened=(128, 4, 4)),
    (r"aux1\.fc2", "stage4/block1/auxiliary/head"),
    (r"aux2\.conv\.(?:conv|bn)", "stage4/block4/auxiliary/conv/"),
    Rule(r"aux2\.fc1", "stage4/block4/auxiliary/fc", flattened=(128, 4, 4)),
    (r"aux2\.fc2", "stage4/block4/auxiliary/head"),
    (r"fc", "head"),
)

SOURCES = {"torchvision": Source(_TORCHVISION, normalization=MINUS_ONE_TO_ONE)}
