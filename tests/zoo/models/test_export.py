"""`jax.export`: any batch, any platform, from any machine, on a small member of each family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import zoo
from tests.kernels.gpu import lower_for_gpu
from tests.zoo.models.small_models import SMALL, logits, small

FAMILIES = sorted(SMALL)


def exported(family, platforms, batch):
    model, variables, x = small(family)
    (batch,) = export.symbolic_shape(batch)
    shape = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    program = jax.jit(lambda x: model.apply(variables, x))
    return export.export(program, platforms=platforms)(shape)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_free_batch_for_all_platforms_at_once(family):
    model, variables, x = small(family)
    written = exported(family, ("cpu", "cuda", "tpu"), "batch").serialize()
    program = export.deserialize(written)
    assert program.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 3):
        images = jnp.concatenate([x, x])[:count]
        want = logits(model, variables, images)
        # Compiled apart, in another order of sums.
        np.testing.assert_allclose(program.call(images), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("batch", ["2", "batch"])
def test_each_platform_alone(platform, batch):
    program = exported("mobilenet_v2", (platform,), batch)
    assert program.platforms == (platform,)
    # No call that another machine or a later version of jax may not know.
    assert "triton" not in program.mlir_module()
    assert "onednn" not in program.mlir_module()


def test_a_free_size_of_images_is_refused_by_name():
    model, variables, x = small("vgg")
    shape = jax.ShapeDtypeStruct((1, *export.symbolic_shape("h, w"), 3), x.dtype)
    with pytest.raises(ValueError, match="takes images of a size that is known"):
        export.export(jax.jit(lambda x: model.apply(variables, x)))(shape)


@pytest.mark.filterwarnings("ignore:jax has deprecated:DeprecationWarning")
def test_a_fused_model_for_a_gpu():
    """Its depthwise convolutions have their bias and activation in one Triton kernel."""
    model, variables, x = small("mobilenet_v2")
    model, variables = zoo.fuse(model, variables)
    program = jax.jit(lambda x: model.apply(variables, x))
    assert "triton" in lower_for_gpu(program, x)
    assert "triton" not in export.export(program, platforms=("cuda",))(x).mlir_module()
