"""Timings of `zoo.visualize` and `zoo.dream`, beside captum and pytorch-grad-cam."""
