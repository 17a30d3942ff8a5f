"""The record of a run: whole lines of JSON, also where a run was killed."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from zoo.training.reporting.record import Record, read_record


def write(path, steps, resume_step=0):
    with Record(path, resume_step) as record:
        for step in steps:
            record.write(step, step // 10, {"loss": 1 / step})


def steps(path):
    return [line["step"] for line in read_record(path)]


def test_each_line_is_json_at_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with Record(path) as record:
        record.write(
            7, 1, {"loss": np.float32(0.5), "rate": jnp.float32(0.25), "classes": np.arange(2)}
        )
        (line,) = map(json.loads, path.read_text().splitlines())  # before it is closed
    assert line["loss"] == 0.5
    assert (line["step"], line["epoch"], line["rate"], line["classes"]) == (7, 1, 0.25, [0, 1])
    assert 0 <= line["elapsed"] < 60
    assert line["time"] > 1.7e9


def test_values_that_are_not_finite_become_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with Record(path) as record:
        values = [np.inf, {"x": -np.inf}, np.float32(np.nan), jnp.array([jnp.nan, 1])]
        record.write(1, 0, {"loss": np.nan, "more": values})

    def refuse(constant):
        raise AssertionError(constant)

    line = json.loads(path.read_text(), parse_constant=refuse)
    assert (line["loss"], line["more"]) == (None, [None, {"x": None}, None, [None, 1]])


def test_a_resumed_run_goes_on_after_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 8))
    with path.open("ab") as file:
        file.write(b'{"step": 8, "epo')
    assert steps(path) == [1, 2, 3, 4, 5, 6, 7]
    write(path, [6, 7], resume_step=5)
    assert steps(path) == [1, 2, 3, 4, 5, 6, 7]
    assert len(path.read_text().splitlines()) == 7


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_half_written_line_is_dropped(cut, tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [1, 2, 3])
    path.write_bytes(path.read_bytes()[:-cut])
    assert steps(path) == [1, 2]
    write(path, [4], resume_step=3)
    assert steps(path) == [1, 2, 4]


def test_elapsed_time_goes_on_where_it_was(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 3, "elapsed": 1000}\n{"step": 4, "elapsed": 5000}\n')
    write(path, [4], resume_step=3)
    assert 1000 <= read_record(path)[-1]["elapsed"] < 1060


def test_a_new_run_begins_a_new_record(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [1, 2])
    write(path, [1])
    assert steps(path) == [1]


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")
    with Record(path) as record, pytest.raises(OSError, match=r"No space left.*metrics\.jsonl"):
        record.write(1, 0, {})


def test_tensorboard_gets_the_finite_numbers(tmp_path):
    pytest.importorskip("tensorboardX", reason="an optional extra")
    from tensorboardX.proto.event_pb2 import Event

    with Record(tmp_path / "metrics.jsonl", 0, tmp_path / "board") as record:
        record.write(3, 0, {"loss": 0.5, "validation_loss": np.float32(0.25), "rate": np.nan})
    (file,) = (tmp_path / "board").iterdir()
    data, events = file.read_bytes(), []
    while data:  # length, its checksum, the event, its checksum
        length = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    scalars = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
    assert scalars == [(3, "loss", 0.5), (3, "validation_loss", 0.25)]
