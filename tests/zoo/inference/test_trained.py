"""Trained models: the classes of photos, pytrees, weights by name, and errors."""

import jax
import numpy as np
import pytest
from PIL import Image

import zoo
from tests.zoo.models.small_models import small
from zoo_pretrained import catalogue, checkpoint
from zoo_pretrained.checkpoint import CheckpointError

# What the photos show, as people would say: any of these labels is right.
RIGHT = {
    "cat.jpg": {"tiger cat", "tabby", "Egyptian cat"},
    "espresso.jpg": {"espresso"},
    "rocket.jpg": {"missile", "projectile"},
}


def test_every_example_is_named_correctly(lite, examples):
    assert {path.name for path in examples.glob("*.jpg")} == RIGHT.keys()
    results = lite.classify([examples / name for name in RIGHT], top=1)
    for name, [(label, probability)] in zip(RIGHT, results, strict=True):
        assert label in RIGHT[name]
        assert 0.2 < probability < 1


def test_classify_takes_one_image_or_several(lite, examples):
    path = examples / "cat.jpg"
    one = lite.classify(path)
    assert len(one) == 5
    assert [p for _, p in one] == sorted((p for _, p in one), reverse=True)
    with Image.open(path) as image:
        array = np.asarray(image)
    for source in (str(path), path.read_bytes(), Image.open(path), array):
        assert lite.classify(source)[0][0] == one[0][0]
    (listed,) = lite.classify([path])
    (batch,) = lite.classify(array[None])
    assert [label for label, _ in listed] == [label for label, _ in batch]
    assert [label for label, _ in listed] == [label for label, _ in one]


def test_probabilities_of_all_classes_add_up_to_one(lite, examples):
    ranked = lite.classify(examples / "cat.jpg", top=1000)
    assert len({label for label, _ in ranked}) == 1000
    assert sum(p for _, p in ranked) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("top", [0, -1, 1001])
def test_top_out_of_range(lite, examples, top):
    with pytest.raises(ValueError, match=f"top must be from 1 to 1000, got {top}"):
        lite.classify(examples / "cat.jpg", top=top)


def test_fused_probabilities_are_those_of_the_plain_model(lite, examples):
    x = lite.preprocess(examples / "espresso.jpg")
    want = jax.nn.softmax(lite(x))
    np.testing.assert_allclose(lite.probabilities(x), want, rtol=1e-3, atol=1e-6)


def test_goes_through_jit_grad_and_vmap_as_a_pytree(lite):
    model, variables, x = small("mobilenet_v1")
    thin = zoo.Trained(model, variables, lite.info)
    want = thin(x)
    np.testing.assert_allclose(jax.jit(lambda m, x: m(x))(thin, x), want, rtol=1e-4, atol=1e-4)
    rows = jax.vmap(lambda m, x: m(x[None])[0], (None, 0))(thin, x)
    np.testing.assert_allclose(rows, want, rtol=1e-4, atol=1e-4)
    gradient = jax.grad(lambda m: m(x).sum())(thin).variables["params"]["head"]["bias"]
    np.testing.assert_allclose(gradient, 2.0)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, thin)
    assert isinstance(doubled, zoo.Trained)
    assert doubled.info is lite.info


def test_probabilities_inside_jit_leak_no_tracer(lite):
    fresh = jax.tree.map(lambda leaf: leaf, lite)
    x = np.zeros((1, 32, 32, 3), np.float32)
    inside = jax.jit(fresh.probabilities)(x)
    np.testing.assert_allclose(fresh.probabilities(x), inside, rtol=1e-5)
    as_argument = jax.jit(lambda m, x: m.probabilities(x))(fresh, x)
    np.testing.assert_allclose(as_argument, inside, rtol=1e-4)


def test_raises_for_labels_of_another_model(lite, examples):
    model, variables, _ = small("resnet")
    with pytest.raises(ValueError, match="5 classes, but its info has 1000 labels"):
        zoo.Trained(model, variables, lite.info).classify(examples / "cat.jpg")


def test_comparison_is_by_identity(lite):
    assert lite == lite
    assert lite != jax.tree.map(lambda leaf: leaf, lite)


def test_kernels_for_convolution_are_flipped_on_loading(lite, examples, tmp_path):
    """A checkpoint with flipped kernels that says so is the same model."""

    def flip(leaf):
        return np.asarray(leaf)[::-1, ::-1] if leaf.ndim == 4 else np.asarray(leaf)

    entry = catalogue.entries()["EfficientNetLite0"]["IMAGENET1K"]
    metadata = checkpoint.restore(catalogue.embedded_checkpoint_path(entry)).metadata
    metadata["kernel_convention"] = "convolution"
    variables = jax.tree.map(flip, lite.variables)
    checkpoint.save(tmp_path / "flipped", variables, metadata)
    loaded = zoo.trained(zoo.EfficientNetLite0, weights=tmp_path / "flipped")
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, lite.variables)


