"""The GPU kernels' machine code, and a model of its time, without a GPU."""
