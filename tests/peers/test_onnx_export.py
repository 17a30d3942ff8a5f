"""The zoo's models in ONNX, in onnxruntime."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.onnx.test_export import make
from zoo.checkpoints.load import as_trained
from zoo.onnx.export import make_proto

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `peers` has it")
pytestmark = pytest.mark.peer

# One or two of each family; the others differ in numbers of the same blocks.
NAMES = (
    *("VGG11_BN", "ResNet18", "ResNet50", "ResNeXt50_32x4d", "DenseNet121", "GoogLeNet"),
    *("SqueezeNet1_1", "MobileNetV1", "MobileNetV2", "MobileNetV3_Small", "Xception"),
    "EfficientNetLite0",
)


def run(proto, images):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(["logits"], {"images": images.transpose(0, 3, 1, 2)})[0]


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_equal(name):
    """Plain and fused, as near to the model in float64 as the model itself is in float32.

    That is 1e-5 of the largest logit at most; but for MobileNetV2, whose random norms multiply
    roundings to 3e-5.
    """
    (model, variables), images = make(zoo.create(name, num_classes=10), 96)
    ours = np.asarray(jax.jit(model.apply)(variables, images))
    with jax.enable_x64():
        wide = jax.tree.map(np.float64, variables)
        exact = jax.jit(model.clone(dtype=jnp.float64).apply)(wide, np.float64(images))
        want = np.asarray(exact)
    largest = np.abs(want).max()
    assert np.ptp(want) > 1e-3 * largest
    error = np.abs(ours - want).max()
    trained = as_trained((model, variables))
    for each in (trained, zoo.fuse(trained)):
        got = run(make_proto(each, 96), images)
        np.testing.assert_allclose(got, want, rtol=0, atol=2 * error + 1e-6 * largest)


def test_a_photo_with_real_weights():
    lite = zoo.trained("EfficientNetLite0")
    images = lite.preprocess(["examples/cat.jpg", "examples/espresso.jpg"])
    want = np.asarray(lite(images))
    for trained in (lite, zoo.fuse(lite)):
        got = run(make_proto(trained), images)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
