"""Saving models with weights: what is loaded again is the same model, and mistakes are errors."""

import dataclasses
import json
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.pretrained.unchecked import save_unchecked
from tests.zoo.models.small_models import small
from zoo.checkpoints.load import as_trained
from zoo.checkpoints.validate import check_arrays
from zoo.inference.preprocessing import Preprocessing
from zoo.models.base import MODELS
from zoo_pretrained import checkpoint
from zoo_pretrained.checkpoint import CheckpointError, flatten_variables

# Arguments as of weights from Keras, and some that only a user would choose.
ARGUMENTS = {
    "num_classes": 4, "width": 0.25, "padding": "SAME", "norm_eps": 1e-3, "dtype": "bfloat16"
}  # fmt: skip
SCALE = Preprocessing(64, 73, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def keras_like(tmp_path_factory):
    """A MobileNetV1 whose padding, epsilon and preprocessing are not the constructor's."""
    model = zoo.MobileNetV1(**ARGUMENTS)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    path = tmp_path_factory.mktemp("saved") / "keras"
    zoo.save(
        path,
        model,
        variables,
        labels=["a", "b", "c", "d"],
        preprocessing=SCALE,
        licence="MIT",
        source="https://example.org/weights.h5",
    )
    return zoo.trained("mobilenetv1", weights=path)


@pytest.fixture
def metadata(keras_like):
    return keras_like.to_metadata("mine")


def test_a_definition_with_variables_is_loaded_as_it_was(keras_like):
    assert keras_like.model == zoo.MobileNetV1(**ARGUMENTS)
    assert keras_like.labels == ("a", "b", "c", "d")
    info = keras_like.info
    assert (info.preprocessing, info.weights) == (SCALE, "keras")
    assert (info.licence, info.source) == ("MIT", "https://example.org/weights.h5")


def test_an_adapted_model_is_loaded_as_it_was(keras_like, examples, tmp_path):
    """Padding, epsilon and preprocessing are remembered; so are the probabilities, therefore."""
    mine = zoo.adapt(keras_like, labels=["cat", "dog"])
    mine.save(tmp_path / "mine")
    again = zoo.trained("MobileNetV1", weights=tmp_path / "mine")
    assert again.model == mine.model == zoo.MobileNetV1(**{**ARGUMENTS, "num_classes": 2})
    assert again.info.preprocessing == SCALE
    assert again.info.source == "https://example.org/weights.h5"
    assert again.labels == ("cat", "dog")
    cat = examples / "cat.jpg"
    assert again.classify(cat) == mine.classify(cat)
    assert {label for label, _ in again.classify(cat)} == {"cat", "dog"}


def test_other_variables_take_the_place_of_the_old_ones(keras_like, tmp_path):
    doubled = jax.tree.map(lambda a: 2 * a, keras_like.variables)
    zoo.save(tmp_path / "trained", keras_like, doubled)
    again = zoo.trained("MobileNetV1", weights=tmp_path / "trained")
    assert again.info.preprocessing == SCALE
    jax.tree.map(np.testing.assert_array_equal, again.variables, doubled)
    with pytest.raises(FileExistsError, match="exists already"):
        zoo.save(tmp_path / "trained", keras_like)
    zoo.save(tmp_path / "trained", keras_like, overwrite=True)


def test_what_info_says_is_saved(lite, tmp_path):
    """In place of what the checkpoint said that it was loaded from; "extra" is always kept."""
    metadata = {**lite.to_metadata("x"), "extra": {"run": 7}}
    checkpoint.save(tmp_path / "a", jax.device_get(lite.variables), metadata)
    loaded = zoo.trained("EfficientNetLite0", weights=tmp_path / "a")
    info = dataclasses.replace(loaded.info, source="https://example.org", top1=50.0)
    loaded.replace(info=info).save(tmp_path / "b")
    again = zoo.trained("EfficientNetLite0", weights=tmp_path / "b")
    assert (again.info.source, again.info.top1) == ("https://example.org", 50.0)
    assert checkpoint.restore(tmp_path / "b").metadata["extra"] == {"run": 7}
    # The published accuracy is not that of other variables.
    assert loaded.replace(variables=lite.variables).info.top1 is None
    zoo.save(tmp_path / "c", loaded, lite.variables)
    assert "accuracy" not in checkpoint.restore(tmp_path / "c").metadata


def test_metadata_go_through_jit(keras_like):
    """It does not give back what another checkpoint said."""
    same = jax.jit(lambda trained: trained)
    for extra in ('{"extra": 1}', '{"extra": 2}'):
        given = keras_like.replace(info=dataclasses.replace(keras_like.info, metadata=extra))
        assert same(given).info.metadata == extra


def test_labels_of_imagenet_and_accuracy_are_kept(lite):
    metadata = lite.to_metadata("again")
    assert metadata["labels"] == "imagenet1k"
    assert metadata["accuracy"]["top1"] == lite.info.top1 == 75.1
    assert len(metadata["source"]["sha256"]) == 64
    adapted = zoo.adapt(lite, num_classes=3).to_metadata("mine")
    assert "accuracy" not in adapted  # it is that of another classifier
    assert adapted["labels"] is None
    assert adapted["source"] == metadata["source"]


def test_a_fused_model_is_loaded_fused(keras_like, examples, tmp_path):
    fused = zoo.fuse(keras_like)
    fused.save(tmp_path / "fused")
    again = zoo.trained("MobileNetV1", weights=tmp_path / "fused")
    assert again.model.fused
    assert "batch_stats" not in again.variables
    cat = examples / "cat.jpg"
    assert again.classify(cat) == fused.classify(cat) == keras_like.classify(cat)


def test_copies_hold_the_variables_once(keras_like, examples):
    keras_like.classify(examples / "cat.jpg")  # which makes the fused ones
    size = sum(array.nbytes for array in jax.tree.leaves(keras_like.variables))
    assert size < len(pickle.dumps(keras_like)) < 1.1 * size + 20_000


def test_arguments_may_be_numpys_numbers(tmp_path):
    model = zoo.MobileNetV1(width=np.float32(0.25), num_classes=np.int64(2))
    variables = model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    zoo.save(tmp_path / "mine", model, variables)
    again = zoo.trained("MobileNetV1", weights=tmp_path / "mine")
    assert again.model == zoo.MobileNetV1(width=0.25, num_classes=2)


def test_a_path_is_a_place_and_may_be_at_home(keras_like, tmp_path, monkeypatch):
    """Not the name of public weights; "~" is the same place where it is saved and loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    zoo.save("~/IMAGENET1K", keras_like)
    for place in (Path("IMAGENET1K"), "./IMAGENET1K", "~/IMAGENET1K", Path("~/IMAGENET1K")):
        assert zoo.trained("MobileNetV1", weights=place).labels == keras_like.labels


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_of_other_channels_are_classified(keras_like, examples, tmp_path, channels):
    """Grey photos by one channel; by more, arrays, whose channels repeat the old ones' scale."""
    zoo.adapt(keras_like, channels=channels).save(tmp_path / "mine")
    mine = zoo.trained("MobileNetV1", weights=tmp_path / "mine")
    assert mine.channels == len(mine.info.preprocessing.mean) == channels
    array = np.random.default_rng(0).integers(256, size=(50, 60, channels), dtype=np.uint8)
    assert mine.preprocess(array).shape == (1, 64, 64, channels)
    assert sum(p for _, p in mine.classify(array)) == pytest.approx(1, abs=1e-2)  # bfloat16
    if channels == 1:
        assert mine.preprocess([examples / "cat.jpg", array[..., 0]]).shape == (2, 64, 64, 1)
    else:
        words = rf"an image of {channels} channels is an array \[H, W, {channels}\], got"
        for wrong in (examples / "cat.jpg", array[..., 0], array[..., :1]):
            with pytest.raises(zoo.ImageError, match=words):
                mine.preprocess(wrong)


def test_bands_are_resized_and_scaled_one_by_one(keras_like):
    """Three of four bands are what they are as the colours of a photo."""
    array = np.random.default_rng(0).integers(256, size=(80, 90, 4), dtype=np.uint8)
    four = SCALE.for_channels(4)(array)
    np.testing.assert_array_equal(four[..., :3], SCALE(array[..., :3]))
    np.testing.assert_array_equal(four[..., 3:], SCALE(array[..., [3, 3, 3]])[..., :1])


def test_another_size(keras_like, examples):
    """As large a share of the image is shown."""
    assert keras_like.preprocess(examples / "cat.jpg", size=96).shape == (1, 96, 96, 3)
    assert SCALE.resized(128).resize == 146
    for size in (0, -3, 2.5, "64"):
        with pytest.raises(ValueError, match="size must be an integer"):
            keras_like.preprocess(examples / "cat.jpg", size=size)


def test_arguments_make_any_model_again():
    """Through JSON, with options that are not the defaults."""
    options = {"num_classes": 7, "dtype": "bfloat16", "norm_eps": 0.01, "padding": "SAME"}
    for name, entry in MODELS.items():
        model = zoo.create(name.lower(), **options)
        arguments = json.loads(json.dumps(model.arguments))
        assert entry.constructor(**arguments) == model
        assert arguments["num_classes"] == 7
    dilated = zoo.ResNet50(output_stride=8, dtype=jnp.float16)
    assert dilated.arguments == {"num_classes": 1000, "output_stride": 8, "dtype": "float16"}


def test_what_no_constructor_makes_is_not_saved(keras_like, tmp_path):
    model, variables, _ = small("resnet")
    with pytest.raises(ValueError, match="ResNet that no constructor of the zoo made"):
        zoo.save(tmp_path / "mine", model, variables)
    changed = zoo.ResNet50().clone(base_width=32)
    with pytest.raises(ValueError, match="base_width=32, which its constructor does not take"):
        as_trained(changed, variables).save(tmp_path / "mine")
    assert not list(tmp_path.iterdir())


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"model": "MobileNetV9"}, "no model is named 'MobileNetV9'; did you mean"),
            ({"model": 7}, "model must be a name, got 7"),
            ({"preprocesing": {}}, "no entry 'preprocesing'; there are .*preprocessing"),
            ({"model": "MobileNetV2"}, "arguments cannot be used|has shape"),
            ({"labels": ["cat", "dog"]}, "2 labels for 4 classes"),
            ({"labels": ["cat", "dog", "", "cow"]}, "number 2 is ''"),
            ({"labels": "imagenet9k"}, "no labels 'imagenet9k'"),
            ({"labels": {"a": 1}}, "labels must be a list"),
            ({"arguments": {}}, r"has shape \(.*\) where the model has"),
            ({"arguments": {"widht": 0.25}}, "takes no argument 'widht'; did you mean width"),
            ({"arguments": {"width": 1e9}}, "width must be"),
            ({"arguments": {"num_classes": 10**7}}, "num_classes must be"),
            ({"arguments": {"num_classes": 2**63}}, "num_classes must be"),
            ({"arguments": {"norm_eps": 10**400}}, "norm_eps must be"),
            ({"arguments": {"dtype": "longdouble"}}, "dtype must be"),
            ({"arguments": {"param_dtype": "float8_e4m3fn"}}, "param_dtype must be"),
            ({"arguments": {"constructor": "VGG16"}}, "takes no argument 'constructor'"),
            ({"arguments": {"name": "x"}}, "takes no argument 'name'"),
            ({"arguments": {"stages": [[1, 64, 1]]}}, "takes no argument 'stages'"),
            ({"model": "mobilenetv1"}, "model must be 'MobileNetV1'"),
            ({"head": False}, "head is False, and there are weights for it"),
            ({"arguments": [1]}, "arguments must be a record"),
            ({"head": "yes"}, "head must be true or false"),
            ({"accuracy": {"top1": 715}}, "accuracy must be"),
            ({"accuracy": {"top1": float("nan")}}, "accuracy must be"),
            ({"accuracy": {"box_map": 100.5}}, "accuracy must be .* box_map"),
            ({"source": {"url": 5}}, "source must be"),
            ({"licence": ["MIT"]}, "licence must be a text"),
            ({"preprocessing": {"size": 64}}, "preprocessing must have size, resize"),
            ({"preprocessing": [1]}, "preprocessing must have size, resize"),
        ],
    )
    def test_metadata(self, keras_like, metadata, tmp_path, change, words):
        """By `save`, and, where somebody else has written them, by `trained`."""
        with pytest.raises(ValueError, match=words):
            checkpoint.save(tmp_path / "mine", keras_like.variables, {**metadata, **change})
        assert not list(tmp_path.iterdir())
        if "preprocesing" not in change:
            changed = {**metadata, **change}
            self.check_loading(keras_like.variables, changed, tmp_path, "weights|MobileNetV1")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("size", 0),
            ("size", "64"),
            ("size", True),
            ("resize", 10**9),
            ("resize", 63),
            ("interpolation", "cubic"),
            ("interpolation", ["bilinear"]),
            ("channels", "RGBA"),
            ("mean", [0.5, 0.5]),
            ("mean", 0.5),
            ("mean", [0.5, 0.5, None]),
            ("mean", [0.5, 0.5, 10**400]),
            ("std", [0.5, 0, 0.5]),
            ("std", [0.5, 1e-320, 0.5]),
            ("std", [0.5, float("inf"), 0.5]),
        ],
    )
    def test_preprocessing(self, keras_like, metadata, tmp_path, field, value):
        changed = {**metadata, "preprocessing": {**metadata["preprocessing"], field: value}}
        with pytest.raises(ValueError, match=f"preprocessing: .*{field}"):
            checkpoint.save(tmp_path / "mine", keras_like.variables, changed)
        self.check_loading(keras_like.variables, changed, tmp_path, "preprocessing: ")

    @pytest.mark.parametrize(
        ("path", "change", "words"),
        [
            ("params/head/bias", None, "params/head/bias has shape None"),
            ("params/head/kernel", lambda a: a.astype(np.int32), "has dtype int32"),
            ("params/stem/conv/kernel", lambda a: a[:2], "params/stem/conv/kernel has shape"),
            ("params/stem/norm/bias", lambda a: np.tile(a, 2), "params/stem/norm/bias has shape"),
            ("batch_stats/stem/norm/mean", None, "batch_stats/stem/norm/mean has shape None"),
            ("params/other", lambda a: np.ones(3, np.float32), "params/other has shape"),
        ],
    )
    def test_arrays(self, keras_like, metadata, tmp_path, path, change, words):
        arrays = dict(flatten_variables(jax.device_get(keras_like.variables)))
        if change is None:
            del arrays[path]
        else:
            arrays[path] = change(arrays.get(path))
        variables = checkpoint.unflatten_variables(arrays)
        with pytest.raises(ValueError, match=words):
            checkpoint.save(tmp_path / "mine", variables, metadata)
        self.check_loading(variables, metadata, tmp_path, words)

    def check_loading(self, variables, metadata, folder, words):
        """What a checkpoint of somebody else holds is an error of one line."""
        save_unchecked(folder / "theirs", variables, metadata)
        with pytest.raises(CheckpointError, match=words) as raised:
            zoo.trained("MobileNetV1", weights=folder / "theirs")
        assert "\n" not in str(raised.value)


