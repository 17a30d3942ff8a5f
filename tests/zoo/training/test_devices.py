"""Training on 8 devices, which XLA simulates in a process of its own, beside one device."""

import subprocess
import sys

import numpy as np
import pytest

from tests.zoo.training import eight_devices
from tests.zoo.training.tiny import losses, read_metrics, read_model, register_tiny, states
from zoo.data.dataset import DatasetError
from zoo.models.base import MODELS
from zoo.training.run import fit_batch_size
from zoo.training.settings import Settings, SettingsError


@pytest.fixture(autouse=True, scope="module")
def tiny(cached):
    register_tiny()
    yield
    del MODELS["TinyNet"]


@pytest.fixture(scope="module")
def eight(environment, root, tmp_path_factory):
    """The folder of the runs on eight devices, and what was printed."""
    folder = tmp_path_factory.mktemp("eight")
    flags = [environment.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", eight_devices.__name__, str(folder)],
        cwd=root,
        env={**environment, "XLA_FLAGS": " ".join(flags)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout.splitlines()


@pytest.fixture(scope="module")
def one(tiny, tmp_path_factory):
    """The folder of the same runs on one device."""
    folder = tmp_path_factory.mktemp("one")
    for name, settings in eight_devices.CASES.items():
        eight_devices.train(folder / name, settings)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", eight_devices.RUNS)
def test_eight_devices_train_as_one_does(name, eight, one):
    """Sums over the batch are rounded otherwise, which grows from step to step: to 1e-5."""
    got, want = eight[0] / name, one / eight_devices.RUNS[name][0]
    lines = read_metrics(got)
    assert len(losses(got)) >= 33
    assert losses(got)[-1] < 0.95 * losses(got)[0]
    for line, expected in zip(lines, read_metrics(want), strict=True):
        assert line == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert losses(got) == pytest.approx(losses(want), rel=1e-5)
    assert states(got) == states(want)
    variables, expected = read_model(got), read_model(want)
    for path, array in variables.items():
        np.testing.assert_allclose(array, expected[path], rtol=1e-3, atol=1e-4, err_msg=path)


@pytest.mark.slow
def test_norms_of_each_device_alone(eight, one):
    """They see 8 images rather than 64, so that the curve is another one, but a curve."""
    got, want = losses(eight[0] / "local"), losses(one / "plain")
    assert got[-1] < 0.95 * got[0]
    assert got == pytest.approx(want, rel=0.3)
    assert got != pytest.approx(want, rel=0.01)


@pytest.mark.slow
def test_a_batch_that_the_devices_do_not_divide(eight):
    assert eight[1][-2:] == [
        "batch_size must be a multiple of 8 (devices times accumulate), got 60",
        "batch_size must be a multiple of 16 (devices times accumulate), got 72",
    ]


def test_batches_of_few_images():
    settings = Settings(batch_size=64, accumulate=2)
    assert fit_batch_size(settings, 1000, 4) == 64
    assert fit_batch_size(settings, 63, 4) == 56
    with pytest.raises(DatasetError, match="7 training images are fewer than 8"):
        fit_batch_size(settings, 7, 4)
    with pytest.raises(SettingsError, match="batch_size must be a multiple of 10"):
        fit_batch_size(settings, 1000, 5)
