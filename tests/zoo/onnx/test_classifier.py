"""Imported classifiers as models of the zoo: features, maps, new classes, training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import zoo
from tests.zoo.onnx.small import convnet, make_model, node, tensor
from zoo.onnx import UnsupportedError, from_onnx
from zoo.surgery.intercept import intercept
from zoo_pretrained.checkpoint import flatten_variables

IMAGES = np.float32(np.random.default_rng(1).normal(size=(4, 8, 8, 3)))


def evaluate(*names):
    """Values of the graph, by the reference, for the images with the channels in front."""
    model = convnet()
    del model.graph.output[:]
    model.graph.output.extend(tensor(name) for name in names)
    return ReferenceEvaluator(model).run(None, {"images": IMAGES.transpose(0, 3, 1, 2)})


@pytest.fixture(scope="module")
def trained():
    return from_onnx(convnet()).as_trained(labels=list("abcde"))


def test_logits_are_the_models(trained):
    want = evaluate("logits")[0]
    np.testing.assert_allclose(trained(IMAGES), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(zoo.fuse(trained)(IMAGES), want, rtol=1e-4, atol=1e-5)
    assert trained.labels == tuple("abcde")
    assert (trained.model.title, trained.channels, trained.model.min_size) == ("small", 3, 8)


def test_features_are_the_nodes_outputs(trained):
    """As maps with the channels last."""
    found = zoo.features(trained, IMAGES, ["MaxPool.f", "Relu.c", "Reshape.flat"])
    pooled, rectified, flat = evaluate("f", "c", "flat")
    np.testing.assert_allclose(found["MaxPool.f"], pooled.transpose(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(found["Relu.c"], rectified.transpose(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(found["Reshape.flat"], flat, atol=1e-5)


def test_grad_cam_is_of_its_definition(trained):
    """Maps weighted by the means of the logit's gradients, without what is negative."""
    photo = np.random.default_rng(2).integers(0, 256, (8, 8, 3), np.uint8)
    seen = zoo.visualize.grad_cam(trained, photo, "b", layer="MaxPool.f")
    maps = zoo.features(trained, trained.preprocess(photo), "MaxPool.f")["MaxPool.f"]
    head = trained.variables["params"]["head"]

    def logit(maps):
        return (maps.transpose(0, 3, 1, 2).reshape(1, -1) @ head["kernel"] + head["bias"])[0, 1]

    weights = jax.grad(logit)(maps).mean((1, 2), keepdims=True)
    cam = jnp.maximum((maps * weights).sum(-1)[0], 0)
    wide = jax.image.resize(cam, (8, 8), "bilinear")
    np.testing.assert_allclose(seen.maps[0] / seen.maps.max(), wide / wide.max(), atol=1e-4)


def test_other_classes(trained):
    adapted = zoo.adapt(trained, labels=["cat", "dog"])
    assert np.asarray(adapted(IMAGES)).shape == (4, 2)
    old, new = (dict(flatten_variables(t.variables)) for t in (trained, adapted))
    assert old.keys() == new.keys()
    for path, array in old.items():
        if not path.startswith("params/head/"):
            np.testing.assert_array_equal(new[path], array, err_msg=path)
    assert new["params/head/kernel"].shape == (64, 2)
    with pytest.raises(ValueError, match="first convolution of a small takes no other channels"):
        zoo.adapt(trained, channels=1)


def test_norms_in_training(trained):
    """By the batch's statistics; the running ones move by a tenth, to the unbiased variance."""
    x, scale, bias = (np.float64(each) for each in evaluate("a", "bn1.scale", "bn1.bias"))
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    y = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
    want = y * scale[:, None, None] + bias[:, None, None]
    outputs = {}

    def collect(call):
        outputs[call.path] = call.run()
        return outputs[call.path]

    with intercept(collect):
        _, new = trained.model.apply(trained.variables, IMAGES, train=True, mutable=["batch_stats"])
    found = np.asarray(outputs["BatchNormalization.b"]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, want, atol=1e-4)
    old = trained.variables["batch_stats"]
    count = x.size // x.shape[1]
    for name, batch in (("bn1.mean", mean), ("bn1.var", var * count / (count - 1))):
        moved = 0.9 * np.asarray(old[name]) + 0.1 * batch
        np.testing.assert_allclose(new["batch_stats"][name], moved, rtol=1e-4, atol=1e-5)


def test_training_by_fit(trained):
    """Dark and bright images are told apart after some steps, with classes of one's own."""
    random = np.random.default_rng(0)
    means = np.repeat([60, 190], 12)
    images = random.normal(means[:, None, None, None], 20, (24, 8, 8, 3)).clip(0, 255)
    dataset = zoo.data.Dataset(
        images=list(np.uint8(images)), labels=np.repeat([0, 1], 12), classes=("dark", "bright")
    )
    fitted = zoo.training.fit(
        trained, dataset, epochs=6, batch_size=8, rate=0.02, size=8, workers=0, verbose=False
    )
    assert fitted.labels == ("dark", "bright")
    x = fitted.preprocess([np.uint8(image) for image in images])
    assert (np.asarray(fitted(x)).argmax(1) == np.repeat([0, 1], 12)).mean() > 0.9
    kernel = fitted.variables["params"]["conv1.weight"]
    assert not np.array_equal(kernel, trained.variables["params"]["conv1.weight"])


@pytest.mark.parametrize(
    ("nodes", "shape", "message"),
    [
        ([node("Relu", "x", "y")], ["N", 3, 8, 8], r"1 inputs, and the last node is Relu 'Relu/y'"),
        ([node("Gemm", "x w b", "y")], ["N", 4], r"takes images, and not x: float32 \[N, 4\]"),
        (
            [node("Flatten", "x", "f"), node("Gemm", "f w b", "y")],
            ["N", 1, 2, 4],
            r"images must be squares, and not x: float32 \[N, 1, 2, 4\]",
        ),
        (
            [node("Flatten", "x", "f"), node("Add", "w w", "v"), node("Gemm", "f v b", "y")],
            ["N", 4, 1, 1],
            "a Gemm with weights and a bias of its own",
        ),
        (
            [
                node("Flatten", "x", "f"),
                node("MatMul", "f w", "g"),
                node("Concat", "g g", "h", axis=1),
                node("Gemm", "h w b", "y"),
            ],
            ["N", 4, 1, 1],
            "a Gemm with weights and a bias of its own",
        ),
    ],
)
def test_what_is_no_classifier(nodes, shape, message):
    constants = {"w": np.ones((4, 2), np.float32), "b": np.ones(2, np.float32)}
    model = from_onnx(make_model(nodes, [tensor("x", shape)], ["y"], constants))
    with pytest.raises(UnsupportedError, match=message):
        model.as_trained()


def test_images_that_do_not_fit(trained):
    with pytest.raises(ValueError, match="small takes one image or more of at least 8x8, got"):
        trained(jnp.zeros((1, 4, 4, 3)))


def test_it_is_saved_as_variables(trained, tmp_path):
    """A checkpoint of the zoo would have to name a constructor."""
    message = "small was imported, so that no checkpoint can name it: train it without folder="
    with pytest.raises(UnsupportedError, match=message):
        trained.save(tmp_path / "mine")
    zoo.pretrained.checkpoint.save(tmp_path / "mine", trained.variables, {})
    variables, _ = zoo.pretrained.checkpoint.restore(tmp_path / "mine")
    again = trained.replace(variables=variables)
    np.testing.assert_array_equal(again(IMAGES), trained(IMAGES))
