"""Weights go back under PyTorch's names, bit for bit."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from tests.zoo.checkpoints import upstream
from tests.zoo.checkpoints.upstream import MODEL
from zoo_pretrained import read, restore
from zoo_pretrained.convert import ConversionError


def test_an_export_has_the_names_and_the_arrays_that_were_converted(tmp_path):
    state = upstream.state(num_classes=7)
    save_file(state, tmp_path / "file")
    save_file(upstream.state(seed=1), tmp_path / "other")  # of a thousand classes
    zoo.convert(tmp_path / "file", MODEL, tmp_path / "mine")
    checkpoint = restore(tmp_path / "mine")
    zoo.export(checkpoint, tmp_path / "back.safetensors", like=tmp_path / "other")
    back = read.arrays(tmp_path / "back.safetensors")
    assert back.keys() == state.keys()
    for name, array in state.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)
    zoo.convert(tmp_path / "back.safetensors", MODEL, tmp_path / "again")
    upstream.assert_same_variables(
        zoo.trained(MODEL, weights=tmp_path / "again"), tmp_path / "mine"
    )


def test_weights_for_grey_images_go_there_and_back(tmp_path):
    """As timm's with `in_chans=1`; the template is for photos."""
    state = upstream.state(num_classes=7)
    state["features.0.weight"] = state["features.0.weight"][:, :1].copy()
    save_file(state, tmp_path / "file")
    save_file(upstream.state(seed=1), tmp_path / "photos")
    zoo.convert(tmp_path / "file", MODEL, tmp_path / "grey")
    grey = zoo.trained(MODEL, weights=tmp_path / "grey")
    assert (grey.channels, grey.info.preprocessing.channels) == (1, "grey")
    zoo.export(grey, tmp_path / "back.safetensors", like=tmp_path / "photos")
    back = read.arrays(tmp_path / "back.safetensors")
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array)


def test_kernels_for_convolution_are_not_written_as_pytorchs(tmp_path):
    save_file(upstream.state(num_classes=7), tmp_path / "file")
    zoo.convert(tmp_path / "file", MODEL, tmp_path / "mine")
    turned = restore(tmp_path / "mine", kernel_convention="convolution")
    with pytest.raises(ConversionError, match="kernels are for cross-correlation"):
        zoo.export(turned, tmp_path / "back.safetensors", like=tmp_path / "file")


def test_a_template_of_another_model_is_told(tmp_path):
    state = upstream.state(num_classes=7)
    save_file(state, tmp_path / "file")
    zoo.convert(tmp_path / "file", MODEL, tmp_path / "mine")
    del state["features.3.squeeze.bias"]
    save_file({**state, "extra.weight": np.zeros((2, 2), np.float32)}, tmp_path / "other")
    with pytest.raises(ConversionError, match=r"like='.*other' does not have the arrays") as raised:
        zoo.export(restore(tmp_path / "mine"), tmp_path / "back", like=tmp_path / "other")
    assert [mismatch.name for mismatch in raised.value.mismatches] == [
        "extra.weight",
        "params/stage1/block1/squeeze/bias",
    ]
    assert not (tmp_path / "back").exists()
