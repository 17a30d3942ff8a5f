"""Tests of the benchmark of style transfer."""
