"""Keras's files, written with h5py as Keras writes them: names, order and what is skipped."""

import json
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.pretrained.read.hostile import assert_refused
from zoo_pretrained import read

TEXT = h5py.string_dtype()
rng = np.random.default_rng(0)
KERNEL, BIAS = rng.normal(size=(3, 3, 4, 8)).astype(np.float32), np.zeros(8, np.float32)
DEPTHWISE, SCALE = rng.normal(size=(3, 3, 8, 1)).astype(np.float32), np.ones(8, np.float32)


def write_legacy(file, layers, *, text=TEXT, group="/", limit=None, **attributes):
    """Writes {layer: {name of a weight: array}} as in an .h5."""
    root = file.require_group(group)
    write_list(root, "layer_names", list(layers), text, limit)
    for name, weights in layers.items():
        held = root.require_group(name)
        write_list(held, "weight_names", list(weights), text, limit)
        for weight, array in weights.items():
            held[weight] = array
    file.attrs.update(attributes)


def write_list(group, name, values, text, limit):
    if limit is None:
        group.attrs.create(name, np.array(values, object), dtype=text)
        return
    for number, start in enumerate(range(0, len(values), limit)):
        part = np.array([value.encode() for value in values[start : start + limit]])
        group.attrs[f"{name}{number}"] = part


def write_variables(file, path, name, *arrays):
    """Writes a layer as Keras 3 does: its name, and variables by number."""
    held = file.require_group(f"{path}/vars")
    if name:
        held.attrs["name"] = name
    for number, array in enumerate(arrays):
        held[str(number)] = array


def shapes(found):
    return {name: array.shape for name, array in found.items()}


@pytest.mark.parametrize("text", [TEXT, "S40"])
@pytest.mark.parametrize("block", [0, 512])
@pytest.mark.parametrize("form", ["earliest", "latest"])
def test_reads_h5_of_keras_2(tmp_path, text, block, form):
    """At the root of a file of weights, or in one that has the model too; all names of Keras 2."""
    layers = {
        "input_1": {},
        "conv1_conv": {"conv1_conv/kernel:0": KERNEL, "conv1_conv/bias:0": BIAS},
        "conv1_bn": {
            "conv1_bn/gamma:0": SCALE,
            "conv1_bn/beta:0": BIAS,
            "conv1_bn/moving_mean:0": BIAS,
            "conv1_bn/moving_variance:0": SCALE,
        },
        "conv/bn": {"conv/bn/gamma:0": SCALE},
        "dw": {"dw/depthwise_kernel:0": DEPTHWISE},
        "narrow": {"narrow/kernel:0": DEPTHWISE},
        "sep": {"sep/depthwise_kernel:0": DEPTHWISE, "sep/pointwise_kernel:0": KERNEL[:1, :1]},
        "dense_1": {"dense_1_1/kernel:0": KERNEL[0, 0], "dense_1_1/bias:0": BIAS},
        "again": {"again/kernel_1:0": KERNEL[0, 0]},
    }
    for group in ("/", "model_weights"):
        path = tmp_path / group.strip("/") / "x.h5" if group == "/" else tmp_path / "full.h5"
        with h5py.File(path, "w", userblock_size=block, libver=form) as file:
            write_legacy(file, layers, text=text, group=group)
            file["optimizer_weights/adam/kernel"] = KERNEL
        assert read.detect_format(path) == "keras"
        assert shapes(read.arrays(path)) == {
            "conv1_conv/kernel": (3, 3, 4, 8),
            "conv1_conv/bias": (8,),
            "conv1_bn/gamma": (8,),
            "conv1_bn/beta": (8,),
            "conv1_bn/moving_mean": (8,),
            "conv1_bn/moving_variance": (8,),
            "conv/bn/gamma": (8,),
            "dw/depthwise_kernel": (3, 3, 8, 1),
            "narrow/kernel": (3, 3, 8, 1),
            "sep/depthwise_kernel": (3, 3, 8, 1),
            "sep/pointwise_kernel": (1, 1, 4, 8),
            "dense_1/kernel": (4, 8),
            "dense_1/bias": (8,),
            "again/kernel": (4, 8),
        }
        np.testing.assert_array_equal(read.arrays(path)["conv1_conv/kernel"], KERNEL)


