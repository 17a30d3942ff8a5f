"""Timings of what training adds to a model's step: the loop, the input, the changes of photos."""
