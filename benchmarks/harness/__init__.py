"""Timing: several programs in turn, on a CPU or a device, and the memory that they hold."""
