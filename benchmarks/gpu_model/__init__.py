"""GPU kernels as machine code, and a model of their time, without a GPU."""
