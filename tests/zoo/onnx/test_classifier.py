"""Imported classifiers as models of the zoo: features, maps, new classes, training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import zoo
from tests.zoo.onnx.small import convnet, tensor
from zoo.onnx import OnnxError, from_onnx
from zoo.surgery.intercept import intercept
from zoo.training.optimizers import find_decayed, layer_factors
from zoo.training.run_folder import RunError
from zoo_pretrained.checkpoint import CheckpointError, flatten_variables

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
    assert seen.maps.max() > 0
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
    """Whoever writes one: neither saving nor loading it goes through."""
    metadata = trained.to_metadata("x")
    metadata["arguments"]["graph"] = graph
    with pytest.raises(ValueError, match=message):
        zoo.pretrained.checkpoint.save(tmp_path / "x", trained.variables, metadata)
    del metadata["model"]  # by which it would be checked
    zoo.pretrained.checkpoint.save(tmp_path / "x", trained.variables, metadata)
    with pytest.raises(CheckpointError, match=message):
        zoo.trained("OnnxClassifier", weights=tmp_path / "x")
    with pytest.raises(OnnxError, match=message if graph else "ends too early"):
        from_onnx(tmp_path / "x")


def test_checkpoints_of_other_models(trained, tmp_path):
    trained.save(tmp_path / "mine")
    with pytest.raises(CheckpointError, match="holds a OnnxClassifier, not a ResNet18"):
        zoo.trained("ResNet18", weights=tmp_path / "mine")
    with pytest.raises(OnnxError, match=r"checkpoint of OnnxClassifier: zoo.trained\('OnnxClass"):
        from_onnx(tmp_path / "mine")
    from_onnx(convnet()).save(tmp_path / "other")
    with pytest.raises(CheckpointError, match="other does not fit OnnxClassifier"):
        zoo.trained("OnnxClassifier", weights=tmp_path / "other")
    zoo.pretrained.checkpoint.save(tmp_path / "none", trained.variables, {})
    with pytest.raises(OnnxError, match="none is a checkpoint that has no graph of an imported mo"):
        from_onnx(tmp_path / "none")


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


def test_labels_and_preprocessing_must_fit():
    imported = from_onnx(convnet())
    with pytest.raises(ValueError, match="labels must have a name for each of 5 classes, got 1"):
        imported.as_trained(labels=["a"])
    preprocessing = imported.as_trained().info.preprocessing.resized(16)
    message = "must give images of 8 pixels and 3 channels, as the model takes, got 16 and 3"
    with pytest.raises(ValueError, match=message):
        imported.as_trained(preprocessing=preprocessing)


def test_a_description_counts_the_nodes(trained):
    """Products of both convolutions, one of them of 4 groups, and of the head."""
    described = zoo.describe(trained)
    assert described.parameters == 485 - 8  # the statistics are none
    assert described.multiply_adds == 64 * 4 * 27 + 64 * 4 * 9 + 64 * 5
    assert [layer.kind for layer in described.layers] == [
        *("Conv", "BatchNormalization", "Conv", "Dense"),
    ]


def test_training_slows_down_what_comes_first(trained):
    factors = layer_factors(trained.model, 0.5)
    assert factors["head"] == 1
    names = ("conv1.weight", "bn1.scale", "bn1.bias", "Conv.d.kernel")
    assert [factors[name] for name in names] == sorted(factors[name] for name in names)
    assert factors[names[0]] < factors[names[-1]] < 1
    assert factors.keys() == trained.variables["params"].keys()
    decayed = find_decayed(trained.variables["params"])
    assert decayed["conv1.weight"]
    assert not decayed["bn1.scale"]


def test_backbone_takes_no_imported_models(trained):
    with pytest.raises(ValueError, match=r"zoo.backbone takes models that are made of"):
        zoo.backbone(trained)


def test_a_pair_has_the_models_size(trained):
    photo = np.zeros((9, 9, 3), np.uint8)
    found = zoo.embed((trained.model, trained.variables), [photo])
    assert len(found) == 1


def test_images_that_do_not_fit(trained):
    with pytest.raises(ValueError, match="takes one image or more of at least 8x8, got"):
        trained(jnp.zeros((1, 4, 4, 3)))
