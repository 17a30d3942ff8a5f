"""Saves the state of a training again and again, and finds the newest that can be read."""

import gc
import json
import logging
import os
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from zoo.training.interrupts import InterruptedTrainingError
from zoo.training.processes import together
from zoo.training.step import TrainState
from zoo_pretrained.printable import OneLineError
from zoo_pretrained.temporary import reserve_space

Progress = dict[str, Any]
Result = TypeVar("Result")

# Seconds in which reads that were abandoned end.
ABANDONED = 0.1


class TrainingCheckpointError(OneLineError, Exception):
    """A training's state cannot be saved or restored."""


class Checkpoints:
    """The states of one training in a folder: the newest few, each complete or not there.

    Saving goes on in the background while the training goes on.

    Args:
      folder: made if it does not exist.
      keep: how many states are kept.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 2) -> None:
        import orbax.checkpoint as ocp

        self._ocp = ocp
        number = jax.process_index()
        self._alone = ocp.options.MultiprocessingOptions(
            primary_host=number, active_processes={number}
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            enable_async_checkpointing=True,
            cleanup_tmp_directories=True,
            # In the background, Orbax's processes would learn from the number of a save that its
            # folders are there. Each process counts its saves, and the first one saves the best
            # models alone: the others would look for another number, and write too early.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        )
        self._folder = Path(folder).absolute()
        self._manager = ocp.CheckpointManager(
            self._folder, options=options, item_names=("state", "progress")
        )

    def save(self, state: TrainState, progress: Mapping[str, Any]) -> None:
        """Begins to save a state, after the one before is complete.

        Args:
          state: its arrays may be donated when this returns.
          progress: JSON of what else the training must know to go on.

        Raises:
          TrainingCheckpointError: this one, or the one before, cannot be written.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        arrays = _to_arrays(state)
        progress = {**progress, "checksums": _checksums(arrays, progress)}
        items = self._ocp.args.Composite(
            state=self._ocp.args.StandardSave(arrays), progress=self._ocp.args.JsonSave(progress)
        )
        with together():  # what fails in one process only would leave the others waiting
            self._report(self._manager.wait_until_finished)
            self._report(lambda: reserve_space(self._folder, _count_bytes(arrays)))
        self._report(lambda: self._manager.save(step, args=items))

    def wait(self) -> None:
        """Waits until all is saved; TrainingCheckpointError if it cannot be."""
        with together():
            self._report(self._manager.wait_until_finished)

    def _report(self, save: Callable[[], Any]) -> None:
        try:
            save()
        except Exception as error:  # Orbax and TensorStore raise many kinds, of a full disk too
            cause = str(error).partition("\n")[0] or type(error).__name__
            kept = self._manager.latest_step()
            hint = "none is kept" if kept is None else f"that of step {kept} is kept"
            raise TrainingCheckpointError(
                f"the state cannot be saved in {self._folder}: {cause}; {hint}"
            ) from error

    def restore(
        self, make_state: Callable[[Progress], TrainState], warn: Callable[[str], None]
    ) -> tuple[TrainState, Progress] | None:
        """The newest state that can be read; damaged ones are removed, and said so.

        Args:
          make_state: progress → a state of the same shapes, placed where the new one is to lie.
          warn: takes a message for each state that is damaged.

        Returns:
          (state, progress), or None where there is no state at all.

        Raises:
          TrainingCheckpointError: there are states, but none can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for number, step in enumerate(steps):
            try:
                with together():  # each process reads what it holds, and may find other damage
                    arrays, like, progress = _read_quietly(partial(self._read, step, make_state))
                if progress.pop("checksums") != _checksums(arrays, progress):
                    raise TrainingCheckpointError("its values are not those that were saved")
            except Exception as error:  # whatever a damaged file makes of the readers
                cause = str(error).partition("\n")[0] or type(error).__name__
                warn(f"the state of step {step} is damaged, and removed: {cause}")
                continue
            for damaged_step in steps[:number]:  # else they could not be saved again
                self._manager.delete(damaged_step)
            return _from_arrays(arrays, like), progress
        if steps:
            raise TrainingCheckpointError(
                f"no state in {self._folder} can be read; remove the folder to begin anew"
            )
        return None

    def _read(
        self, step: int, make_state: Callable[[Progress], TrainState]
    ) -> tuple[dict[str, Any], TrainState, Progress]:
        """The arrays of a state, another state of these shapes, and the progress."""
        ocp, folder = self._ocp, self._folder / str(step)
        with ocp.Checkpointer(
            ocp.JsonCheckpointHandler(), multiprocessing_options=self._alone
        ) as reader:
            progress: Progress = reader.restore(folder / "progress")
        like = make_state(progress)
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=self._alone)
        with ocp.Checkpointer(handler, multiprocessing_options=self._alone) as reader:
            wanted = ocp.args.StandardRestore(_to_arrays(like))
            return reader.restore(folder / "state", args=wanted), like, progress

    def newest(self) -> int | None:
        """The step of the newest state; None where there is none."""
        step: int | None = self._manager.latest_step()
        return step

    def stop(self, step: int, signal_number: int) -> NoReturn:
        """Waits until all is saved, and raises InterruptedTrainingError.

        Args:
          step: the newest, which is being saved.
          signal_number: what told the training to stop.
        """
        self.wait()
        raise InterruptedTrainingError(
            f"interrupted; step {step} is saved, and the same call goes on from there",
            signal_number,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits until all is saved, and ends the threads."""
        try:
            self._report(self._manager.close)
        except TrainingCheckpointError:
            if kind is None:  # else the first error counts
                raise


