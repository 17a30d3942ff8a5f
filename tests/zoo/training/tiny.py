"""A model that compiles in a second, short trainings of it, and what they leave in a folder."""

import json
from typing import ClassVar

import flax.linen as nn
import jax
import numpy as np

from zoo.models.base import MODELS, Model, register
from zoo.models.layers import ConvNorm
from zoo_pretrained.checkpoint import flatten_variables, restore

# Of 22 steps an epoch, each of which the record has; a state is saved after every other one.
SETTINGS = {
    "size": 8,
    "batch_size": 64,
    "rate": 0.05,
    "epochs": 1.5,
    "checkpoint_minutes": 0.0,
}
# All that draws random numbers, or is kept from one step to the next; the rate falls once.
EVERYTHING = {
    **SETTINGS,
    "rate": 3.0,
    "head_epochs": 0.5,
    "crop_scale": 0.7,
    "flip": 0.5,
    "mixup": 0.2,
    "average_decay": 0.9,
    "schedule": "plateau",
    "step_epochs": 0.25,
    "evaluate_epochs": 0.25,
}


class TinyNet(Model, kw_only=True):
    """One convolution with batch norm, and a classifier."""

    architecture: ClassVar[tuple[str, ...]] = ()

    features: int = 16
    act: str = "relu"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        self.check_images(x, train)
        options = self.layer_options
        conv = ConvNorm(self.features, 3, 2, act=self.act, options=options, name="stem")
        return self.logits(conv(x, train), train)


def smooth_net():
    """One without kinks, so that what is rounded otherwise stays close."""
    return TinyNet(act="silu")


def register_tiny():
    """Enters it into the table of models, as runs with a folder need."""
    register(input_size=8)(TinyNet)
    return MODELS[TinyNet.__name__]


def states(folder):
    """The steps of a run's states, the newest first."""
    names = [path.name for path in (folder / "states").iterdir()]
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def read_state(folder):
    """The arrays of a run's newest state by their paths, and its progress."""
    import orbax.checkpoint as ocp

    newest = folder / "states" / str(states(folder)[0])
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        how = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
            reader.metadata(newest / "state").item_metadata.tree,
        )
        arrays = reader.restore(newest / "state", restore_args=how)
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    progress = json.loads((newest / "progress" / "metadata").read_text())
    return {jax.tree_util.keystr(path): array for path, array in leaves}, progress


def read_model(folder):
    """The variables of a run's result by their paths."""
    return dict(flatten_variables(restore(folder / "model").variables))


def read_metrics(folder):
    """The lines of a run's record, without the times."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in ("time", "elapsed")} for line in lines]


def losses(folder):
    """The loss of each step."""
    return [line["loss"] for line in read_metrics(folder) if "loss" in line]


def assert_same_run(folder, expected):
    """Compares two finished runs bit by bit; nothing but a run is in the folder."""
    for read in (read_model, lambda run: read_state(run)[0]):
        got, want = read(folder), read(expected)
        assert got.keys() == want.keys()
        for path, array in got.items():
            assert array.dtype == want[path].dtype
            np.testing.assert_array_equal(array, want[path], err_msg=path)
    assert read_state(folder)[1] == read_state(expected)[1]
    assert read_metrics(folder) == read_metrics(expected)
    assert {path.name for path in folder.iterdir()} - {".lock"} == {
        "settings.toml", "run.json", "metrics.jsonl", "states", "model", "report.html",
    }  # fmt: skip
    assert all(path.name.isdecimal() for path in (folder / "states").iterdir())
