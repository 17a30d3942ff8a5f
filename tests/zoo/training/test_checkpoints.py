"""States that are saved: read again as they were, or told to be damaged."""

import gc
import random
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zoo.training import TrainState, init_train_state
from zoo.training.checkpoints import Checkpoints, TrainingCheckpointError, _sum_words
from zoo.training.devices import make_placement

draw = np.random.default_rng(0)
VARIABLES = {
    "params": {"head": {"kernel": draw.normal(size=(40, 30)).astype(np.float32)}},
    "batch_stats": {"mean": draw.normal(size=7).astype(jnp.bfloat16)},
}


def make_state(step=0, average=True):
    state = init_train_state(VARIABLES, optax.adam(0.1), jax.random.key(3), average=average)
    return make_placement().put_state(state._replace(step=jnp.int32(step)))


def as_arrays(state):
    return jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))


def assert_same_state(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(as_arrays(got), as_arrays(want), strict=True):
        assert (a.dtype, a.sharding) == (b.dtype, b.sharding)
        np.testing.assert_array_equal(a, b)


@pytest.fixture(autouse=True, scope="module")
def small_heap():
    """Hides what earlier tests left from the garbage collector, which failed reads call."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the states of steps 2 and 3; that of step 1 is removed."""
    folder = tmp_path_factory.mktemp("saved")
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(make_state(step), {"loss": 0.1 * step, "skipped": ["ä"]})
    return folder


def restore(folder, **arguments):
    """The newest state, its progress, and what is told of damages."""
    told = []
    with Checkpoints(folder) as checkpoints:
        found = checkpoints.restore(lambda progress: make_state(**arguments), told.append)
    return (*found, told) if found else None


@pytest.mark.parametrize("average", [True, False])
def test_a_state_is_read_as_it_was(average, tmp_path):
    assert restore(tmp_path) is None
    progress = {"loss": 1 / 3, "factor": float("inf"), "skipped": []}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(5, average), progress)
        checkpoints.wait()
        assert checkpoints.newest() == 5
    state, got, told = restore(tmp_path, average=average)
    assert isinstance(state, TrainState)
    assert_same_state(state, make_state(5, average))
    assert (got, told) == (progress, [])


def test_the_newest_states_are_kept(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["2", "3"]
    state, progress, told = restore(saved)
    assert (int(state.step), progress["skipped"], told) == (3, ["ä"], [])


def test_a_changed_byte_is_noticed_or_does_not_matter(saved, tmp_path):
    """In each of the newest state's files; Orbax itself notices few.

    It always matters in the progress, in the index of the arrays, and in some file of their values.
    """
    generator, noticed = random.Random(5), set()
    files = [path for path in (saved / "3").rglob("*") if path.is_file() and path.stat().st_size]
    for number, file in enumerate(files):
        copy = shutil.copytree(saved, tmp_path / str(number))
        damaged = copy / file.relative_to(saved)
        data = bytearray(damaged.read_bytes())
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        damaged.write_bytes(data)
        state, progress, told = restore(copy)
        step = int(state.step)
        assert_same_state(state, make_state(step))
        assert progress["loss"] == 0.1 * step
        if step == 2:
            assert "the state of step 3 is damaged, and removed" in told[0]
            assert [path.name for path in copy.iterdir()] == ["2"]
            noticed.add(file.relative_to(saved / "3"))
    assert {Path("progress/metadata"), Path("state/manifest.ocdbt")} <= noticed
    assert {Path("state/d"), Path("state/ocdbt.process_0/d")} <= {path.parent for path in noticed}


def test_a_state_of_other_shapes_cannot_be_read(saved, tmp_path):
    copy = shutil.copytree(saved, tmp_path / "copy")
    with pytest.raises(TrainingCheckpointError, match="no state in"):
        restore(copy, average=False)
    assert len(list(copy.iterdir())) == 2


def test_a_state_that_cannot_be_written(tmp_path):
    with Checkpoints(tmp_path / "states") as checkpoints:
        checkpoints.save(make_state(1), {})
        checkpoints.wait()
        (tmp_path / "states").rename(tmp_path / "elsewhere")
        (tmp_path / "states").touch()
        with pytest.raises(TrainingCheckpointError, match=r"cannot be saved in .*states: "):
            checkpoints.save(make_state(2), {})
        (tmp_path / "states").unlink()
        (tmp_path / "elsewhere").rename(tmp_path / "states")
    state, _, told = restore(tmp_path / "states")
    assert (int(state.step), told) == (1, [])


def test_the_checksum_of_an_array():
    """Of words of four bytes, beside Python's integers; smaller ones are widened."""
    for dtype in (np.float32, np.int32, jnp.bfloat16, np.int8):
        array = draw.normal(scale=50, size=(3, 5, 7)).astype(dtype)
        words = array.reshape(-1).view(f"u{array.dtype.itemsize}")
        want = sum(int(word) * (2 * place + 1) for place, word in enumerate(words))
        assert int(_sum_words(jnp.asarray(array))) == want % (1 << 32)
