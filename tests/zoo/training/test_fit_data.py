"""Trainings on photos and arrays that are few, broken, or of many channels."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.zoo.training.tiny import TinyNet, register_tiny
from zoo.data.dataset import Dataset, DatasetError
from zoo.data.load import Splits
from zoo.models.base import MODELS
from zoo.training import DivergenceError, Settings, SettingsError, fit
from zoo.training.fit import choose_settings

SETTINGS = {"epochs": 2, "batch_size": 8, "rate": 0.1, "size": 8, "workers": 0, "verbose": False}


@pytest.fixture(scope="module", autouse=True)
def _tiny(cached):
    register_tiny()
    yield
    del MODELS[TinyNet.__name__]


def shades(count=40, channels=3, seed=0):
    """Dark images of one class and bright ones of the other."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = random.integers(0, 100, (count, 8, 8, channels), np.uint8) + 150 * labels.astype(
        np.uint8
    ).reshape(-1, 1, 1, 1)
    return Dataset(images=images, labels=labels, classes=("dark", "bright"))


def save_photos(folder, dataset, save):
    for number, (image, label) in enumerate(zip(dataset.images, dataset.labels, strict=True)):
        place = folder / dataset.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        save(place / f"photo{number}", image)
    return folder


@pytest.fixture
def photos(tmp_path):
    def save(path, image):
        Image.fromarray(image).save(path.with_suffix(".png"))

    return save_photos(tmp_path / "photos", shades(), save)


def test_a_folder_of_photos_becomes_a_classifier(photos, tmp_path):
    trained = fit(TinyNet(), photos, folder=tmp_path / "run", **SETTINGS)
    assert trained.labels == ("bright", "dark")
    assert trained.channels == 3
    right = [trained.classify(path, top=1)[0][0] == path.parent.name for path in photos.glob("*/*")]
    assert np.mean(right) > 0.9
    assert (tmp_path / "run" / "report.html").read_text().count("photo") > 5


def test_a_broken_photo_is_named_once_and_does_not_count(photos, capfd):
    broken = sorted((photos / "dark").iterdir())[3]
    broken.write_bytes(b"no photo")
    trained = fit(TinyNet(), photos, **{**SETTINGS, "validation": 0.0, "verbose": True})
    shown = capfd.readouterr().err
    assert shown.count(f"skipped: {broken}") == 1
    assert shown.count("skipped:") == 1
    assert np.isfinite(trained.variables["params"]["head"]["kernel"]).all()


def test_too_many_broken_photos_are_an_error(photos):
    for path in sorted((photos / "dark").iterdir())[:12]:
        path.write_bytes(b"no photo")
    with pytest.raises(DatasetError, match=r"\d+ of 40 images cannot .*the last one: .*photo"):
        fit(TinyNet(), photos, **{**SETTINGS, "validation": 0.0})


@pytest.mark.parametrize("at", [1, 60, 100, 170])  # of the 320 that four epochs read
def test_an_error_of_the_data_set_is_the_training_s(at):
    class Images(list):
        reads = itertools.count(1)

        def __getitem__(self, index):
            if next(self.reads) == at:
                raise RuntimeError("the data set fails")
            return super().__getitem__(index)

    dataset = shades(80)
    dataset = dataclasses.replace(dataset, images=Images(dataset.images))
    with pytest.raises(RuntimeError, match="the data set fails"):
        fit(TinyNet(), Splits(dataset, None), **{**SETTINGS, "epochs": 4})


def test_images_of_other_channels_are_an_error_that_says_so():
    with pytest.raises(DatasetError, match=r"\d+ of 32 images .* \[H, W, 4\], got \(8, 8, 5\)"):
        fit(TinyNet(), shades(channels=5), channels=4, **SETTINGS)


def test_arrays_of_five_bands_from_a_folder_to_a_class(tmp_path):
    folder = save_photos(tmp_path / "bands", shades(channels=5), np.save)
    settings = {**SETTINGS, "crop_scale": 0.5, "flip": 0.5, "randaugment": 1}
    trained = fit(TinyNet(), folder, channels=5, **settings)
    trained.save(tmp_path / "saved")
    loaded = zoo.trained("TinyNet", weights=tmp_path / "saved")
    assert loaded.channels == 5
    paths = sorted(folder.glob("*/*.npy"))
    for path in paths[:5]:
        assert loaded.classify(path) == trained.classify(np.load(path))
    right = [
        ranked[0][0] == p.parent.name
        for p, ranked in zip(paths, loaded.classify(paths), strict=True)
    ]
    assert np.mean(right) > 0.8


