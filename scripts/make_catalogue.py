"""Writes pretrained/catalogue.json from a table of what torchvision, timm and Keras publish.

The table lists, for each file of weights: model, source, weights_name, url_or_id, hash_prefix,
hash_algo, top1, top5, params, input_size, resize_size, interpolation, mean, std. Entries of the
catalogue that do not come from it (embedded checkpoints) are kept.

    python scripts/make_catalogue.py weights.json
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import zoo
from zoo.models.base import MODELS
from zoo_pretrained.convert import defaults

TARGET = Path(__file__).parent.parent / "pretrained" / "zoo_pretrained" / "catalogue.json"

# Ours by other names than theirs in small letters, without what only writes a width.
NAMES = {
    "mobilenetv1": "MobileNetV1",
    "mobilenetv2": "MobileNetV2",
    "mobilenet_v2": "MobileNetV2",
    "mobilenetv3_large": "MobileNetV3_Large",
    "mobilenetv3_small": "MobileNetV3_Small",
    "mobilenet_v3_large": "MobileNetV3_Large",
    "mobilenet_v3_small": "MobileNetV3_Small",
    "wide_resnet50_2": "WideResNet50_2",
    "wide_resnet101_2": "WideResNet101_2",
    "legacy_xception": "Xception",
    **{f"efficientnet_lite{size}": f"EfficientNetLite{size}" for size in range(5)},
    **{name.lower(): name for name in MODELS},
}
# Keras's licences are those of who trained its weights: Oxford's VGG group, Kaiming He, the authors
# of DenseNet, Google.
KERAS_LICENCES = {"vgg": "CC-BY-4.0", "resnet": "MIT", "densenet": "BSD-3-Clause"}
LICENCES = {
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
}
REFERENCES = {
    "torchvision": "https://docs.pytorch.org/vision/stable/models.html",
    "timm": "https://github.com/huggingface/pytorch-image-models/tree/main/results",
    "keras": "https://keras.io/api/applications/",
}


def main() -> None:
    """Reads the table and writes the catalogue."""
    table = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["weights"]
    catalogue: dict[str, dict[str, Any]] = {name: {} for name in MODELS}
    for name, several in json.loads(TARGET.read_text(encoding="utf-8")).items():
        catalogue[name] |= {w: e for w, e in several.items() if "checkpoint" in e}
    for row in table:
        for model, weights, entry in _entries(row):
            assert weights not in catalogue[model], (model, weights)
            catalogue[model][weights] = entry
    ordered = {name: dict(sorted(e.items(), key=_rank)) for name, e in catalogue.items() if e}
    TARGET.write_text(_text(ordered), encoding="utf-8")
    print(f"{sum(map(len, ordered.values()))} entries for {len(ordered)} models")


def _entries(row: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """None or one: (model, weights, entry)."""
    source = row["source"].removesuffix("_applications")
    found = _model(row, source)
    address = _address(row, source)
    if found is None or address is None:
        why = "nothing verifies it" if found else "no model of ours, or the same as torchvision's"
        print(f"left out, {why}: {source}'s {row['model']} {row['weights_name']}")
        return []
    model, habits, arguments, prefix = found
    family = MODELS[model].family
    arguments = {**defaults.arguments(family, habits), **arguments}
    entry: dict[str, Any] = {"arguments": arguments, "source": {"from": habits, **address}}
    if row["mean"] is None or source == "keras" or family == "googlenet":
        entry["preprocessing"] = defaults.preprocessing(family, source, row["input_size"])
    else:
        entry["preprocessing"] = {
            "size": row["input_size"],
            "resize": row["resize_size"],
            "interpolation": row["interpolation"],
            "mean": row["mean"],
            "std": row["std"],
            "channels": "RGB",
        }
    weights = {"keras": "keras_imagenet"}.get(source, prefix + row["weights_name"])
    if weights == "IMAGENET1K_FEATURES":  # its classifier is not a number
        entry["head"] = False
    licence = row.get("license") or {"torchvision": "bsd-3-clause"}.get(source)
    entry["labels"] = "imagenet1k"
    entry["licence"] = LICENCES[licence] if licence else KERAS_LICENCES.get(family, "Apache-2.0")
    accuracy = {key: row[key] for key in ("top1", "top5") if row.get(key) is not None}
    entry["accuracy"] = {**accuracy, "reference": REFERENCES[source]}
    entry["parameters"] = zoo.describe(MODELS[model].constructor(**arguments)).parameters
    if not _agrees(entry["parameters"], row, model, source):
        print(f"left out, as it is another architecture: {source}'s {row['model']}")
        return []
    return [(model, weights, entry)]


def _model(row: dict[str, Any], source: str) -> tuple[str, str, dict[str, Any], str] | None:
    """(constructor, whose habits, arguments, how its weights' names begin); None if it is not ours.

    The habits are what `zoo.convert` calls a source.
    """
    name, tag = row["model"], row["weights_name"]
    if source == "timm" and (row["num_classes"] != 1000 or tag.startswith(("tv_", "tv2_"))):
        return None  # torchvision's own files have a published hash
    arguments: dict[str, Any] = {}
    prefix, habits = "", source
    if source == "timm" and name.startswith("tf_"):
        name, prefix, habits = name.removeprefix("tf_"), "tf_", "timm_tf"
    # timm's mobilenetv2_140, Keras's mobilenet_v3_large_10
    if width := re.fullmatch(r"(mobilenet_?v\d(?:_large|_small)?)_(\d\d\d?)", name):
        name, percent = width[1], int(width[2].ljust(3, "0"))
        if percent != 100:
            if "v3" in name:  # of which theirs keep the layer before the classifier as wide
                return None
            arguments["width"] = percent / 100
            prefix += f"width{width[2]}_"
    model = NAMES.get(name.lower())
    return None if model is None else (model, habits, arguments, prefix)


def _address(row: dict[str, Any], source: str) -> dict[str, Any] | None:
    """Where the file is, and what its bytes are verified by; None if nothing verifies them."""
    address = row["url_or_id"]
    if not address.startswith("https://"):  # the hub itself tells each file's sha256
        return {"hub": address, "file": "model.safetensors"}
    if not row["hash_prefix"]:
        return None
    algorithm = row["hash_algo"].split()[0]
    found = {"url": address, algorithm: row["hash_prefix"]}
    if row.get("file_size_mb"):
        found["size"] = round(row["file_size_mb"] * 2**20)
    return found


def _agrees(counted: int, row: dict[str, Any], model: str, source: str) -> bool:
    """Whether our model has as many parameters as theirs, to the digits that are published."""
    if source == "torchvision":  # whose figure for GoogLeNet lacks the auxiliary heads
        return model == "GoogLeNet" or counted == row["params"]
    if source == "timm":
        return abs(counted - row["params"]) <= 5001
    return True  # Keras counts statistics too, and rounds


def _rank(item: tuple[str, dict[str, Any]]) -> tuple[bool, bool, bool, float]:
    """The default first: embedded weights, then by accuracy.

    Behind them come those that not everybody may use, and those of another width than the
    constructor's own.
    """
    entry = item[1]
    embedded, other = "checkpoint" in entry, "width" in entry.get("arguments", {})
    return not embedded, other, "NC" in entry["licence"], -entry["accuracy"].get("top1", 0.0)


def _text(catalogue: dict[str, Any]) -> str:
    """JSON with a short list in one line."""
    text = json.dumps(catalogue, indent=1, ensure_ascii=False)
    text = re.sub(r"\[\s+([-\d.e,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    return text + "\n"


if __name__ == "__main__":
    main()