def test_reads_h5_of_keras_1(tmp_path):
    """As the VGG16 of Keras Applications."""
    weights = {"block1_conv1_W_1:0": KERNEL, "block1_conv1_b_1:0": BIAS}
    norm = {"n_gamma:0": SCALE, "n_running_mean:0": BIAS, "n_running_std:0": SCALE}
    with h5py.File(tmp_path / "x", "w") as file:
        write_legacy(file, {"block1_conv1": weights, "n": norm}, text="S20")
    assert list(read.arrays(tmp_path / "x")) == [
        "block1_conv1/kernel",
        "block1_conv1/bias",
        "n/gamma",
        "n/moving_mean",
        "n/moving_variance",
    ]


def test_reads_attribute_lists_in_several_parts(tmp_path):
    layers = {f"layer{n}": {f"layer{n}/kernel:0": KERNEL[0]} for n in range(25)}
    with h5py.File(tmp_path / "x", "w") as file:
        write_legacy(file, layers, limit=10)
    assert list(read.arrays(tmp_path / "x")) == [f"layer{n}/kernel" for n in range(25)]
    with h5py.File(tmp_path / "later", "w", libver="latest") as file:
        write_legacy(file, layers, limit=1)  # more attributes than HDF5 keeps in an object's header
    assert_refused(tmp_path / "later", "so many attributes")


@pytest.mark.parametrize("version", ["2.15.0", "3.15.1"])
def test_reads_nested_models(tmp_path, version):
    prefix = "resnet50/" if version[0] == "3" else ""
    inner = {f"{prefix}conv1_conv/kernel": KERNEL, f"{prefix}conv1_bn/beta": BIAS}
    path = tmp_path / "x"
    with h5py.File(path, "w") as file:
        layers = {"resnet50": inner, "head": {"head/kernel": KERNEL[0, 0]}}
        write_legacy(file, layers, keras_version=version)
    assert list(read.arrays(path)) == [
        "resnet50/conv1_conv/kernel",
        "resnet50/conv1_bn/beta",
        "head/kernel",
    ]
    assert list(read.arrays(path, inside="resnet50")) == ["conv1_conv/kernel", "conv1_bn/beta"]
    with pytest.raises(read.ReadError, match="at its top are resnet50, head"):
        read.arrays(path, inside="resnet101")


def test_recognises_depthwise_kernels_of_keras_3(tmp_path):
    """By their class, or without one by their shape, unless a bias has another."""
    layers = {
        "dw": {"dw/kernel": DEPTHWISE},
        "biased": {"biased/kernel": DEPTHWISE, "biased/bias": BIAS},
        "narrow": {"narrow/kernel": DEPTHWISE, "narrow/bias": BIAS[:1]},
        "conv": {"conv/kernel": KERNEL},
    }
    kinds = {"dw": "DepthwiseConv2D", "biased": "DepthwiseConv2D"}
    settings = [
        {"class_name": kinds.get(name, "Conv2D"), "config": {"name": name}} for name in layers
    ]
    model = json.dumps({"class_name": "Functional", "config": {"layers": settings}})
    for number, attributes in enumerate(({}, {"model_config": model})):
        with h5py.File(tmp_path / f"{number}", "w") as file:
            write_legacy(file, layers, keras_version="3.0.0", **attributes)
        assert list(read.arrays(tmp_path / f"{number}")) == [
            "dw/depthwise_kernel",
            "biased/depthwise_kernel",
            "biased/bias",
            "narrow/kernel",
            "narrow/bias",
            "conv/kernel",
        ]