def test_fewer_images_than_a_batch():
    trained = fit(TinyNet(), shades(10), **{**SETTINGS, "batch_size": 512, "epochs": 3})
    assert np.isfinite(trained.variables["params"]["head"]["kernel"]).all()


def test_a_rare_class_counts_as_much_as_a_frequent_one(tmp_path):
    """Of images that are all alike, what is learnt is how often each class counts."""
    labels = np.array([0] * 30 + [1] * 10)
    dataset = Dataset(images=np.full((40, 8, 8, 1), 9, np.uint8), labels=labels, classes=("a", "b"))
    settings = {**SETTINGS, "validation": 0.0, "epochs": 60, "batch_size": 40, "rate": 2.0}
    settings |= {"freeze": ("stem",), "freeze_norms": ("**",)}

    def share(class_weights):
        trained = fit(TinyNet(), dataset, **{**settings, "class_weights": class_weights})
        return dict(trained.classify(dataset.images[0]))["b"]

    assert share("none") == pytest.approx(0.25, abs=0.02)
    assert share("balanced") == pytest.approx(0.5, abs=0.02)


def test_on_a_plateau_the_rate_is_lowered_but_not_while_the_head_is_trained(tmp_path):
    """A rate that changes nothing is a plateau from the start."""
    settings = {**SETTINGS, "schedule": "plateau", "step_epochs": 2, "step_factor": 0.5}
    settings |= {"rate": 1e-12, "freeze_norms": ("**",), "epochs": 6, "head_epochs": 3}
    fit(TinyNet(), shades(), folder=tmp_path / "run", **settings)
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    per_epoch = len(rates) // 9
    # The first evaluation after the head is the best so far, and two epochs later none was better.
    want = np.repeat([1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.25], per_epoch)
    np.testing.assert_allclose(rates, 1e-12 * want, rtol=1e-6)


def test_divergence_stops_at_its_step():
    with pytest.raises(DivergenceError, match=r"diverged in step \d+: grad_norm (nan|inf).*clip"):
        fit(TinyNet(), shades(), **{**SETTINGS, "rate": 1e9, "epochs": 20, "optimizer": "sgd"})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epoch": 1}, SettingsError, "no setting 'epoch'; did you mean epochs"),
        ({"epochs": -1}, SettingsError, "epochs must be more than 0"),
        ({"settings": "fine"}, SettingsError, "must be one of cifar10, detection, finetune"),
        ({"size": 2}, SettingsError, "size must be at least 8"),
        ({"batch_size": 9, "accumulate": 2}, SettingsError, "batch_size must be a multiple of 2"),
        (
            {"accumulate": 64, "batch_size": 64},
            DatasetError,
            "32 training images are fewer than 64",
        ),
        ({"freeze": ["stm"]}, SettingsError, "freeze: 'stm' matches no module"),
        ({"channels": 0}, SettingsError, "channels must be an integer of at least 1"),
        ({"validation": 1}, SettingsError, "validation must be at least 0 and less than 1"),
        ({"tensorboard": True}, ValueError, "tensorboard needs folder"),
    ],
)
def test_what_does_not_fit_is_an_error_before_anything_compiles(options, error, message):
    with pytest.raises(error, match=message):
        fit(TinyNet(), shades(), **{**SETTINGS, **options})


def test_a_run_that_cannot_begin_leaves_nothing_in_its_folder(tmp_path):
    settings = {**SETTINGS, "epochs": 1, "folder": tmp_path / "run"}
    with pytest.raises(SettingsError, match="matches no module"):
        fit(TinyNet(), shades(), freeze=["stm"], **settings)
    fit(TinyNet(), shades(), freeze=["stem"], **settings)


def test_one_class_is_an_error():
    with pytest.raises(DatasetError, match="there is one class only"):
        fit(TinyNet(), (np.zeros((9, 8, 8, 3), np.uint8), np.zeros(9, int)), **SETTINGS)


def test_settings_are_of_a_recipe_a_file_or_given(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("epochs = 1\nbatch_size = 16\n")
    mine = Settings(epochs=1, batch_size=16)
    for given in (mine, path, str(path)):
        assert choose_settings(given, True, {"rate": 2}) == mine.replace(rate=2)
    assert choose_settings("imagenet", True, {}) == Settings.read("imagenet")
    assert choose_settings(None, True, {"rate": 2}) == Settings(rate=2)
    assert choose_settings(None, False, {"rate": 2}) == Settings.read("finetune", rate=2)
