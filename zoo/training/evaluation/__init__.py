"""Evaluates classifiers on labelled images: predictions, metrics, and those of MURA."""
