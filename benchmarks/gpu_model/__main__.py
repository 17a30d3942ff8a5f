"""Prints the modelled times of the GPU kernels; see `time_model`."""

from benchmarks.gpu_model.time_model import main

if __name__ == "__main__":
    main()
