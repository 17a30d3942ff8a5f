"""Benchmarks of whole models and single layers, beside flax and PyTorch."""
