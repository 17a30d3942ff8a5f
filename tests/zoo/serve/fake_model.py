"""A model without weights that is served in tests, and a server of it that a test starts."""

import sys
import time
from types import SimpleNamespace

import numpy as np

from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Trained
from zoo.serve import server
from zoo.serve.app import Limits
from zoo_pretrained.catalogue import Label

THIRD = (1 / 3,) * 3
LABELS = tuple(Label(f"n{number}", name) for number, name in enumerate(("red", "green", "blue")))


class FakeModel:
    """Tells how red, green and blue a photo is; it keeps the sizes of its batches."""

    size = 8
    batch_sizes = (1, 4)

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.batches = []
        preprocessing = Preprocessing(self.size, self.size, "bilinear", THIRD, THIRD)
        self.info = SimpleNamespace(
            model="Fake", weights="none", licence="", labels=LABELS, preprocessing=preprocessing
        )

    def preprocess(self, images):
        return self.info.preprocessing(images)

    def probabilities(self, x):
        time.sleep(self.seconds)
        self.batches.append(len(x))
        powers = np.exp(np.asarray(x).mean((1, 2)))
        return powers / powers.sum(1, keepdims=True)

    def count_top(self, top=None):
        return 2

    def rank_labels(self, probabilities, top):
        return Trained.rank_labels(self, probabilities, top)


if __name__ == "__main__":
    host, seconds, queue = sys.argv[1:]
    server.run(
        FakeModel(float(seconds)),
        server.bind(host, 0),
        Limits(queue=int(queue), body_seconds=1),
        lambda address: print(address, flush=True),
    )
