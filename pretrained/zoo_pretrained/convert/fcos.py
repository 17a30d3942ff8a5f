"""FCOS, as torchvision names the layers."""

from zoo_pretrained.convert.pyramid import BACKBONE, PYRAMID
from zoo_pretrained.convert.rules import Rule, Rules
from zoo_pretrained.convert.source import Source

_HEADS = (("classification", "class"), ("regression", "box"))
_TORCHVISION: Rules = (
    *BACKBONE,
    *PYRAMID,
    *(
        Rule(rf"head\.{name}_head\.conv\.{3 * number + place}", f"{ours}_tower/{layer}{number + 1}")
        for name, ours in _HEADS
        for number in range(4)
        for place, layer in enumerate(("conv", "group_norm"))  # and an activation
    ),
    (r"head\.classification_head\.cls_logits", "class_head/conv"),
    (r"head\.regression_head\.bbox_reg", "box_head/conv"),
    (r"head\.regression_head\.bbox_ctrness", "centerness_head/conv"),
)

SOURCES = {"torchvision": Source(_TORCHVISION, crops=False, labels="coco")}
