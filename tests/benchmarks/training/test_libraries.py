"""The benchmark of libraries of augmentation: each makes what it is timed for."""

from importlib import metadata

import numpy as np
import pytest

from benchmarks.training import libraries

LIBRARIES = [
    pytest.param(name, marks=[pytest.mark.peer] * (name != "albumentations"))
    for name in libraries.LIBRARIES
]


@pytest.mark.parametrize("name", LIBRARIES)
def test_photos_are_cropped_flipped_and_coloured(name):
    make = libraries.LIBRARIES[name]
    for colors in libraries.CASES.values():
        change = make(colors)
        first, second = np.asarray(change()), np.asarray(change())
        if name == "torch":
            first, second = np.moveaxis(first, 1, -1), np.moveaxis(second, 1, -1)
        size = libraries.SIZE
        assert first.shape == (libraries.BATCH, size, size, 3)
        assert len(np.unique(np.concatenate([first, second]), axis=0)) == 2 * libraries.BATCH
        white = 255 if first.dtype == np.uint8 else 1
        assert 0.2 < first.mean() / white < 0.8
        assert first.std() / white > 0.1


def test_a_library_that_is_not_installed_is_left_out_with_the_reason(monkeypatch):
    def version(package):
        if package in ("dm_pix", "torchvision"):
            raise metadata.PackageNotFoundError(package)
        return "1"

    monkeypatch.setattr(metadata, "version", version)
    started = {}

    def interleave(candidates, rounds, cases, longest):
        started.update(candidates)
        return [libraries.interleaved.Measurement({"albumentations": [1.0]}, {}, {}, {})]

    monkeypatch.setattr(libraries.interleaved, "interleave", interleave)
    ((row, rounds, _),) = libraries.measure(["crop and flip"], 2, 1.0, lambda *each: [*each])
    assert started.keys() == {"albumentations", "augmax"}
    assert row["refusals"] == {
        "torch": "it needs the package torchvision",
        "dm_pix": "it needs the package dm_pix",
    }
    assert rounds == {"albumentations": [1.0]}
