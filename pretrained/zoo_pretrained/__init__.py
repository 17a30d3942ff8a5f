"""Trained weights as data: where they come from, how they are kept, how they are converted."""

from zoo_pretrained.checkpoint import Checkpoint, CheckpointError, restore, save

__all__ = ["Checkpoint", "CheckpointError", "restore", "save"]
