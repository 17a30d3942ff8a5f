"""Checkpoints of models: converted, exported, and held against the model that they are for."""
