"""Benchmarks of operators, layers and models beside lax, flax and PyTorch."""
