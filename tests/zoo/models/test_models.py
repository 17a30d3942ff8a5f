"""What every family offers, on a small member of each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
import zoo_kernels as kernels
from tests.zoo.models.small_models import PUBLISHED, SMALL, logits, small
from zoo.models.base import MODELS
from zoo.models.costs import load_costs
from zoo.models.inverted_residual import round_channels
from zoo.models.strides import BlockStrides, stage_strides
from zoo_pretrained.checkpoint import flatten_variables

FAMILIES = sorted(SMALL)
# Families without batch normalisation have nothing to fold, and no state.
WITHOUT_NORMS = {"squeezenet"}


def test_all_constructors_are_registered():
    assert {entry.family for entry in MODELS.values()} == set(FAMILIES)
    assert set(PUBLISHED) <= set(MODELS)
    assert len(MODELS) == 36
    for name, entry in MODELS.items():
        assert getattr(zoo, name) is entry.constructor
        assert entry.constructor().title == name


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_and_multiply_adds_are_as_published(family):
    """Of the family's first member; `make test-peers` counts the others."""
    name = next(name for name, entry in MODELS.items() if entry.family == family)
    parameters, multiply_adds = PUBLISHED[name]
    described = zoo.describe(name)
    assert described.parameters == parameters
    assert load_costs()[name] == (described.parameters, described.multiply_adds)
    if multiply_adds is not None:
        assert described.multiply_adds / 1e9 == pytest.approx(multiply_adds, abs=0.0006)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_finite_and_differ_between_images(family):
    model, variables, x = small(family)
    y = logits(model, variables, x)
    assert (y.shape, y.dtype) == ((2, 5), jnp.float32)
    assert np.isfinite(y).all()
    assert float(jnp.abs(y[0] - y[1]).max()) > 0
    np.testing.assert_array_equal(y, logits(model, variables, x))


@pytest.mark.parametrize("family", FAMILIES)
def test_fused_model_gives_the_same_logits_without_norms(family):
    model, variables, x = small(family)
    fused_model, fused = zoo.fuse(model, variables)
    assert list(fused) == ["params"]
    shapes = jax.eval_shape(fused_model.init, jax.random.key(0), x)
    assert jax.tree.map(np.shape, fused) == jax.tree.map(np.shape, dict(shapes))
    assert ("batch_stats" in variables) == (family not in WITHOUT_NORMS)
    want = logits(model, variables, x)
    # Float32 rounds anew in each layer; the same network in another order.
    got = logits(fused_model, fused, x)
    assert float(jnp.abs(got - want).max()) <= 1e-4 * float(jnp.abs(want).max())
    ops = {choice.op for choice in kernels.explain(fused_model.apply, fused, x)}
    assert ops <= {"conv", "depthwise_conv", "depthwise_bias_act", "bias_act", "max_pool"}
    assert "bias_act" in ops


@pytest.mark.parametrize("family", FAMILIES)
def test_training_reaches_every_parameter_and_moves_the_statistics(family):
    model, variables, x = small(family)

    @jax.jit
    def step(params):
        def loss(params):
            logits, new = model.apply(
                {**variables, "params": params},
                x,
                train=True,
                mutable=["batch_stats", "intermediates"],
                rngs={"dropout": jax.random.key(2)},
            )
            auxiliary = jax.tree.leaves(new.get("intermediates", {}))
            return sum((y**2).sum() for y in (logits, *auxiliary)), new.get("batch_stats", {})

        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, stats), grads = step(variables["params"])
    assert np.isfinite(value)
    for path, moved in flatten_variables(stats):
        assert not np.array_equal(moved, dict(flatten_variables(variables["batch_stats"]))[path]), (
            path
        )
    without_gradient = [path for path, grad in flatten_variables(grads) if not np.any(grad)]
    assert not without_gradient
    assert all(np.isfinite(grad).all() for _, grad in flatten_variables(grads))


