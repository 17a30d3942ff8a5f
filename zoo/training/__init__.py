"""Trains classifiers."""
