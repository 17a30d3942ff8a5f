"""Writes the catalogue of trained weights from a table of what others publish.

    python scripts/make_catalogue.py [OUT]

The table, `published_weights.json`, has a row for each file: source, model and weights (the
publisher's names), url with a sha256 or md5 (as published, perhaps only how it begins) and bytes,
or hub; licence; top1 and top5, or box_map; params (as published, to compare with ours), and whether
a detector's norms are frozen; size of the input; and the constructor's arguments, resize,
interpolation, mean and std where they differ from those of the source in `zoo_pretrained.convert`.
It leaves out files that nothing verifies, timm's copies of torchvision's files, other classes than
ImageNet's thousand and COCO's, and architectures that are not ours. The licences of Keras's weights
are those of who trained them: Oxford's VGG group, Kaiming He, the authors of DenseNet, Google.

Embedded checkpoints, which are not in the table, are kept as the catalogue has them.
"""

import functools
import json
import re
import sys
from pathlib import Path
from typing import Any

import zoo
from zoo.models.base import MODELS, load_detectors
from zoo_pretrained import catalogue
from zoo_pretrained.checkpoint import flatten_variables
from zoo_pretrained.convert import find_source
from zoo_pretrained.metadata import ACCURACIES

TABLE = Path(__file__).with_name("published_weights.json")
TARGET = Path(__file__).parent.parent / "pretrained" / "zoo_pretrained" / "catalogue.json"

ENTRIES = {**MODELS, **load_detectors()}
# Constructors by what publishers call them, in lower case and without a width.
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
    **{name.lower().replace("mobilenetv3", "mobilenet_v3"): name for name in load_detectors()},
}
REFERENCES = {
    "torchvision": "https://docs.pytorch.org/vision/stable/models.html",
    "timm": "https://github.com/huggingface/pytorch-image-models/tree/main/results",
    "keras": "https://keras.io/api/applications/",
}


def main(target: Path = TARGET) -> None:
    """Reads the table and writes the catalogue."""
    entries: dict[str, dict[str, Any]] = {name: {} for name in ENTRIES}
    for name, by_weights in catalogue.entries().items():
        entries[name] |= {w: entry for w, entry in by_weights.items() if "checkpoint" in entry}
    for row in json.loads(TABLE.read_text(encoding="utf-8")):
        model, weights, entry = make_entry(row)
        if weights in entries[model]:
            raise ValueError(f"{TABLE.name} has two rows for {model} {weights}")
        entries[model][weights] = entry
    ranked = {name: dict(sorted(e.items(), key=_rank)) for name, e in entries.items() if e}
    target.write_text(_format(ranked), encoding="utf-8")
    print(f"{target}: {sum(map(len, ranked.values()))} entries for {len(ranked)} models")


def make_entry(row: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """The model, the weights' name and the catalogue's entry of a row of the table.

    Raises:
      ValueError: no model of ours has that name, or it has another number of parameters.
    """
    library = row["source"]
    model, source_name, options, prefix = _find_model(row["model"], library)
    source = find_source(ENTRIES[model].family, source_name)
    arguments = {**source.arguments, **options, **row.get("arguments", {})}
    entry: dict[str, Any] = {
        "arguments": arguments,
        "source": {"from": source_name, **_locate(row)},
        "preprocessing": {
            **source.preprocessing(row["size"]),
            **{k: row[k] for k in ("resize", "interpolation", "mean", "std") if k in row},
        },
    }
    weights = "keras_imagenet" if library == "keras" else prefix + row["weights"]
    if weights == "IMAGENET1K_FEATURES":  # its classifier holds NaN
        entry["head"] = False
    accuracy = {key: row[key] for key in ACCURACIES if key in row}
    entry["labels"] = source.labels
    entry["licence"] = row["licence"]
    entry["accuracy"] = {**accuracy, "reference": REFERENCES[library]}
    entry["parameters"] = count_parameters(model, arguments)
    _check_parameters(model, entry, row)
    return model, weights, entry


def _find_model(name: str, library: str) -> tuple[str, str, dict[str, Any], str]:
    """(constructor, source, further arguments, prefix of its weights' names) by published name."""
    options: dict[str, Any] = {}
    found, prefix, source = name, "", library
    if library == "timm" and found.startswith("tf_"):
        found, prefix, source = found.removeprefix("tf_"), "tf_", "timm_tf"
    # timm's mobilenetv2_140, Keras's mobilenet_v3_large_10
    if width := re.fullmatch(r"(mobilenet_?v\d(?:_large|_small)?)_(\d\d\d?)", found):
        found, percent = width[1], int(width[2].ljust(3, "0"))
        if percent != 100:
            options["width"] = percent / 100
            prefix += f"width{width[2]}_"
    if found.lower() not in NAMES:
        raise ValueError(f"no model of ours is called {name!r}, as {library} calls it")
    return NAMES[found.lower()], source, options, prefix


def _locate(row: dict[str, Any]) -> dict[str, Any]:
    """Where the file is, and what its bytes are verified by."""
    if "hub" in row:  # which has the sha256 of each file
        return {"hub": row["hub"], "file": "model.safetensors"}
    algorithm = "sha256" if "sha256" in row else "md5"
    size = {"size": row["bytes"]} if "bytes" in row else {}
    return {"url": row["url"], algorithm: row[algorithm], **size}


def count_parameters(model: str, arguments: dict[str, Any]) -> int:
    """The number of parameters that inference uses."""
    return _describe(model, tuple(arguments.items())).parameters


@functools.cache
def _describe(model: str, arguments: tuple[tuple[str, Any], ...]) -> zoo.Description:
    return zoo.describe(ENTRIES[model].constructor(**dict(arguments)))


def _check_parameters(model: str, entry: dict[str, Any], row: dict[str, Any]) -> None:
    """Raises ValueError where our model has another number of parameters than the publisher's.

    timm publishes it in units of 10,000, Keras with the running statistics and rounded. Some of
    torchvision's detectors have frozen norms in their backbones, whose scales and biases it does
    not count.
    """
    count = entry["parameters"]
    tolerance = 5001 if row["source"] == "timm" else 0
    published = row.get("params", count)
    if row.get("frozen"):
        published += count_backbone_norms(model, entry["arguments"])
    if abs(count - published) > tolerance:
        raise ValueError(f"{row['model']} has {published} parameters, ours {count}")


def count_backbone_norms(model: str, arguments: dict[str, Any]) -> int:
    """The number of scales and biases in the norms of a detector's backbone."""
    shapes = ENTRIES[model].constructor(**arguments).variable_shapes()["params"]["backbone"]
    return sum(array.size for path, array in flatten_variables(shapes) if "/norm/" in path)


def _rank(item: tuple[str, dict[str, Any]]) -> tuple[bool, bool, bool, float]:
    """Sorts a model's default weights first: embedded ones, then the most accurate.

    Last come those of another width than the constructor's default, and before them those that
    are not for commercial use.
    """
    entry = item[1]
    embedded, other_width = "checkpoint" in entry, "width" in entry.get("arguments", {})
    accuracy = max(entry["accuracy"].get(name, 0.0) for name in ("top1", "box_map"))
    return not embedded, other_width, "NC" in entry["licence"], -accuracy


def _format(entries: dict[str, Any]) -> str:
    """JSON with a short list on one line."""
    text = json.dumps(entries, indent=1, ensure_ascii=False)
    text = re.sub(r"\[\s+([-\d.e,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    return text + "\n"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
