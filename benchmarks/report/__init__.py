"""Tables and plots of `benchmarks/README.md`, generated from the files of results."""
