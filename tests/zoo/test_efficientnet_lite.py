"""EfficientNet-Lite: its numbers, its shapes, its training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from pretrained.store import leaves
from tests.zoo.random_variables import thin_lite
from zoo.models.efficientnet_lite import round_channels

# Millions of parameters in the table of the reference implementation's README.
PUBLISHED = {0: 4.7, 1: 5.4, 2: 6.1, 3: 8.2, 4: 13.0}


@pytest.mark.parametrize("size", PUBLISHED)
def test_parameter_counts_are_the_published(size):
    model = getattr(zoo, f"EfficientNetLite{size}")()
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert round(count / 1e6, 1) == PUBLISHED[size]


def test_channels_are_rounded_to_eights_and_never_below_nine_tenths():
    # 24 · 1.1 = 26.4 is nearer to 24; 12 lies midway; 4 is lifted to the least.
    assert [round_channels(c) for c in (26.4, 12, 4, 33.6)] == [24, 16, 8, 32]
    assert round_channels(11) == 16  # 8 would be less than 9.9


def test_logits_of_an_odd_size():
    model, variables, x = thin_lite()
    logits = jax.jit(model.apply)(variables, x)
    assert logits.shape == (2, 5)
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all()
    assert float(jnp.abs(logits[0] - logits[1]).max()) > 0


def test_the_paths_of_the_modules():
    _, variables, _ = thin_lite()
    paths = [path for path, _ in leaves(variables["params"])]
    assert {path.split("/")[0] for path in paths} == {
        "stem", *(f"stage{i}" for i in range(1, 8)), "conv_head", "head"
    }  # fmt: skip
    assert "stage4/block2/depthwise/conv/kernel" in paths
    assert "stage1/block1/expand/conv/kernel" not in paths


@pytest.mark.slow
def test_init_follows_its_key_and_keeps_the_scale():
    """By He et al. the outputs of the layers neither vanish nor explode as they go deeper."""
    model, _, x = thin_lite()
    init = jax.jit(model.init)
    variables = init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, variables, init(jax.random.key(0), x))
    other = init(jax.random.key(1), x)["params"]["stem"]["conv"]["kernel"]
    assert not np.array_equal(other, variables["params"]["stem"]["conv"]["kernel"])
    outputs = zoo.features((model, variables), x, ["stem", "stage4", "conv_head"])
    assert all(0.01 < float(y.std()) < 100 for y in outputs.values())


def test_training_moves_the_statistics_and_reaches_every_parameter():
    model, variables, x = thin_lite()

    @jax.jit
    def step(params, key):
        def loss(params):
            logits, new = model.apply(
                {**variables, "params": params},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            return (logits**2).sum(), new["batch_stats"]

        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, stats), grads = step(variables["params"], jax.random.key(2))
    (other, _), _ = step(variables["params"], jax.random.key(3))
    assert value != other  # dropout and stochastic depth draw from the key
    for path, moved in leaves(stats):
        assert not np.array_equal(moved, dict(leaves(variables["batch_stats"]))[path]), path
    silent = [path for path, grad in leaves(grads) if not np.any(grad)]
    assert not silent  # with this key, no block is dropped for both images


def test_running_statistics_are_an_average_with_decay():
    """New = 0.99 · old + 0.01 · batch, for the first norm, whose input is known."""
    model, variables, x = thin_lite()
    _, new = jax.jit(
        lambda x: model.apply(
            variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
        )
    )(x)
    y = zoo.features((model, variables), x, "stem/conv")["stem/conv"]
    old, moved = (tree["batch_stats"]["stem"]["norm"] for tree in (variables, new))
    for name, batch in (("mean", y.mean((0, 1, 2))), ("var", y.var((0, 1, 2), ddof=1))):
        want = 0.99 * old[name] + 0.01 * batch
        np.testing.assert_allclose(moved[name], want, rtol=1e-4, atol=1e-6)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
    model, variables, x = thin_lite()
    half = model.clone(dtype=jnp.bfloat16)
    outputs = zoo.features((half, variables), x, ["stem", "stage7/block1", "head"])
    assert {array.dtype for array in outputs.values()} == {jnp.dtype("bfloat16")}
    fresh = jax.eval_shape(half.init, jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    logits = jax.jit(half.apply)(variables, x)
    assert logits.dtype == jnp.float32
    exact = jax.jit(model.apply)(variables, x)
    # bfloat16 has 8 bits; errors of 2⁻⁹ a layer add up like noise over some 30 layers.
    assert float(jnp.abs(logits - exact).max()) < 30**0.5 * 2**-8 * float(jnp.abs(exact).max())


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (jnp.zeros((32, 32, 3)), ValueError, r"EfficientNetLite takes images \[N, H, W, C\]"),
        (jnp.zeros((1, 32, 32, 3), jnp.uint8), TypeError, "floating-point images, got uint8"),
        (
            jnp.zeros((1, 32, 32, 4)),
            ValueError,
            r"stem/conv/kernel .*need .*4, 32",
        ),
    ],
)
def test_bad_input_is_named(x, error, words):
    model, variables, _ = thin_lite()
    with pytest.raises(error, match=words):
        model.apply(variables, x)
