"""Tests of the load test of `zoo serve`."""
