"""Benchmark of the operators, beside lax and PyTorch."""
