"""RetinaNet, as torchvision names the layers."""

from zoo_pretrained.convert.pyramid import BACKBONE, PYRAMID
from zoo_pretrained.convert.rules import Rule, Rules
from zoo_pretrained.convert.source import Source

_HEADS = (("classification", "class"), ("regression", "box"))
_TORCHVISION: Rules = (
    *BACKBONE,
    *PYRAMID,
    *(
        Rule(rf"head\.{name}_head\.conv\.{pattern}", f"{ours}_tower/{layer}{number + 1}")
        for name, ours in _HEADS
        for number in range(4)
        for pattern, layer in (
            (rf"{number}\.0", "conv"),
            (rf"{number}\.1", "group_norm"),
            (f"{2 * number}", "conv"),  # in older checkpoints, which count the activations
        )
    ),
    (r"head\.classification_head\.cls_logits", "class_head/conv"),
    (r"head\.regression_head\.bbox_reg", "box_head/conv"),
)

SOURCES = {"torchvision": Source(_TORCHVISION, crops=False, labels="coco")}
