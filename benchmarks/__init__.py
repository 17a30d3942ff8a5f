"""Measurements beside PyTorch."""
