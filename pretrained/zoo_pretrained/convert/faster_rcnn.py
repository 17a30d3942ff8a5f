"""Faster R-CNN, as torchvision names the layers."""

from zoo_pretrained.convert.pyramid import BACKBONE, PYRAMID
from zoo_pretrained.convert.rules import Rule, Rules
from zoo_pretrained.convert.source import Source

_POOLED = (256, 7, 7)  # what the first dense layer sees
_TORCHVISION: Rules = (
    *BACKBONE,
    *PYRAMID,
    (r"rpn\.head\.conv(?:\.0\.0)?", "proposal_conv1"),
    (r"rpn\.head\.conv\.1\.0", "proposal_conv2"),
    (r"rpn\.head\.cls_logits", "objectness/conv"),
    (r"rpn\.head\.bbox_pred", "anchor_deltas/conv"),
    *(
        Rule(rf"roi_heads\.box_head\.{number}\.[01]", f"box_conv{number + 1}/")
        for number in range(4)
    ),
    Rule(r"roi_heads\.box_head\.(?:fc6|5)", "fc6", flattened=_POOLED),
    (r"roi_heads\.box_head\.fc7", "fc7"),
    (r"roi_heads\.box_predictor\.cls_score", "class_head"),
    (r"roi_heads\.box_predictor\.bbox_pred", "box_head"),
)

SOURCES = {"torchvision": Source(_TORCHVISION, crops=False, labels="coco")}
