"""Networks of PyTorch's example `fast_neural_style`; what they compute is tested by a peer."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.zoo.style.small import TRANSFORMER_LAYERS, transformer_state
from zoo.style.convert import convert
from zoo.style.network import StyleNetwork
from zoo_pretrained.convert import ConversionError
from zoo_pretrained.read import ReadError

STATE = transformer_state()


def convert_arrays(arrays, folder, name=None):
    arrays = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    save_file(arrays, folder / "wave.safetensors")
    return convert(folder / "wave.safetensors", name)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    return convert_arrays(STATE, tmp_path_factory.mktemp("wave"))


def test_it_is_one_style_of_the_same_width(converted):
    assert converted.network == StyleNetwork(styles=1, width=1 / 8, upsampling="nearest")


@pytest.mark.parametrize(("name", "names"), [(None, ("wave",)), ("sea", ("sea",))])
def test_it_is_called_as_the_file_or_as_told(tmp_path, name, names):
    assert convert_arrays(STATE, tmp_path, name).names == names


def test_kernels_have_outputs_last(converted):
    kernel = converted.variables["params"]["block3"]["conv2"]["kernel"]
    assert kernel.shape == (3, 3, 16, 16)
    for y, x, i, o in [(0, 1, 2, 3), (2, 0, 15, 7)]:
        assert kernel[y, x, i, o] == STATE["res3.conv2.conv2d.weight"][o, i, y, x]


def test_pixels_are_from_0_to_1_in_place_of_255(converted):
    params = converted.variables["params"]
    first, last = STATE["conv1.conv2d.weight"], STATE["deconv3.conv2d.weight"]
    np.testing.assert_allclose(params["down1"]["kernel"][1, 2, 0, 3], 255 * first[3, 0, 1, 2])
    np.testing.assert_allclose(
        params["out"]["kernel"][1, 2, 0, 2], last[2, 0, 1, 2] / 255, rtol=1e-6
    )
    np.testing.assert_allclose(params["out"]["bias"], STATE["deconv3.conv2d.bias"] / 255, rtol=1e-6)


def test_norms_are_those_of_the_style(converted):
    norm = converted.variables["params"]["up2"]["norm"]
    np.testing.assert_array_equal(norm["scale"], STATE["in5.weight"][None])
    np.testing.assert_array_equal(norm["shift"], STATE["in5.bias"][None])


def test_running_statistics_of_its_first_versions_are_dropped(tmp_path):
    statistics = {
        f"{norm}.running_{kind}": np.ones(features, np.float32)
        for _, norm, features, _, _ in TRANSFORMER_LAYERS
        if norm is not None
        for kind in ("mean", "var")
    }
    assert convert_arrays({**STATE, **statistics}, tmp_path).names == ("wave",)


@pytest.mark.parametrize("lacking", ["in4.bias", "res5.conv1.conv2d.weight", "deconv3.conv2d.bias"])
def test_what_lacks_is_named(tmp_path, lacking):
    arrays = {name: array for name, array in STATE.items() if name != lacking}
    with pytest.raises(ConversionError, match=f"fast_neural_style: it lacks '{lacking}'"):
        convert_arrays(arrays, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv2.conv2d.weight": np.zeros((8, 4, 5, 5), np.float32)}, "down2/kernel has shape"),
        ({"res1.in2.bias": np.zeros(8, np.float32)}, "block1/conv2/norm/shift has shape"),
        ({"deconv1.conv2d.weight": np.zeros((8, 16), np.float32)}, "axes don't match array"),
        ({"in1.weight": np.zeros(300, np.float32)}, "width must be a number from 0.03125 to 8"),
    ],
)
def test_another_shape_is_an_error(tmp_path, change, message):
    with pytest.raises(ConversionError, match=f"wave.safetensors is no network of .*{message}"):
        convert_arrays({**STATE, **change}, tmp_path)


def test_a_network_of_another_kind_is_an_error(tmp_path):
    with pytest.raises(ConversionError, match=r"lacks 'conv1\.conv2d\.weight'"):
        convert_arrays({"layer1.weight": np.zeros((2, 2), np.float32)}, tmp_path)


def test_what_is_no_file_of_weights_is_an_error(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 no weights")
    with pytest.raises(ReadError, match=r"photo\.jpg"):
        convert(tmp_path / "photo.jpg")