def _read_quietly(read: Callable[[], Result]) -> Result:
    """What `read` returns; an error has no pages about the reads that Orbax abandons after it."""
    hook, logger = sys.unraisablehook, logging.getLogger("asyncio")
    was_disabled = logger.disabled
    sys.unraisablehook, logger.disabled = lambda unraisable: None, True
    try:
        return read()
    except Exception as error:
        # Without the traceback, which holds what Python would complain of later.
        failure = error.with_traceback(None)
        failure.__cause__ = failure.__context__ = None
        time.sleep(ABANDONED)
        gc.collect()
        raise failure from None
    finally:
        sys.unraisablehook, logger.disabled = hook, was_disabled


def _to_arrays(state: TrainState) -> dict[str, Any]:
    """A state as nested dicts of plain arrays, without the random key's type."""
    arrays = {**state._asdict(), "key": jax.random.key_data(state.key)}
    return {name: tree for name, tree in arrays.items() if tree is not None}


def _from_arrays(arrays: Mapping[str, Any], like: TrainState) -> TrainState:
    impl = jax.random.key_impl(like.key)
    return TrainState(**{**arrays, "key": jax.random.wrap_key_data(arrays["key"], impl=impl)})


def _count_bytes(arrays: Any) -> int:
    """What this process writes of the arrays."""
    return sum(
        shard.data.nbytes
        for array in jax.tree.leaves(arrays)
        for shard in array.addressable_shards
        if shard.replica_id == 0
    )


def _checksums(arrays: Mapping[str, Any], progress: Mapping[str, Any]) -> list[int]:
    """Numbers that tell damage: of the progress and of each array, however it is spread.

    Orbax's files have no checksums of arrays, so that a damaged byte would pass.
    """
    replicated = arrays["step"].sharding
    sums = jax.jit(_sum_all, out_shardings=replicated)(arrays)
    return [zlib.crc32(json.dumps(progress).encode()), *np.asarray(sums).tolist()]


def _sum_all(arrays: Any) -> jax.Array:
    return jnp.stack([_sum_words(array) for array in jax.tree.leaves(arrays)])


def _sum_words(array: jax.Array) -> jax.Array:
    """The sum of an array's words, each times an odd number of its place, modulo 2³²."""
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(array.dtype.itemsize, jnp.uint32)
    words = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        place = place * size + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    return (words * (2 * place + 1)).sum(dtype=jnp.uint32)
