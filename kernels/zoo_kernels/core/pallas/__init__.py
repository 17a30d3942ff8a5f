"""Triton kernels for NVIDIA GPUs, written in JAX's Pallas; nothing else imports Pallas.

They are written in files named `triton_*.py` beside the other implementations of their operators;
this folder has what they share: launches, tiles, sums over rows.

JAX has deprecated this backend of Pallas (its version 0.11), and names two successors. A move
touches these files alone; what each would need:

* jax-triton, and kernels in Triton's own language: `launch_kernel` becomes
  `jax_triton.triton_call`, and the bodies (`_convolution_kernel`, `_weight_grad_kernel` and their
  like) are written again in Triton, where they stay as they are, line for line: pointers, masks,
  arrays of powers of two. `TritonPass` stays: it gives what jax-triton lacks, vmap and
  partitioning. Of its releases, 0.4.1 does not work with jax 0.12.
* Mosaic GPU, on Hopper and later only: `launch_kernel` gets its compiler parameters, and the
  bodies other loads and stores, with explicit layouts in place of Triton's own; tables are
  measured again. Older GPUs would keep XLA's implementation.

`stencil`, the tables and the passes' bookkeeping stay in both cases.
"""
