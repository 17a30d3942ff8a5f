"""Parts that operators share: dispatch, windows, gradients, sharding, access to jax and Pallas."""
