"""What the detectors on a feature pyramid have in common, as torchvision names the layers.

Its older checkpoints have one number less in the names of convolutions that norms may follow.
"""

from zoo_pretrained.convert import mobilenet_v3, resnet
from zoo_pretrained.convert.rules import Rule, Rules


def list_backbone_rules(prefix: str = r"backbone\.body\.", features: str = "") -> list[Rule]:
    """Rules for the layers of torchvision's ResNet and MobileNetV3 inside a detector.

    Args:
      prefix: a regular expression for what is before their names.
      features: what MobileNetV3's own names begin with, which are left out there.
    """
    rules: Rules = (
        *resnet.SOURCES["torchvision"].rules,
        *(
            (pattern.removeprefix(features), path)
            for pattern, path, *_ in mobilenet_v3.SOURCES["torchvision"].rules
        ),
    )
    return [
        Rule(prefix + rule.pattern, rule.path if "#" in rule.path else f"backbone/{rule.path}")
        for rule in (Rule(*row) for row in rules)
        if rule.path not in ("head", "fc")
    ]


BACKBONE = list_backbone_rules(features=r"features\.")
PYRAMID = (
    *(
        Rule(rf"backbone\.fpn\.{name}_blocks\.{number}(?:\.[01])?", f"pyramid/{ours}{number + 1}/")
        for number in range(4)
        for name, ours in (("inner", "inner"), ("layer", "output"))
    ),
    Rule(r"backbone\.fpn\.extra_blocks\.p([67])", r"pyramid/extra\1"),
)
