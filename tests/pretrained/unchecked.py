"""Checkpoints as somebody may write them without our checks."""

import pytest

from zoo_pretrained import checkpoint


def save_unchecked(folder, variables, metadata):
    """Saves a checkpoint whose metadata and variables may be anything."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("check_names", "check_metadata"):
            patch.setattr(checkpoint, name, lambda record: None)
        patch.setattr(checkpoint, "_CHECKS", [])
        checkpoint.save(folder, variables, metadata)
