"""Trains and evaluates classifiers: `fit` and `evaluate`, and what they are made of."""

from zoo.training.evaluation.evaluate import evaluate
from zoo.training.evaluation.metrics import Evaluation
from zoo.training.evaluation.mura import evaluate_mura
from zoo.training.fit import fit
from zoo.training.interrupts import InterruptedTrainingError
from zoo.training.losses import cross_entropy
from zoo.training.optimizers import make_optimizer, make_schedule
from zoo.training.reporting.record import read_record
from zoo.training.run import DivergenceError
from zoo.training.settings import Settings, SettingsError
from zoo.training.step import TrainState, init_train_state, make_train_step

__all__ = [
    "DivergenceError",
    "Evaluation",
    "InterruptedTrainingError",
    "Settings",
    "SettingsError",
    "TrainState",
    "cross_entropy",
    "evaluate",
    "evaluate_mura",
    "fit",
    "init_train_state",
    "make_optimizer",
    "make_schedule",
    "make_train_step",
    "read_record",
]
