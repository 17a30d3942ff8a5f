"""SSD, as torchvision names the layers."""

from zoo_pretrained.convert.rules import Rule, Rules
from zoo_pretrained.convert.source import Normalization, Source

_HEADS = (("classification", "class"), ("regression", "box"))
_TORCHVISION: Rules = (
    (r"backbone\.features\.(?P<block>\d+)", "#/"),
    (r"backbone", "l2_norm"),
    *(
        Rule(rf"backbone\.extra\.0\.{2 * number - 1}", f"backbone/stage5/conv{number}/")
        for number in (1, 2, 3)
    ),
    (r"backbone\.extra\.0\.7\.1", "fc6"),
    (r"backbone\.extra\.0\.7\.3", "fc7"),
    (r"backbone\.extra\.([1-4])\.0", r"extra\1/conv1"),
    (r"backbone\.extra\.([1-4])\.2", r"extra\1/conv2"),
    *(
        Rule(rf"head\.{name}_head\.module_list\.{number}", f"{ours}_head/map{number + 1}")
        for name, ours in _HEADS
        for number in range(6)
    ),
)

# The pixels are from 0 to 255, less these means.
_NORMALIZATION = Normalization((0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255))
SOURCES = {
    "torchvision": Source(_TORCHVISION, normalization=_NORMALIZATION, crops=False, labels="coco")
}
