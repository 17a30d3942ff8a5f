"""Short trainings on 8 devices, each in a folder, for `test_devices`.

python -m tests.zoo.training.eight_devices FOLDER                (with 8 devices)
"""

import sys
from pathlib import Path

import jax

from tests.zoo.training.tiny import EVERYTHING, SETTINGS, register_tiny, smooth_net
from zoo.training import devices, fit, run
from zoo.training.checkpoints import Checkpoints
from zoo.training.settings import SettingsError

COMMON = {**SETTINGS, "rate": 1.0, "checkpoint_minutes": 9.0}
CASES = {
    "plain": COMMON,
    "accumulated": {**COMMON, "accumulate": 2},
    "everything": {**EVERYTHING, **COMMON, "optimizer": "adamw", "rate": 0.03},
}
# These are compared with the same on one device: a case, and whether parameters are sharded.
RUNS = {case: (case, False) for case in CASES} | {f"{case} sharded": (case, True) for case in CASES}
LOCAL = {**COMMON, "sync_norms": False}


def train(folder, settings):
    return fit(smooth_net(), "digits", folder=folder, workers=0, verbose=False, **settings)


class WatchedCheckpoints(Checkpoints):
    """Checks how the arrays lie of each state that is saved."""

    sharded = False

    def save(self, state, progress):
        check_shardings(state, self.sharded)
        super().save(state, progress)


def check_shardings(state, sharded):
    """Large arrays are spread over all devices, the optimizer's too, and others are whole."""
    shardings = {"whole": 0, "spread": 0}
    for tree in (state.variables["params"], state.optimizer):
        for array in jax.tree.leaves(tree):
            count = len({str(shard.index) for shard in array.addressable_shards})
            assert count == (8 if sharded and array.size >= devices.MIN_SHARDED_SIZE else 1)
            shardings["spread" if count > 1 else "whole"] += 1
    assert bool(shardings["spread"]) == sharded
    assert shardings["whole"]


def main():
    assert jax.device_count() == 8
    devices.MIN_SHARDED_SIZE = 100
    run.Checkpoints = WatchedCheckpoints
    register_tiny()
    folder = Path(sys.argv[1])
    for name, (case, sharded) in RUNS.items():
        WatchedCheckpoints.sharded = sharded
        train(folder / name, {**CASES[case], "shard_params": sharded})
        print(name, flush=True)
    WatchedCheckpoints.sharded = False
    train(folder / "local", LOCAL)
    for settings in ({"batch_size": 60}, {"batch_size": 72, "accumulate": 2}):
        try:
            train(folder / "none", {**COMMON, **settings})
        except SettingsError as error:
            print(error, flush=True)


if __name__ == "__main__":
    main()