def test_reads_weights_of_keras_3_without_a_configuration(tmp_path):
    """Layers and attributes have their names, in natural order; the optimizer is skipped."""
    with h5py.File(tmp_path / "x", "w") as file:
        write_variables(file, "layers/conv2d", "first", KERNEL, BIAS)
        write_variables(file, "layers/conv2d_10", "third", KERNEL)
        write_variables(file, "layers/conv2d_2", "second", KERNEL)
        write_variables(file, "layers/batch_normalization", "bn", SCALE, BIAS, BIAS, SCALE)
        write_variables(file, "layers/batch_normalization_1", "no_scale", BIAS, BIAS, SCALE)
        write_variables(file, "layers/depthwise_conv2d", "dw", DEPTHWISE)
        write_variables(file, "layers/separable_conv2d", "sep", DEPTHWISE, KERNEL[:1, :1], BIAS)
        write_variables(file, "layers/dropout", "dropout")
        write_variables(file, "layers/dropout/seed_generator", "seed_generator", np.uint32([1, 2]))
        write_variables(file, "layers/functional", "vgg16")
        write_variables(file, "layers/functional/layers/dense", "fc1", KERNEL[0, 0], BIAS)
        write_variables(file, "head", "dense_7", KERNEL[0, 0], BIAS)
        write_variables(file, "blocks/conv2d", None, KERNEL)
        write_variables(file, "blocks/conv2d_1", "named", KERNEL)
        write_variables(file, "optimizer", "adam", np.array(3))
        write_variables(file, "", "model")
    assert list(read.arrays(tmp_path / "x")) == [
        "blocks/conv2d/kernel",
        "blocks/named/kernel",
        "head/kernel",
        "head/bias",
        "bn/gamma",
        "bn/beta",
        "bn/moving_mean",
        "bn/moving_variance",
        "no_scale/beta",
        "no_scale/moving_mean",
        "no_scale/moving_variance",
        "first/kernel",
        "first/bias",
        "second/kernel",
        "third/kernel",
        "dw/depthwise_kernel",
        "vgg16/fc1/kernel",
        "vgg16/fc1/bias",
        "sep/depthwise_kernel",
        "sep/pointwise_kernel",
        "sep/bias",
    ]


def write_dot_keras(path, settings, compression=zipfile.ZIP_STORED, **options):
    """A .keras with a norm without gamma, one without beta, and a nested model."""
    inner = path.with_suffix(".inner")
    with h5py.File(inner, "w") as file:
        write_variables(file, "layers/batch_normalization", None, BIAS, BIAS, SCALE)
        write_variables(file, "layers/batch_normalization_1", None, SCALE, BIAS, SCALE)
        write_variables(file, "layers/functional/layers/conv2d", None, KERNEL)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(settings))
        archive.write(inner, "model.weights.h5")
    return path


SETTINGS = {
    "class_name": "Functional",
    "config": {
        "name": "outer",
        "layers": [
            {
                "class_name": "Functional",
                "config": {
                    "name": "backbone",
                    "layers": [{"class_name": "Conv2D", "config": {"name": "stem"}}],
                },
            },
            {"class_name": "BatchNormalization", "config": {"name": "n1", "scale": False}},
            {"class_name": "Lambda", "config": {"name": "evil", "function": "__import__('os')"}},
            {"class_name": "BatchNormalization", "config": {"name": "n2", "center": False}},
        ],
    },
}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_configuration_gives_names_order_and_missing_variables(tmp_path, compression):
    path = write_dot_keras(tmp_path / "x.keras", SETTINGS, compression)
    found = read.arrays(path)
    assert list(found) == [
        "backbone/stem/kernel",
        "n1/beta",
        "n1/moving_mean",
        "n1/moving_variance",
        "n2/gamma",
        "n2/moving_mean",
        "n2/moving_variance",
    ]
    np.testing.assert_array_equal(found["backbone/stem/kernel"], KERNEL)
    assert read.detect_format(path) == "keras"
    array = found["n2/gamma"]
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    assert isinstance(array, np.memmap) == (compression == zipfile.ZIP_STORED)


def test_refuses_configurations_that_do_not_fit(tmp_path):
    whole = {"class_name": "BatchNormalization", "config": {"name": "n"}}
    wrong = [
        {"config": {"layers": [whole]}},
        {"config": {"layers": 3}},
        {"config": {"layers": [3]}},
        {"config": {"layers": [{"config": {"name": "n"}}]}},
        [],
        None,
    ]
    for number, settings in enumerate(wrong):
        assert_refused(write_dot_keras(tmp_path / f"{number}.keras", settings))