def test_dropout_and_stochastic_depth_draw_from_the_key():
    model, variables, x = small("efficientnet_lite")

    @jax.jit
    def train(model_key):
        options = {"mutable": ["batch_stats"], "rngs": {"dropout": model_key}}
        y, new = model.apply(variables, x, train=True, **options)
        only_depth = model.clone(dropout_rate=0.0, drop_path_rate=0.5)
        inner = only_depth.apply(variables, x, train=True, **options)[0]
        return y, inner, new["batch_stats"]["stem"]["norm"]

    y, inner, (stats, *_) = zip(*(train(jax.random.key(i)) for i in range(6)), strict=True)
    assert len(np.unique(y, axis=0)) == 6
    assert len(np.unique(inner, axis=0)) > 1  # a block is dropped for an image, or is not
    # Running statistics: 0.99 · old + 0.01 · batch, for the first norm, whose input is known.
    z = zoo.features((model, variables), x, "stem/conv")["stem/conv"]
    old = variables["batch_stats"]["stem"]["norm"]
    for name, batch in (("mean", z.mean((0, 1, 2))), ("var", z.var((0, 1, 2), ddof=1))):
        want = 0.99 * old[name] + 0.01 * batch
        np.testing.assert_allclose(stats[name], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_computes_in_bfloat16_and_keeps_float32(family):
    model, variables, x = small(family)
    half = model.clone(dtype="bfloat16")
    inner = jax.eval_shape(lambda v, x: zoo.features((half, v), x, "**"), variables, x)
    assert {array.dtype for array in jax.tree.leaves(inner)} == {jnp.dtype("bfloat16")}
    assert jax.eval_shape(half.apply, variables, x).dtype == jnp.float32
    fresh = jax.eval_shape(half.init, jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    small_params = jax.eval_shape(model.clone(param_dtype=jnp.bfloat16).init, jax.random.key(0), x)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(small_params["params"])} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(small_params.get("batch_stats", []))} <= {
        "float32"
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_name_what_is_wrong_with_images(family):
    model, variables, _ = small(family)
    size, name = model.min_size, model.title
    for shape, dtype, error, words in (
        ((39, 33, 3), "float32", ValueError, rf"{name} takes images \[N, H, W, C\], got .*39, 33"),
        ((1, 39, 33, 3), "uint8", TypeError, f"{name} takes .*floating-point images, got uint8"),
        (
            (0, 39, 33, 3),
            "float32",
            ValueError,
            f"{name} takes one image or more of at least {size}x{size}",
        ),
        (
            (1, 39, size - 1, 3),
            "float32",
            ValueError,
            rf"{size}x{size}, got shape .*{size - 1}",
        ),
        ((1, 39, 33, 4), "float32", ValueError, rf"{name}: parameter .*kernel has shape .*33, 4\)"),
    ):
        with pytest.raises(error, match=words):
            jax.eval_shape(model.apply, variables, jax.ShapeDtypeStruct(shape, dtype))


def test_variables_of_a_fused_model_do_not_fit_a_plain_one_nor_the_reverse():
    model, variables, x = small("resnet")
    fused_model, fused = zoo.fuse(model, variables)
    with pytest.raises(
        ValueError, match=r"ResNet: the variables lack params/stem/norm/scale.*fuse"
    ):
        jax.eval_shape(model.apply, fused, x)
    with pytest.raises(ValueError, match=r"ResNet: the variables lack params/stem/conv/bias.*fuse"):
        jax.eval_shape(fused_model.apply, variables, x)


@pytest.mark.parametrize("family", [f for f in FAMILIES if SMALL[f].min_size > 1])
def test_min_size_is_the_smallest_that_works(family, monkeypatch):
    """At that size there is something left to pool; one pixel less, and there is nothing."""
    model = SMALL[family]
    min_size = model.min_size
    monkeypatch.setattr(type(model), "min_size", 1)  # nothing is refused

    def last_map_size(size):
        """The shorter side of the last feature map."""
        x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        init = functools.partial(zoo.backbone(model).init_with_output, jax.random.key(0))
        try:
            maps, _ = jax.eval_shape(init, x)
        except ValueError as error:
            if any(words in str(error) for words in ("not fit", "not empty", "none of them 0")):
                return 0
            raise
        return min(maps[max(maps)].shape)

    assert last_map_size(min_size) > 0
    assert last_map_size(min_size - 1) == 0


@pytest.mark.parametrize("family", ["resnet", "vgg"])
def test_remat_saves_memory_and_changes_no_gradient(family):
    model, variables, x = small(family)

    def loss(remat, params):
        y, new = model.clone(remat=remat).apply(
            {**variables, "params": params},
            x,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        return (y**2).sum(), new

    def gradients(remat):
        return jax.jit(jax.grad(functools.partial(loss, remat), has_aux=True))(variables["params"])

    for plain, rematerialised in zip(gradients(False), gradients(True), strict=True):
        largest = max(float(np.abs(array).max()) for _, array in flatten_variables(plain))
        for (path, a), (_, b) in zip(
            flatten_variables(plain), flatten_variables(rematerialised), strict=True
        ):
            # The same numbers, summed in another order; a bias before a norm has no gradient.
            atol = 1e-4 * np.abs(a).max() + 1e-6 * largest
            np.testing.assert_allclose(b, a, rtol=0, atol=atol, err_msg=path)

    def count_saved(remat):
        """Numbers kept from the forward pass for the backward pass."""
        f = functools.partial(loss, remat)
        back = jax.eval_shape(lambda p: jax.vjp(f, p, has_aux=True)[1], variables["params"])
        return sum(array.size for array in jax.tree.leaves(back))

    parameters = sum(array.size for array in jax.tree.leaves(variables["params"]))
    assert count_saved(True) - parameters < 0.7 * (count_saved(False) - parameters)


DILATED = {
    "resnet": "stage4",
    "mobilenet_v1": "stage5",
    "mobilenet_v2": "stage5",
    "mobilenet_v3": "stage4",
    "xception": "separable2",
}


@pytest.mark.parametrize("family", DILATED)
@pytest.mark.parametrize("output_stride", [16, 8])
def test_dilated_model_computes_the_same_at_more_places(family, output_stride):
    """Where the strided network looks, the dilated one with its weights finds the same."""
    model, variables, x = small(family)
    if family == "mobilenet_v3":  # squeeze-and-excitation averages over all places
        stages = tuple(tuple(r._replace(squeeze=False) for r in rows) for rows in model.stages)
        model = model.clone(stages=stages)
    path = DILATED[family]
    want = zoo.features((model, variables), x, path)[path]
    dilated = model.clone(output_stride=output_stride)
    got = zoo.features((dilated, variables), x, path)[path]
    step = 32 // output_stride
    assert got.shape[1] > want.shape[1]
    np.testing.assert_allclose(
        got[:, ::step, ::step], want, rtol=1e-4, atol=1e-5 * float(jnp.abs(want).max())
    )


def test_strides_beyond_the_output_stride_become_dilation():
    stages = [(1, 1), (2, 2), (2, 1), (2, 3)]
    plain, strided = BlockStrides(1, 1, 1), BlockStrides(2, 1, 1)
    assert stage_strides(stages, 32, stem_stride=4) == [
        [plain], [strided, plain], [strided], [strided, plain, plain]
    ]  # fmt: skip
    assert stage_strides(stages, 8, stem_stride=4) == [
        [plain],
        [strided, plain],
        [BlockStrides(1, 1, 2)],
        [BlockStrides(1, 2, 4), BlockStrides(1, 4, 4), BlockStrides(1, 4, 4)],
    ]
    with pytest.raises(ValueError, match="ResNet50: output_stride must be 8, 16 or 32, got 4"):
        zoo.ResNet50(output_stride=4)


@pytest.mark.parametrize(("in_1x1", "size"), [(False, 16), (True, 8)])
def test_stride_of_a_bottleneck_is_in_its_second_convolution_or_its_first(in_1x1, size):
    model = SMALL["resnet"].clone(stride_in_1x1=in_1x1)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    layers = [f"stage2/block1/{name}" for name in ("conv1", "conv2")]
    first, second = jax.eval_shape(
        lambda v: zoo.features((model, v), x, layers), variables
    ).values()
    assert (first.shape[1], second.shape[1]) == (size, 8)
    want = jax.eval_shape(SMALL["resnet"].init, jax.random.key(0), x)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, want)


def test_round_channels_to_multiples_of_eight_and_not_below_nine_tenths():
    # 24 · 1.1 = 26.4 is nearer to 24; 12 lies midway; 8 is the minimum.
    assert [round_channels(c) for c in (26.4, 12, 4, 33.6)] == [24, 16, 8, 32]
    assert round_channels(11) == 16  # 8 would be less than 9.9


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_under_vmap_grad_and_checkpoint(family):
    """By shapes: vmap over images, and the gradient of a checkpointed loss with remat inside."""
    model, variables, x = small(family)
    rows = jax.eval_shape(jax.vmap(lambda image: model.apply(variables, image[None])[0]), x)
    assert rows.shape == (2, 5)
    rematerialised = model.clone(remat=True)
    assert jax.tree.map(jnp.shape, jax.eval_shape(rematerialised.init, jax.random.key(0), x)) == (
        jax.tree.map(jnp.shape, variables)
    )

    @jax.checkpoint
    def loss(params, x):
        y, new = rematerialised.apply(
            {**variables, "params": params},
            x,
            train=True,
            mutable=["batch_stats", "intermediates"],
            rngs={"dropout": jax.random.key(0)},
        )
        return y.sum() + sum(a.sum() for a in jax.tree.leaves(new.get("intermediates", {})))

    grads, dx = jax.eval_shape(jax.grad(loss, (0, 1)), variables["params"], x)
    assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, variables["params"])
    assert dx.shape == x.shape


def test_values_under_jit_vmap_grad_and_checkpoint():
    model, variables, x = small("resnet")
    want = logits(model, variables, x)
    one_by_one = jax.jit(jax.vmap(lambda image: model.apply(variables, image[None])[0]))(x)
    np.testing.assert_allclose(one_by_one, want, rtol=1e-4, atol=1e-5)

    def total(x):
        return model.apply(variables, x)[:, 0].sum()

    plain, checkpointed = (jax.jit(jax.grad(f))(x) for f in (total, jax.checkpoint(total)))
    assert np.any(plain)
    # A ReLU within rounding of zero may be open in one program and closed in the other, which
    # changes the gradient of its image, if little. All images cannot have one.
    difference = np.abs(checkpointed - plain).max((1, 2, 3)) / np.abs(plain).max()
    assert difference.max() < 1e-2
    assert difference.min() < 1e-5


def test_model_is_compiled_once_a_shape():
    model, variables, x = small("squeezenet")
    apply = jax.jit(model.apply)
    for _ in range(2):
        apply(variables, x)
        apply(variables, x[:1])
    assert apply._cache_size() == 2
    assert hash(model) == hash(model.clone())  # models are keys of caches
    assert model == model.clone()
