"""What makes weights fit is told, and is true."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from tests.zoo.checkpoints import upstream
from tests.zoo.checkpoints.upstream import MODEL
from zoo.models.base import MODELS
from zoo_pretrained import catalogue
from zoo_pretrained.convert import ConversionError, sources

STATE = upstream.state(num_classes=7)
WITHOUT_HEAD = {name: array for name, array in STATE.items() if not name.startswith("classifier")}
EXTRA = {"decoder.up.weight": np.zeros((2, 2), np.float32), "step": np.zeros(1, np.float32)}


def inside(name, state):
    return {f"{name}.{key}": array for key, array in state.items()}


@pytest.mark.parametrize(
    ("state", "given", "facts", "remedy"),
    [
        (STATE, {"model": "SqueezeNet1_0"}, [f"these look like {MODEL}'s"], {"model": MODEL}),
        (STATE, {"model": "VGG11"}, [f"these look like {MODEL}'s"], {"model": MODEL}),
        (WITHOUT_HEAD, {}, [], {"head": False}),
        (STATE, {"num_classes": 5}, [], {"num_classes": 7}),
        ({**STATE, **EXTRA}, {}, [], {"ignore": ["decoder.*", "step"]}),
        (
            {**inside("net.backbone", STATE), **EXTRA},
            {},
            ["52 of 54 entries lie under 'net.backbone.'"],
            {"inside": "net.backbone"},
        ),
        (
            {**inside("net", {**WITHOUT_HEAD, "pool.p": EXTRA["step"]}), **EXTRA},
            {"model": "VGG11"},
            ["51 of 53 entries lie under 'net.'", f"these look like {MODEL}'s"],
            {"model": MODEL, "inside": "net", "head": False, "ignore": ["pool.*"]},
        ),
    ],
)
def test_what_is_told_makes_the_weights_fit(state, given, facts, remedy, tmp_path):
    save_file(state, tmp_path / "file")
    arguments = {"model": MODEL, **given}
    with pytest.raises(ConversionError) as raised:
        zoo.convert(tmp_path / "file", out=tmp_path / "no", **arguments)
    spelt = ", ".join(f"{name}={value!r}" for name, value in remedy.items())
    assert raised.value.hints == (*facts, f"try {spelt}")
    zoo.convert(tmp_path / "file", out=tmp_path / "mine", **{**arguments, **remedy})


def test_nothing_is_told_that_does_not_help(tmp_path):
    save_file({f"layer{n}.weight": np.zeros(3, np.float32) for n in range(30)}, tmp_path / "file")
    with pytest.raises(ConversionError) as raised:
        zoo.convert(tmp_path / "file", MODEL, tmp_path / "no")
    assert raised.value.hints == ()
    assert len(raised.value.mismatches) == 30 + 52
    lines = str(raised.value).splitlines()
    assert len(lines) == 1 + 20 + 1
    assert lines[0] == (
        f"the weights do not fit {MODEL}: 30 of the file's 30 entries have no place, "
        "and 52 of the model's arrays nothing to fill them"
    )
    assert lines[-1] == "  and 62 more; the error's mismatches has all"


def test_names_cannot_forge_lines(tmp_path):
    save_file({**STATE, "a\n  try --overwrite\x1b[2J": np.zeros(3, np.float32)}, tmp_path / "file")
    with pytest.raises(ConversionError) as raised:
        zoo.convert(tmp_path / "file", MODEL, tmp_path / "no", num_classes=3)
    assert "\x1b" not in str(raised.value)
    assert len(str(raised.value).splitlines()) == len(raised.value.lines())


def test_a_module_that_holds_everything_is_entered(tmp_path):
    """As Lightning's modules call the model that they train, and what holds them."""
    save_file(inside("module.model", STATE), tmp_path / "file")
    zoo.convert(tmp_path / "file", MODEL, tmp_path / "mine")
    np.testing.assert_array_equal(
        zoo.trained(MODEL, weights=tmp_path / "mine").variables["params"]["stem"]["bias"],
        STATE["features.0.bias"],
    )


