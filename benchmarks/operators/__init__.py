"""Operators beside lax and PyTorch."""
