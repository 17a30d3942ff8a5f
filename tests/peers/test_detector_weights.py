"""Weights of torchvision's detectors: the catalogue's entries, and conversion of its files."""

import hashlib
import re

import jax
import numpy as np
import pytest

import zoo
from benchmarks.harness.torchvision_operators import load_operators
from tests.peers.detectors import NAMES, converted, original
from tests.peers.originals import built, torchvision_models, zeros
from tests.pretrained.server import run_server
from tests.zoo.cli.shell import runner
from zoo.models.base import load_detectors
from zoo.models.costs import load_costs
from zoo_pretrained import catalogue
from zoo_pretrained.checkpoint import flatten_variables
from zoo_pretrained.convert import ConversionError, convert, find_source

pytestmark = pytest.mark.peer
DETECTORS = load_detectors()
LITE = "SSDLite320_MobileNetV3_Large"
SMALL_RCNN = "FasterRCNN_MobileNetV3_Large_320_FPN"
# Inference of these looks at fewer proposals where these are unlikely, so that torchvision's count
# of operations depends on the image.
UNCOUNTED = {"FasterRCNN_MobileNetV3_Large_FPN", SMALL_RCNN}


def published_weights(name):
    """torchvision's table of weights of a detector."""
    load_operators()
    torchvision_models()
    from torchvision.models import get_model_weights

    return get_model_weights(NAMES[name])


def build_published(name, weights, monkeypatch):
    """A detector as torchvision makes it for its weights, with frozen norms, without arrays."""
    import torch
    from torchvision.models import detection

    with monkeypatch.context() as patch, torch.device("meta"):
        patch.setattr(type(weights), "get_state_dict", lambda *args, **options: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *args, **options: None)
        return getattr(detection, NAMES[name])(weights=weights)


@pytest.fixture
def shell(monkeypatch, capfd):
    return runner(monkeypatch, capfd)


def save_state(model, path):
    import torch

    torch.save(model if isinstance(model, dict) else model.state_dict(), path)
    return path


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), expected)


@pytest.mark.parametrize("name", NAMES)
def test_entries_are_as_torchvisions_own_tables_say(name):
    table, entries = published_weights(name), catalogue.entries()[name]
    assert set(entries) == {weights.name for weights in table}
    for weights in table:
        entry = entries[weights.name]
        assert entry["source"]["url"] == weights.url
        assert weights.url.endswith(f"-{entry['source']['sha256']}.pth")
        assert entry["accuracy"]["box_map"] == weights.meta["_metrics"]["COCO-val2017"]["box_map"]
        labels = [label.name for label in catalogue.labels(entry["labels"])]
        assert labels == ["background", *weights.meta["categories"][1:]]
        if name not in UNCOUNTED:
            counted = round(load_costs()[name].multiply_adds / 1e9, 3)
            assert counted == weights.meta["_ops"]


@pytest.mark.parametrize("name", NAMES)
def test_names_shapes_epsilons_and_pixels(name, monkeypatch):
    """Of the model that torchvision makes for its weights, whose norms may be frozen."""
    import torch

    (weights,) = published_weights(name)
    from torchvision.ops.misc import FrozenBatchNorm2d

    entry, theirs = (
        catalogue.entries()[name][weights.name],
        build_published(name, weights, monkeypatch),
    )
    ours = DETECTORS[name].constructor(**entry["arguments"])
    shapes, state = ours.variable_shapes(), theirs.state_dict()
    arrays = zeros({key: tuple(value.shape) for key, value in state.items()})
    found = convert(arrays, find_source(DETECTORS[name].family, "torchvision"), shapes)
    assert jax.tree.structure(found) == jax.tree.structure(shapes)
    norms = [
        module
        for module in theirs.modules()
        if isinstance(module, FrozenBatchNorm2d | torch.nn.BatchNorm2d)
    ]
    assert {norm.eps for norm in norms} <= {ours.norm_eps}
    counted = sum(value.numel() for value in theirs.parameters())
    assert counted == weights.meta["num_params"]
    frozen = [norm for norm in norms if isinstance(norm, FrozenBatchNorm2d)]
    assert entry["parameters"] == counted + sum(2 * norm.weight.numel() for norm in frozen)
    preprocessing, transform = entry["preprocessing"], theirs.transform
    assert preprocessing["mean"] == list(transform.image_mean)
    assert preprocessing["std"] == list(transform.image_std)
    assert preprocessing["channels"] == "RGB"
    assert preprocessing["size"] == min(transform.min_size)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_becomes_the_same_detector(name, tmp_path):
    """With as many classes as the file is for, without anybody telling."""
    theirs = original(name, num_classes=5)
    path = save_state(theirs, tmp_path / "file.pth")
    record = zoo.convert(path, name, tmp_path / "mine")
    assert record["arguments"] == {"num_classes": 5}
    assert record["labels"] is None
    found = zoo.trained(name.lower(), weights=tmp_path / "mine")
    assert type(found) is zoo.detection.TrainedDetector
    assert found.model == DETECTORS[name].constructor(num_classes=5)
    assert_same(found.variables, converted(name, theirs, found.model))


