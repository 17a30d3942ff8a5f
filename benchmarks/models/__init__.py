"""Whole models and layers beside flax and PyTorch."""
