"""Imported classifiers as models of the zoo: features, maps, new classes, training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import zoo
from tests.zoo.onnx.small import convnet, make_model, node, tensor
from zoo.onnx import UnsupportedError, from_onnx
from zoo.surgery.intercept import intercept
from zoo.training.run_folder import RunError
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
    assert (trained.channels, trained.model.min_size) == (3, 8)
    assert repr(trained.model) == "OnnxClassifier(num_classes=5)"


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
    with pytest.raises(ValueError, match="first convolution of a OnnxClassifier takes no other"):
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


def test_a_run_has_a_folder(tmp_path):
    """From which it goes on, and its best model is loaded."""
    trained = from_onnx(convnet()).as_trained()
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    dataset = zoo.data.Dataset(
        images=list(images), labels=np.repeat([0, 1], 4), classes=("dark", "bright")
    )
    settings = {"batch_size": 4, "size": 8, "workers": 0, "verbose": False, "folder": tmp_path}
    fitted = zoo.training.fit(trained, dataset, epochs=1, **settings)
    same = zoo.training.fit(trained, dataset, epochs=1, **settings)
    np.testing.assert_array_equal(same(IMAGES), fitted(IMAGES))
    again = zoo.trained("OnnxClassifier", weights=tmp_path / "model")
    assert again.labels == ("dark", "bright")
    np.testing.assert_array_equal(again(IMAGES), fitted(IMAGES))
    relu = convnet()
    relu.graph.node[2].op_type = "Sigmoid"
    message = r"holds a run with arguments \{'num_classes': 2, 'graph': 'e[^']*…, not \{'num"
    with pytest.raises(RunError, match=message):
        zoo.training.fit(from_onnx(relu).as_trained(), dataset, epochs=1, **settings)


def test_a_classifier_is_saved_and_loaded(trained, tmp_path):
    adapted = zoo.adapt(trained, labels=["cat", "dog"])
    adapted.save(tmp_path / "pets")
    again = zoo.trained(zoo.OnnxClassifier, weights=tmp_path / "pets")
    assert again.model == adapted.model
    assert again.labels == ("cat", "dog")
    np.testing.assert_array_equal(again(IMAGES), adapted(IMAGES))
    expected = flatten_variables(trained.model.variable_shapes())
    assert {path: leaf.shape for path, leaf in flatten_variables(trained.variables)} == {
        path: leaf.shape for path, leaf in expected
    }


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ("", "an OnnxClassifier without a graph computes nothing"),
        ("words", "the graph of an imported model cannot be read: "),
        ("eJwDAAAAAAE=", "no ONNX model: it has no graph"),
        ("eJwDAAA=", "the graph of an imported model ends too early, or is too large"),
    ],
)
def test_checkpoints_without_a_graph(trained, tmp_path, graph, message):
    """Whoever writes one, loading it says what is wrong."""
    metadata = trained.to_metadata("x")
    metadata["arguments"]["graph"] = graph
    with pytest.raises(ValueError, match=message):
        zoo.pretrained.checkpoint.save(tmp_path / "x", trained.variables, metadata)
    model = dict(trained.to_metadata("x"), model="x")
    del model["model"]
    zoo.pretrained.checkpoint.save(
        tmp_path / "y",
        trained.variables,
        {
            **model,
        },
    )
    with pytest.raises(zoo.pretrained.checkpoint.CheckpointError, match="does not fit ResNet18"):
        zoo.trained("ResNet18", weights=tmp_path / "y")


def draw(*shape):
    return np.float32(np.random.default_rng(sum(shape)).normal(size=shape))


CONSTANTS = {
    "w": draw(8, 3, 3, 3),
    "k": draw(8, 5),
    "c": draw(5),
    "q": draw(5, 8, 1, 1),
    "shape": np.array([-1, 5]),
    "axes": np.array([2, 3]),
    "wide": draw(5, 8, 3, 3),
}
MAPS = (node("Conv", "x w", "a", pads=[1, 1, 1, 1]), node("Relu", "a", "b"))
POOLED = (*MAPS, node("GlobalAveragePool", "b", "p"))
FLAT = (*POOLED, node("Flatten", "p", "f"))
HEADS = {
    "Gemm": [*FLAT, node("Gemm", "f k c", "y")],
    "Gemm without a bias": [*FLAT, node("Gemm", "f k", "y")],
    "MatMul": [*FLAT, node("MatMul", "f k", "y")],
    "MatMul, Add and Softmax": [
        *(*FLAT, node("MatMul", "f k", "m"), node("Add", "c m", "l")),
        node("Softmax", "l", "y", axis=-1),
    ],
    "Conv of maps": [
        *(*MAPS, node("Conv", "b q c", "h"), node("Relu", "h", "r")),
        *(node("GlobalAveragePool", "r", "m"), node("Flatten", "m", "y")),
    ],
    "Conv, Reshape and Softmax": [
        *(*POOLED, node("Conv", "p q", "h"), node("Reshape", "h shape", "l")),
        node("Softmax", "l", "y", axis=-1),
    ],
    "Conv and Squeeze": [*POOLED, node("Conv", "p q", "h"), node("Squeeze", "h axes", "y")],
    "Conv and ReduceMean": [
        *(*MAPS, node("Conv", "b q c", "h")),
        node("ReduceMean", "h axes", "y", keepdims=0),
    ],
}


def make_classifier(nodes, shape=("N", 3, None, None), outputs=("N", 5)):
    used = {name for each in nodes for name in each.input}
    constants = {name: array for name, array in CONSTANTS.items() if name in used}
    return make_model(nodes, [tensor("x", shape)], [tensor("y", outputs)], constants)


@pytest.mark.parametrize("name", HEADS)
def test_heads(name, tmp_path):
    """Logits, without a softmax; for other classes too, and exported again with them."""
    model = make_classifier(HEADS[name])

    def check(model, trained):
        (want,) = ReferenceEvaluator(model).run(None, {"x": IMAGES.transpose(0, 3, 1, 2)})
        found = np.asarray(trained(IMAGES))
        if "Softmax" in name:
            found = jax.nn.softmax(found)
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)

    trained = from_onnx(model).as_trained()
    check(model, trained)
    adapted = zoo.adapt(trained, num_classes=3)
    head = adapted.variables["params"]["head"]
    head["kernel"], head["bias"] = draw(*head["kernel"].shape), draw(3)
    assert np.asarray(adapted(IMAGES)).shape == (4, 3)
    zoo.to_onnx(adapted, tmp_path / "m.onnx")
    exported = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(exported, full_check=True)
    check(exported, adapted)
    unread = {each.name for each in exported.graph.initializer}
    assert unread <= {each for node in exported.graph.node for each in node.input}
    again = from_onnx(exported).as_trained()
    assert again.labels == ("class 0", "class 1", "class 2")
    np.testing.assert_allclose(again(IMAGES), adapted(IMAGES), rtol=1e-5, atol=1e-6)


def test_channels_behind():
    """As models of TensorFlow have them."""
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), *HEADS["Gemm"]]
    nodes[1] = node("Conv", "t w", "a", pads=[1, 1, 1, 1])
    model = make_classifier(nodes, ("N", 16, 16, 3))
    trained = from_onnx(model).as_trained()
    images = draw(2, 16, 16, 3)
    want = ReferenceEvaluator(model).run(None, {"x": images})[0]
    np.testing.assert_allclose(trained(images), want, rtol=1e-4, atol=1e-5)
    assert (trained.channels, trained.info.preprocessing.size) == (3, 16)


def test_grey_images():
    nodes = [node("ReduceMean", "x", "m", axes=[2, 3], keepdims=0), node("Gemm", "m k c", "y")]
    constants = {"k": draw(1, 5), "c": draw(5)}
    model = make_model(nodes, [tensor("x", ["N", 1, 8, 8])], [tensor("y", ["N", 5])], constants, 13)
    trained = from_onnx(model).as_trained()
    assert (trained.channels, trained.info.preprocessing.channels) == (1, "grey")
    assert len(trained.classify(np.zeros((8, 8, 3), np.uint8))) == 5


def test_what_the_file_says(trained, tmp_path):
    """Labels, preprocessing and licence of an exported model come back."""
    preprocessing = dataclasses.replace(trained.info.preprocessing, mean=(0.1, 0.2, 0.3))
    info = dataclasses.replace(trained.info, preprocessing=preprocessing, licence="CC0")
    zoo.to_onnx(trained.replace(info=info), tmp_path / "m.onnx")
    again = from_onnx(tmp_path / "m.onnx").as_trained()
    assert again.labels == tuple("abcde")
    assert (again.info.preprocessing, again.info.licence) == (preprocessing, "CC0")
    assert "  licence  CC0\n" in from_onnx(tmp_path / "m.onnx").describe()
    model = onnx.load(tmp_path / "m.onnx")
    onnx.helper.set_model_props(model, {"labels": "cats", "preprocessing": '{"size": -1}'})
    usual = from_onnx(model).as_trained()
    assert usual.labels[0] == "class 0"
    assert usual.info.preprocessing == trained.info.preprocessing
    own = from_onnx(tmp_path / "m.onnx").as_trained(labels=list("vwxyz"), licence="mine")
    assert (own.labels, own.info.licence) == (tuple("vwxyz"), "mine")


def test_an_imported_model_keeps_its_size(trained, tmp_path):
    message = "an imported model keeps its size and its operator set: leave out size and opset, got"
    for options in ({"size": 32}, {"opset": 13}):
        for model in (trained, from_onnx(convnet())):
            with pytest.raises(ValueError, match=message):
                zoo.to_onnx(model, tmp_path / "m.onnx", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("nodes", "shape", "message"),
    [
        (
            MAPS,
            ("N", 3, 8, 8),
            "before at most a mean and a softmax; this one ends in Conv 'Conv/a'",
        ),
        (HEADS["Gemm"], ("N", 4), r"takes images, and not x: float32 \[N, 4\]"),
        (HEADS["Gemm"], ("N", 3, 2, 4), r"must be squares, and not x: float32 \[N, 3, 2, 4\]"),
        (HEADS["Gemm"], ("N", 3, 2, None), r"must be squares, and not x: float32 \[N, 3, 2, \?\]"),
        ([*FLAT, node("Add", "k k", "v"), node("Gemm", "f v c", "y")], None, "a Gemm, a MatMul"),
        ([*FLAT, node("Gemm", "f k c", "g"), node("Exp", "g", "y")], None, "ends in Exp 'Exp/y'"),
        ([*FLAT, node("Gemm", "f k c", "y", alpha=2.0)], None, "this one ends in Gemm 'Gemm/y'"),
        ([*FLAT, node("Add", "f c", "m"), node("Add", "m c", "y")], None, "ends in Add 'Add/y'"),
        (
            [*FLAT, node("MatMul", "f k", "g"), node("Add", "g g", "h"), node("Softmax", "h", "y")],
            *(None, "this one ends in Add 'Add/h'"),
        ),
        (
            [node("Reshape", "x shape", "f"), node("Gemm", "f k c", "y")],
            *(None, "takes an image of 224x224, and this model fails: Reshape 'Reshape/f'"),
        ),
        ([*MAPS, node("Conv", "b wide c", "y")], None, "this one ends in Conv 'Conv/y'"),
        ([*MAPS, node("Conv", "b q c", "y")], None, r"\[N, 5\], and this model, of one image of 2"),
    ],
)
def test_what_is_no_classifier(nodes, shape, message):
    model = make_classifier(nodes, shape or ("N", 3, None, None), None)
    model.graph.output[0].name = nodes[-1].output[0]
    imported = from_onnx(model)
    with pytest.raises(UnsupportedError, match=message):
        imported.as_trained()


def test_images_that_do_not_fit(trained):
    with pytest.raises(ValueError, match="takes one image or more of at least 8x8, got"):
        trained(jnp.zeros((1, 4, 4, 3)))