def test_too_small_images_are_refused(tmp_path):
    model = zoo.SqueezeNet1_1(num_classes=2)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    small_images = SCALE.resized(8)
    with pytest.raises(ValueError, match="preprocessing: size must be at least"):
        zoo.save(tmp_path / "mine", model, variables, preprocessing=small_images)


def test_probabilities_that_are_not_finite_are_an_error(keras_like, examples):
    damaged = keras_like.replace(
        variables=jax.tree.map(lambda leaf: leaf * np.nan, keras_like.variables)
    )
    with pytest.raises(FloatingPointError, match="probabilities are not finite"):
        damaged.classify(examples / "cat.jpg")


def test_grey_and_colour_again(keras_like, examples):
    """One channel and three are photos, whichever way one came there."""
    again = zoo.adapt(zoo.adapt(keras_like, channels=1), channels=3)
    assert again.info.preprocessing.channels == "RGB"
    assert again.preprocess(examples / "cat.jpg").shape == (1, 64, 64, 3)


def test_arrays_of_another_byte_order_are_refused(keras_like):
    """As a file of another machine may have them, and jax does not take them."""
    swapped = jax.tree.map(lambda a: np.asarray(a).astype(">f4"), keras_like.variables)
    with pytest.raises(ValueError, match=r"has dtype .*in this machine's byte order"):
        check_arrays(swapped, keras_like.model)


def test_adapting_checks_the_labels(keras_like):
    assert zoo.adapt(keras_like, labels=np.array(["a", "b"])).labels == ("a", "b")
    with pytest.raises(ValueError, match="num_classes is 3, but there are 2 labels"):
        zoo.adapt(keras_like, labels=["cat", "dog"], num_classes=3)
    for labels in ("cat", [], ["cat", 3]):
        with pytest.raises(ValueError, match="labels must be"):
            zoo.adapt(keras_like, labels=labels)
