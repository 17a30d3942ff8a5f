"""Checkpoints of PyTorch Lightning, with all that it saves beside the weights."""

import jax
import numpy as np
import pytest

import zoo
from tests.pretrained.read.hostile import call, ordered_dict, storage, tensor, torch_zip
from tests.zoo.checkpoints import upstream
from tests.zoo.checkpoints.upstream import MODEL
from zoo_pretrained import restore
from zoo_pretrained.convert import ConversionError

STATE = upstream.state(num_classes=7)


def write(path, name, more=()):
    """A `.ckpt` as `Trainer.save_checkpoint` writes it, of a module that calls its model so."""
    arrays = {f"{name}.{key}": array for key, array in STATE.items()} | dict(more)
    entries, storages = {}, {"score": np.float32([0.9])}
    for number, (key, array) in enumerate(arrays.items()):
        held = storage(str(number), "Float", array.size)
        strides = tuple(stride // 4 for stride in array.strides)
        entries[key] = tensor(held, array.shape, strides)
        storages[str(number)] = array
    callback = {
        "monitor": "val_loss",
        "best_model_score": tensor(storage("score", "Float", 1), (), ()),
        "best_k_models": {"epoch=3.ckpt": tensor(storage("score", "Float", 1), (), ())},
        "dirpath": "checkpoints",
    }
    value = {
        "epoch": 4,
        "global_step": 1000,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": ordered_dict(entries),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": callback},
        "optimizer_states": [{"state": {0: {"step": 1.0}}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [{"base_lrs": [0.1], "_step_count": 5}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "name": "squeezenet", "milestones": (30, 60)},
        "datamodule": call("collections.OrderedDict"),
    }
    return torch_zip(path, value, storages)


@pytest.mark.parametrize("name", ["model", "net", "backbone.model"])
def test_a_lightning_checkpoint_converts(name, tmp_path):
    file = write(tmp_path / "epoch=3-step=1000.ckpt", name)
    zoo.convert(file, MODEL, tmp_path / "mine")
    variables = restore(tmp_path / "mine").variables
    stem = STATE["features.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(variables["params"]["stem"]["kernel"], stem)
    head = STATE["classifier.1.bias"]
    np.testing.assert_array_equal(variables["params"]["head"]["bias"], head)
    assert len(jax.tree.leaves(variables)) == len(STATE)


def test_a_loss_with_weights_beside_the_model_is_told(tmp_path):
    file = write(tmp_path / "last.ckpt", "net", {"loss.weight": np.ones(7, np.float32)})
    with pytest.raises(ConversionError, match=r"52 of 53 entries lie under 'net\.'") as raised:
        zoo.convert(file, MODEL, tmp_path / "mine")
    assert raised.value.hints[-1] == "try inside='net'"
    zoo.convert(file, MODEL, tmp_path / "mine", inside="net")
