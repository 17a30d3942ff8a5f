"""Selection of the best scores, of which detectors have millions."""

import jax
import jax.numpy as jnp
from jax import lax

from zoo.runtime.checks import check_count

NONE = -1  # the index of no score

# Of so many scores on a CPU, the best are found 10 times as fast in two steps.
LARGE, BLOCK = 1 << 20, 32


def top_scores(
    scores: jax.Array, count: int, threshold: float | jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The greatest scores in descending order, of equal ones the first; NaN and -inf are none.

    Args:
      scores: [N], of any size.
      count: how many are wanted at most.
      threshold: they must be above it; None for no threshold.

    Returns:
      The scores [count], and where they are among all, int32 [count]. Where there are no more, the
      score is -inf and the index -1.
    """
    check_count("count", count)
    scores = present(scores, threshold)
    size = scores.shape[0]
    taken = min(count, size)
    if size >= LARGE and size // BLOCK >= taken:
        # The best are all in the blocks whose maxima are greatest, of equal ones the first.
        blocks = jnp.pad(scores, (0, -size % BLOCK), constant_values=-jnp.inf).reshape(-1, BLOCK)
        chosen = jnp.sort(top_k(blocks.max(axis=1), taken)[1])
        best, places = top_k(blocks[chosen].reshape(-1), taken)
        indices = chosen[places // BLOCK] * BLOCK + places % BLOCK
    else:
        best, indices = top_k(scores, taken)
    indices = jnp.where(best > -jnp.inf, indices, NONE).astype(jnp.int32)
    missing = (0, count - taken)
    return (
        jnp.pad(best, missing, constant_values=-jnp.inf),
        jnp.pad(indices, missing, constant_values=NONE),
    )


def present(scores: jax.Array, threshold: float | jax.Array | None) -> jax.Array:
    """Scores, or -inf where they are NaN or not above a threshold."""
    least = -jnp.inf if threshold is None else threshold
    return jnp.where(scores > least, scores, -jnp.inf)


def top_k(scores: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """`lax.top_k`, kept from what follows: XLA's sort for it is 30 times as slow on a CPU.

    XLA recognises a selection only if its results are not sliced further.
    """
    return lax.optimization_barrier(lax.top_k(scores, count))