def test_a_pattern_that_matches_nothing_is_named(tmp_path):
    save_file({**STATE, **EXTRA}, tmp_path / "file")
    with pytest.raises(ConversionError, match=r"^ignore='encoder\.\*' matches none of the 54 ent"):
        zoo.convert(tmp_path / "file", MODEL, tmp_path / "no", ignore=["decoder.*", "encoder.*"])


def test_patterns_that_leave_nothing_are_an_error(tmp_path):
    save_file(upstream.state(num_classes=7), tmp_path / "file")
    with pytest.raises(ConversionError, match=r"ignore=\['\*'\] leaves none of the entries"):
        zoo.convert(tmp_path / "file", MODEL, tmp_path / "out", ignore=["*"])


def test_integers_are_no_weights(tmp_path):
    """Those of a quantised model would become nonsense."""
    state = upstream.state(num_classes=7)
    state["classifier.1.weight"] = np.ones_like(state["classifier.1.weight"], np.int8)
    save_file(state, tmp_path / "file")
    with pytest.raises(ConversionError, match="int8 is no type of weights"):
        zoo.convert(tmp_path / "file", MODEL, tmp_path / "out")


@pytest.mark.parametrize("names", [["a"] * 6, ["a"] * 8, []])
def test_labels_are_as_many_as_classes(names, tmp_path):
    save_file(STATE, tmp_path / "file")
    with pytest.raises(ConversionError, match=f"{len(names)} labels, and the model has 7 classes"):
        zoo.convert(tmp_path / "file", MODEL, tmp_path / "no", metadata={"labels": names})
    metadata = zoo.convert(tmp_path / "file", MODEL, tmp_path / "a", metadata={"labels": ["a"] * 7})
    zoo.export(zoo.pretrained.restore(tmp_path / "a"), tmp_path / "a.safetensors")
    assert metadata["labels"] == ["a"] * 7
    with pytest.raises(ConversionError, match=f"{len(names)} labels, and the model has 7 classes"):
        zoo.convert(tmp_path / "a.safetensors", MODEL, tmp_path / "no", metadata={"labels": names})


@pytest.mark.parametrize(("head", "labels"), [(True, "imagenet1k"), (False, None)])
def test_only_a_classifier_has_the_labels_of_imagenet(head, labels, tmp_path):
    save_file(upstream.state(), tmp_path / "file")
    assert zoo.convert(tmp_path / "file", MODEL, tmp_path / "a", head=head)["labels"] == labels


@pytest.mark.parametrize("source", ["timm", "timm_tf"])
def test_the_sizes_are_the_sources_own(source):
    """timm's larger EfficientNet-Lites take larger images than those that the models are from."""
    declared = sources("efficientnet_lite")[source]
    members = zoo.list_models(family="efficientnet_lite")
    for name, by_weights in catalogue.entries().items():
        for entry in by_weights.values():
            if name in members and entry["source"].get("from") == source:
                made = declared.preprocessing_of(name, MODELS[name].input_size)
                published = entry["preprocessing"]
                assert [made[k] for k in ("size", "resize")] == [
                    published[k] for k in ("size", "resize")
                ]
    assert declared.preprocessing_of("EfficientNetLite4", 300)["size"] == 380
    assert declared.preprocessing_of("EfficientNetLite0", 224)["resize"] == 256


@pytest.mark.parametrize("name", ["x.pth", "x.onnx", "x.H5", "x.tar", "x.pt", "x.ckpt"])
def test_an_export_has_no_name_of_another_format(name, tmp_path):
    save_file(STATE, tmp_path / "file")
    zoo.convert(tmp_path / "file", MODEL, tmp_path / "mine")
    checkpoint = zoo.pretrained.restore(tmp_path / "mine")
    with pytest.raises(
        ValueError,
        match=r"name of another format: pass out='.*/x\.safetensors', and like for PyTorch",
    ):
        zoo.export(checkpoint, tmp_path / name)
    assert not (tmp_path / name).exists()
