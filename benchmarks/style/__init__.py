"""Timings of `zoo.style` beside PyTorch, and the quality of its styles."""
