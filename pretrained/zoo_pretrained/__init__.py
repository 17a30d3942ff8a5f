"""Trained weights as data: where they come from, how they are kept, how they are converted."""

from pretrained.store import Checkpoint, CheckpointError, restore, save

__all__ = ["Checkpoint", "CheckpointError", "restore", "save"]

# What `zoo` looks for: other distributions have import packages of this name.
DISTRIBUTION = "jax-zoo"
