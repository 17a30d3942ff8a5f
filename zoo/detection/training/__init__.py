"""Training of detectors, on the loop of `zoo.training`."""