@pytest.mark.parametrize(
    "name",
    [n for n in NAMES if n.startswith(("FasterRCNN", "RetinaNet_ResNet50_FPN"))],
)
def test_names_of_older_files(name):
    """torchvision's published files of its first detectors have them; it takes both."""
    theirs, again = original(name, num_classes=3), original(name, num_classes=3)
    state = {old_name(key): value.clone() for key, value in theirs.state_dict().items()}
    if not name.endswith("_V2"):  # whose names are of one kind
        assert state.keys() != theirs.state_dict().keys()
        for value in again.state_dict().values():
            value.zero_()
        again.load_state_dict(state)  # so that the names are those that it takes
        for key, value in again.state_dict().items():
            np.testing.assert_array_equal(value, theirs.state_dict()[key])
    model = DETECTORS[name].constructor(num_classes=3)
    assert_same(converted(name, state, model), converted(name, theirs, model))


def old_name(key):
    """What a layer without a norm was called before norms could follow it."""
    key = re.sub(r"((?:inner|layer)_blocks\.\d)\.0\.(weight|bias)$", r"\1.\2", key)
    key = re.sub(r"(rpn\.head\.conv)\.0\.0\.", r"\1.", key)
    if match := re.fullmatch(r"(head\.\w+\.conv)\.(\d)\.0\.(weight|bias)", key):
        key = f"{match[1]}.{2 * int(match[2])}.{match[3]}"
    return key


def test_published_weights_are_fetched_and_converted(tmp_path, monkeypatch):
    """From a local server, as torchvision's would be."""
    theirs = original(LITE)
    body = save_state(theirs, tmp_path / "file.pth").read_bytes()
    ((weights, entry),) = catalogue.entries()[LITE].items()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    with run_server() as server:
        url = server.add("/models/lite.pth", body)
        source = {**entry["source"], "url": url, "sha256": hashlib.sha256(body).hexdigest()[:8]}
        entries = {LITE: {weights: {**entry, "source": source}}}
        monkeypatch.setattr(catalogue, "entries", lambda: entries)
        found = zoo.trained(zoo.detection.SSDLite320_MobileNetV3_Large)
    assert_same(found.variables, converted(LITE, theirs, found.model))
    assert (found.info.weights, found.info.source) == (weights, url)
    assert (found.info.box_map, found.info.top1) == (21.3, None)
    assert (found.info.licence, len(found.labels)) == ("BSD-3-Clause", 91)
    assert found.labels[17] == "cat"


@pytest.mark.parametrize("name", [LITE, SMALL_RCNN, "SSD300_VGG16"])
def test_exported_weights_are_torchvisions_again(name, tmp_path):
    """By the names of a file for another number of classes."""
    import torch
    from safetensors.torch import load_file

    theirs = original(name, num_classes=3)
    path = save_state(theirs, tmp_path / "file.pth")
    zoo.convert(path, name, tmp_path / "mine")
    like = save_state(original(name, num_classes=7), tmp_path / "like.pth")
    found = zoo.trained(name, weights=tmp_path / "mine")
    zoo.export(found, tmp_path / "out.safetensors", like=like)
    again = original(name, num_classes=3)
    for value in again.state_dict().values():
        value.zero_()
    again.load_state_dict(load_file(tmp_path / "out.safetensors"))
    for key, value in again.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, theirs.state_dict()[key]), key


