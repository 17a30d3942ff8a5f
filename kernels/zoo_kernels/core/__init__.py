"""Parts shared by the operators: dispatch, windows, gradients, sharding, access to jax and Pallas."""
