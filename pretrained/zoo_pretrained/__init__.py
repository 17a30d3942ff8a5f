"""Trained weights as data, without any model's code.

Modules:
  catalogue: the published weights, with their sources, licences and labels.
  resolve: finds a model's weights: embedded, cached, in a store, or at their publisher.
  checkpoint: saves and restores checkpoints, which are folders in Orbax's layout.
  metadata: what a checkpoint's metadata may hold.
  convert: turns weights of PyTorch, timm, Keras and Flux into a model's variables.
  read: reads .pth, .safetensors, .h5, .keras and .jld2 files without their frameworks.
  remote_store: stores, which are folders or addresses where a group shares checkpoints;
    store_files: their files.
  fetch, hub: verified downloads, and those from the Hugging Face hub.
  cache, archive: the user's cache, and checkpoints as single files.
"""

from zoo_pretrained.checkpoint import Checkpoint, CheckpointError, restore, save

__all__ = ["Checkpoint", "CheckpointError", "restore", "save"]