class TestFilesOfOtherModels:
    @pytest.mark.parametrize(
        ("file", "name", "hints"),
        [
            ("FasterRCNN_ResNet50_FPN_V2", "FasterRCNN_ResNet50_FPN",
             ("these look like FasterRCNN_ResNet50_FPN_V2's",
              "try model='FasterRCNN_ResNet50_FPN_V2'")),
            ("FCOS_ResNet50_FPN", "RetinaNet_ResNet50_FPN",
             ("these look like FCOS_ResNet50_FPN's", "try model='FCOS_ResNet50_FPN'")),
            (LITE, "SSD300_VGG16", (f"these look like {LITE}'s", f"try model='{LITE}'")),
        ],
    )  # fmt: skip
    def test_of_another_detector(self, file, name, hints, tmp_path):
        path = save_state(original(file, num_classes=3), tmp_path / "file.pth")
        with pytest.raises(ConversionError, match=f"do not fit {name}") as raised:
            zoo.convert(path, name, tmp_path / "mine")
        assert raised.value.hints == hints
        zoo.convert(path, file, tmp_path / "mine")  # it is true

    def test_of_a_classifier(self, tmp_path):
        path = save_state(built("torchvision", "resnet18"), tmp_path / "file.pth")
        with pytest.raises(ConversionError) as raised:
            zoo.convert(path, "FCOS_ResNet50_FPN", tmp_path / "mine")
        assert raised.value.hints == ("these look like ResNet18's", "try model='ResNet18'")

    def test_a_classifier_is_found_inside(self, tmp_path):
        """The backbone of a detector, as torchvision itself does not give it."""
        theirs = original("RetinaNet_ResNet50_FPN", num_classes=3)
        path = save_state(theirs, tmp_path / "file.pth")
        with pytest.raises(ConversionError) as raised:
            zoo.convert(path, "ResNet50", tmp_path / "mine")
        assert raised.value.hints[-1] == "try inside='backbone.body', head=False"
        zoo.convert(path, "ResNet50", tmp_path / "mine", inside="backbone.body", head=False)
        found = dict(
            flatten_variables(zoo.trained("ResNet50", weights=tmp_path / "mine").variables)
        )
        model = DETECTORS["RetinaNet_ResNet50_FPN"].constructor(num_classes=3)
        expected = dict(flatten_variables(converted("RetinaNet_ResNet50_FPN", theirs, model)))
        for path, array in found.items():
            inside = path.replace("/", "/backbone/", 1)
            np.testing.assert_array_equal(array, expected[inside])


def test_for_images_of_another_size(tmp_path):
    path = save_state(original(LITE, num_classes=3), tmp_path / "file.pth")
    record = zoo.convert(path, LITE, tmp_path / "mine", arguments={"image_size": 384})
    assert record["preprocessing"]["size"] == 384
    assert zoo.trained(LITE, weights=tmp_path / "mine").model.image_size == 384


def test_on_the_shell(tmp_path, shell):
    path = save_state(original(LITE), tmp_path / "file.pth")
    code, out, err = shell("convert", path, "--model", LITE.lower(), "--out", tmp_path / "mine")
    assert (code, out, err) == (0, f"{tmp_path / 'mine'}: {LITE}(num_classes=91)\n", "")
    assert zoo.trained(LITE, weights=tmp_path / "mine").labels[1] == "person"
    code, _, err = shell("convert", path, "--model", "SSD300_VGG16", "--out", tmp_path / "no")
    assert code == 1
    assert f"try --model {LITE}" in err


def test_without_a_head_then_for_other_classes(tmp_path):
    path = save_state(original(SMALL_RCNN, num_classes=5), tmp_path / "file.pth")
    zoo.convert(path, SMALL_RCNN, tmp_path / "mine", head=False)
    found = zoo.trained(SMALL_RCNN, weights=tmp_path / "mine")
    assert not found.info.head
    assert not {"class_head", "box_head"} & found.variables["params"].keys()
    adapted = zoo.adapt(found, labels=["background", "cat"])
    assert adapted.variables["params"]["class_head"]["kernel"].shape == (1024, 2)
    assert adapted.variables["params"]["box_head"]["kernel"].shape == (1024, 8)
    with pytest.raises(ConversionError, match="have no place"):
        zoo.convert(path, SMALL_RCNN, tmp_path / "other", num_classes=4)
