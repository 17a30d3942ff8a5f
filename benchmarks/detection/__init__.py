"""Detectors beside torchvision's: inference, post-processing, training, compilations."""
