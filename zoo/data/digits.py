"""Scikit-learn's handwritten digits, which need no download: for tests and first tries."""

import numpy as np

from zoo.data.dataset import Dataset
from zoo.runtime.extras import require


def load_digits() -> Dataset:
    """The 1,797 digits of scikit-learn, grey arrays [8, 8, 1], in ten classes "0" to "9".

    They are the test part of the UCI set "Optical Recognition of Handwritten Digits".

    Raises:
      MissingExtraError: scikit-learn is not installed.
    """
    digits = require("sklearn.datasets", "train").load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    return Dataset(images=images, labels=digits.target, classes=tuple("0123456789"))