def test_flipped_kernels_classify_images_turned_by_180_degrees(lite, examples):
    """Kernels flipped in height and width are the network for images turned by 180 degrees.

    Exactly so where padding is symmetric and, for strides, sides are odd. Cups and cats are still
    named, with less certainty; nobody has photographed a rocket on its head.
    """

    def flip(leaf):
        return leaf[::-1, ::-1] if leaf.ndim == 4 else leaf

    model = lite.model.clone(padding="symmetric")
    wrong = jax.tree.map(flip, lite.variables)
    x = lite.preprocess([examples / name for name in RIGHT])
    x = np.pad(x, ((0, 0), (0, 33), (0, 33), (0, 0)))  # a side of 257: odd after each of 5 strides
    apply = jax.jit(model.apply)
    np.testing.assert_allclose(
        apply(wrong, x), apply(lite.variables, x[:, ::-1, ::-1]), rtol=1e-3, atol=1e-3
    )
    damaged = zoo.Trained(lite.model, wrong, lite.info)
    found = {}
    for model in (lite, damaged):
        rows = model.classify([examples / name for name in RIGHT], top=1000)
        found[model] = [
            sum(p for label, p in row if label in right)
            for row, right in zip(rows, RIGHT.values(), strict=True)
        ]
    _, espresso, rocket = zip(found[lite], found[damaged], strict=True)
    assert espresso[1] < 0.6 * espresso[0]
    assert rocket[1] < 0.1 * rocket[0]


def test_repr_is_short(lite):
    assert "EfficientNetLite" in repr(lite)
    assert len(repr(lite)) < 1500


def test_info(lite):
    info = lite.info
    assert (info.model, info.weights, info.licence) == (
        "EfficientNetLite0", "IMAGENET1K", "Apache-2.0"
    )  # fmt: skip
    assert info.labels[282] == ("n02123159", "tiger cat")
    assert info.preprocessing.size == 224


class TestWithoutAClassifier:
    @pytest.fixture
    def backbone(self, lite, tmp_path):
        """Lite0's features alone."""
        entry = catalogue.entries()["EfficientNetLite0"]["IMAGENET1K"]
        variables, metadata = checkpoint.restore(catalogue.embedded_checkpoint_path(entry))
        del variables["params"]["head"]
        checkpoint.save(tmp_path / "backbone", variables, {**metadata, "head": False})
        return zoo.trained("EfficientNetLite0", weights=tmp_path / "backbone")

    def test_features_work_and_logits_are_an_error(self, backbone, lite):
        x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
        want = zoo.features(lite, x, ["stage3"])["stage3"]
        np.testing.assert_array_equal(zoo.features(backbone, x, ["stage3"])["stage3"], want)
        for call in (backbone, backbone.probabilities):
            with pytest.raises(ValueError, match=r"have no classifier; zoo\.adapt"):
                call(x)

    def test_adapt_adds_a_classifier(self, backbone):
        model, variables = zoo.adapt(backbone, num_classes=4)
        assert model.apply(variables, np.zeros((1, 64, 64, 3), np.float32)).shape == (1, 4)
        grey = zoo.adapt(backbone, channels=1)
        assert (grey.channels, grey.info.head) == (1, False)


class TestNames:
    def test_by_constructor_or_name(self, lite):
        assert zoo.trained("EfficientNetLite0", weights="IMAGENET1K").info == lite.info

    def test_a_misspelt_name_suggests_the_nearest(self):
        with pytest.raises(zoo.UnknownModelError, match=r"'eficientnetlite0'.*EfficientNetLite0"):
            zoo.trained("eficientnetlite0")

    def test_raises_for_a_function_that_is_not_a_constructor(self):
        with pytest.raises(zoo.UnknownModelError, match="no model is named 'len'"):
            zoo.trained(len)

    def test_a_model_without_weights_lists_models_that_have_some(self):
        with pytest.raises(
            zoo.NoWeightsError, match=r"no weights for DenseNet264; .*: DenseNet121"
        ):
            zoo.trained(zoo.DenseNet264)

    def test_unknown_weights_list_the_known_ones(self):
        with pytest.raises(zoo.NoWeightsError, match="'V9'; it has: IMAGENET1K, ra_in1k"):
            zoo.trained(zoo.EfficientNetLite0, weights="V9")

    def test_list_models(self):
        names = [f"EfficientNetLite{i}" for i in range(5)]
        assert zoo.list_models("efficientNET*") == zoo.list_models(family="efficientnet_lite")
        assert zoo.list_models("efficientNET*") == names
        assert zoo.list_models("*lite*", trained=True) == names
        assert zoo.list_models(trained=False) == ["DenseNet264"]
        assert len(zoo.list_models()) == 1 + len(zoo.list_models(trained=True)) == 36
        assert zoo.list_models("vit*") == zoo.list_models("vgg*", family="resnet") == []
        with pytest.raises(ValueError, match=r"family must be one of densenet, .*, got 'vit'"):
            zoo.list_models(family="vit")

    def test_list_detectors(self):
        detectors = zoo.list_models(task="detection")
        assert len(detectors) == 9
        assert zoo.list_models(task=None) == [*zoo.list_models(), *detectors]
        assert zoo.list_models("retina", task=None) == zoo.list_models(
            family="retinanet", task="detection"
        )
        assert zoo.list_models("ssd") == []
        assert zoo.list_models(trained=False, task="detection") == []
        with pytest.raises(ValueError, match=r"family must be one of faster_rcnn, .*, got 'vgg'"):
            zoo.list_models(family="vgg", task="detection")
        with pytest.raises(ValueError, match=r"task must be one of classification, .*, got 'pose'"):
            zoo.list_models(task="pose")
        for name in detectors:
            assert getattr(zoo.detection, name)(num_classes=3).num_classes == 3

    def test_every_listed_model_is_a_public_constructor(self):
        for name in zoo.list_models():
            assert getattr(zoo, name)(num_classes=3).num_classes == 3


def test_a_missing_checkpoint_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(catalogue, "embedded_checkpoint_path", lambda entry: tmp_path / "gone")
    with pytest.raises(CheckpointError, match="gone"):
        zoo.trained(zoo.EfficientNetLite0)