def test_reads_chunks_byte_orders_and_dtypes(tmp_path):
    arrays = {
        "big": KERNEL.astype(">f4"),
        "half": KERNEL.astype(np.float16),
        "double": KERNEL.astype(np.float64),
        "whole": np.arange(8),
        "flags": np.array([True, False]),
    }
    packed = {
        "plain": {"chunks": (2, 3, 3, 5)},
        "gzip": {"chunks": (2, 3, 3, 5), "compression": "gzip"},
        "all": {
            "chunks": (2, 3, 3, 5),
            "compression": "gzip",
            "shuffle": True,
            "fletcher32": True,
        },
    }
    with h5py.File(tmp_path / "x", "w") as file:
        for name, array in arrays.items():
            file[f"{name}/kernel"] = array
        for name, options in packed.items():
            file.create_dataset(f"{name}/kernel", data=KERNEL, **options)
        brain = file.create_dataset("brain/kernel", data=KERNEL.astype(ml_dtypes.bfloat16))
        brain.attrs["dtype"] = "bfloat16"
        file["none/kernel"] = np.zeros((0, 3), np.float32)
        file["text/kernel"] = "no numbers"
    found = read.arrays(tmp_path / "x")
    for name, array in arrays.items():
        assert found[f"{name}/kernel"].dtype == array.dtype
        np.testing.assert_array_equal(found[f"{name}/kernel"], array)
    for name in packed:
        np.testing.assert_array_equal(found[f"{name}/kernel"], KERNEL)
    np.testing.assert_array_equal(found["brain/kernel"], KERNEL.astype(ml_dtypes.bfloat16))
    assert found["none/kernel"].shape == (0, 3)
    assert "text/kernel" not in found
    assert not any(array.flags.writeable for array in found.values())


@pytest.mark.parametrize(("backend", "flipped"), [("theano", True), ("tensorflow", False)])
@pytest.mark.parametrize("group", ["/", "model_weights"])
def test_flips_kernels_of_theano(tmp_path, backend, flipped, group):
    """Keras on Theano computes convolution; dense layers are not affected."""
    dense = np.arange(12, dtype=np.float32).reshape(3, 4)
    layers = {"conv": {"conv/kernel:0": KERNEL, "conv/bias:0": BIAS}, "fc": {"fc/kernel:0": dense}}
    with h5py.File(tmp_path / "old.h5", "w") as file:
        write_legacy(file, layers, group=group)
        file[group].attrs["backend"] = backend.encode()
    found = read.arrays(tmp_path / "old.h5")
    np.testing.assert_array_equal(found["conv/kernel"], KERNEL[::-1, ::-1] if flipped else KERNEL)
    np.testing.assert_array_equal(found["fc/kernel"], dense)


def with_input(key, shape, place="layer"):
    """The configuration of a model whose images have a shape, by the key of a version of Keras."""
    layers = [{"class_name": "InputLayer", "config": {"name": "input", key: shape}}]
    config = {"layers": layers, key: None} if place == "layer" else {"layers": [], key: shape}
    return {"class_name": "Functional", "config": config}


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        (with_input("batch_shape", [None, 96, 96, 3]), 96),
        (with_input("batch_input_shape", [None, 160, 160, 3]), 160),
        (with_input("build_input_shape", [None, 192, 192, 3], "model"), 192),
        (with_input("batch_shape", [None, None, None, 3]), None),
        (with_input("batch_shape", [None, 96, 128, 3]), None),
        (with_input("batch_shape", [None, 96]), None),
        (with_input("batch_shape", [None, -96, -96, 3]), None),
        (with_input("batch_shape", "x" * 4), None),
        (SETTINGS, None),
    ],
)
def test_the_size_of_a_models_images(tmp_path, settings, size):
    assert read.input_size(write_dot_keras(tmp_path / "x.keras", settings)) == size
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write_legacy(file, {"conv1": {"kernel:0": KERNEL}}, group="model_weights")
        file.attrs["model_config"] = json.dumps(settings)
    assert read.input_size(tmp_path / "x.h5") == size


def test_other_files_do_not_say_the_size(tmp_path):
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        write_legacy(file, {"conv1": {"kernel:0": KERNEL}})
    save_file({"a": KERNEL}, tmp_path / "a.safetensors")
    for name in ("weights.h5", "a.safetensors"):
        assert read.input_size(tmp_path / name) is None
