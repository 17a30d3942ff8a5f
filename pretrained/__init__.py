"""Trained weights as data: where they come from, how they are kept, how they are converted."""

# What `zoo` looks for: other distributions have import packages of this name.
DISTRIBUTION = "jax-zoo"
