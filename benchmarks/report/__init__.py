"""Tables and plots of `benchmarks/README.md`, made of the files of results."""
