"""Interleaved timing by the wall clock or a device's profiler, peak memory, recorded commands."""
