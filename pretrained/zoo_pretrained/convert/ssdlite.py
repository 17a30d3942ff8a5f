"""SSDLite, as torchvision names the layers.

It cuts MobileNetV3 in two behind the expansion of the first block of the last stage.
"""

from zoo_pretrained.convert.pyramid import list_backbone_rules
from zoo_pretrained.convert.rules import Rule, Rules
from zoo_pretrained.convert.source import MINUS_ONE_TO_ONE, Source

_HEADS = (("classification", "class"), ("regression", "box"))
_SECOND = r"backbone\.features\.1\."
_TORCHVISION: Rules = (
    (r"backbone\.features\.0\.13\.[01]", "backbone/stage5/block1/expand/"),
    *(
        Rule(
            _SECOND + rf"{number}\.(?:block\.)?{pattern}",
            f"backbone/stage5/block{number + 1}/{layer}",
        )
        for number in range(3)
        for pattern, layer in (
            (r"0\.[01]", "expand/"),
            (r"1\.[01]", "depthwise/"),
            (r"2\.fc1", "squeeze_excite/reduce"),
            (r"2\.fc2", "squeeze_excite/expand"),
            (r"3\.[01]", "project/"),
        )
    ),
    (_SECOND + r"3\.[01]", "backbone/conv_head/"),
    *list_backbone_rules(r"backbone\.features\.0\.", features=r"features\."),
    *(
        Rule(rf"backbone\.extra\.{number}\.{place}\.[01]", f"extra{number + 1}/{layer}/")
        for number in range(4)
        for place, layer in enumerate(("reduce", "depthwise", "expand"))
    ),
    *(
        Rule(
            rf"head\.{name}_head\.module_list\.{number}\.{pattern}",
            f"{ours}_head/map{number + 1}_{layer}",
        )
        for name, ours in _HEADS
        for number in range(6)
        for pattern, layer in ((r"0\.[01]", "depthwise/"), ("1", "pointwise"))
    ),
)

SOURCES = {
    "torchvision": Source(_TORCHVISION, normalization=MINUS_ONE_TO_ONE, crops=False, labels="coco")
}
