"""MixUp and CutMix: batches of images that are mixed in pairs, and their labels with them."""

import jax
import jax.numpy as jnp


def mix(
    images: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    key: jax.Array,
    *,
    num_classes: int,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mixes each image with another one of the batch.

    MixUp (Zhang et al. 2017, arXiv 1710.09412) adds them, in shares that are drawn from Beta(α, α)
    for the batch; CutMix (Yun et al. 2019, arXiv 1905.04899) pastes a rectangle of one into the
    other, whose area is drawn so.

    Args:
      images: [N, H, W, C].
      labels: class numbers [N].
      weights: of the images in the loss [N].
      key: a random key.
      num_classes: how many there are.
      mixup, cutmix: α of each; 0 is off. With both, a coin decides for the batch.

    Returns:
      (images, labels, weights): labels are probabilities [N, num_classes] now.
    """
    choose, draw, place = jax.random.split(key, 3)
    use_cutmix = jax.random.bernoulli(choose) if mixup and cutmix else jnp.asarray(bool(cutmix))
    alpha = jnp.where(use_cutmix, cutmix or 1.0, mixup or 1.0)
    share = jax.random.beta(draw, alpha, alpha, dtype=jnp.float32)  # of the image itself
    height, width = images.shape[1:3]
    inside = _draw_rectangle(place, height, width, 1 - share)
    own = jnp.where(use_cutmix, 1.0 - inside, share)[None, ..., None]
    share = jnp.where(use_cutmix, 1 - inside.mean(), share)
    mixed = own * images + (1 - own) * images[::-1]
    truth = jax.nn.one_hot(labels, num_classes, dtype=weights.dtype) * weights[:, None]
    truth = share * truth + (1 - share) * truth[::-1]
    weights = share * weights + (1 - share) * weights[::-1]
    # Without an image that counts, the weight is 0, and the label does not matter.
    return mixed.astype(images.dtype), truth / jnp.maximum(weights, 1e-9)[:, None], weights


def _draw_rectangle(key: jax.Array, height: int, width: int, area: jax.Array) -> jax.Array:
    """1 inside a rectangle of a share of the area, cut off at the edges, and 0 outside [H, W]."""
    centers = jax.random.uniform(key, (2,), jnp.float32)

    def within(center: jax.Array, size: int) -> jax.Array:
        half = jnp.sqrt(area) * size / 2
        return jnp.abs(jnp.arange(size, dtype=jnp.float32) + 0.5 - center * size) < half

    rows, columns = within(centers[0], height), within(centers[1], width)
    return (rows[:, None] & columns[None]).astype(jnp.float32)
