"""Writes the labels "imagenet1k": the synset and a name of each ILSVRC 2012 class.

Needs `timm`, whose data files list the synsets in the order of the logits, and WordNet's lemmas.

    python scripts/imagenet_labels.py
"""

from pathlib import Path

from timm.data.imagenet_info import ImageNetInfo

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "pretrained" / "zoo_pretrained" / "labels" / "imagenet1k.tsv"

# Names of classes whose first lemma another class shares.
DISTINCT = {
    "n02012849": "crane (bird)",
    "n03126707": "crane (machine)",
    "n03710721": "tank suit",
}


def main() -> None:
    """Writes the file."""
    info = ImageNetInfo("imagenet-1k")
    names = {s: info.label_name_to_description(s, detailed=False) for s in info.label_names()}
    lines = [
        f"{synset}\t{DISTINCT.get(synset, name.split(', ')[0])}" for synset, name in names.items()
    ]
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
