"""The interceptor: it reads and replaces outputs of modules, nested, stopped, and inside jit."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.models.small_models import logits, small
from zoo.surgery.intercept import intercept

MODEL, VARIABLES, X = small("squeezenet")


def recorder(calls):
    """A handler that enters each call's path, class, input shape and output shape."""

    def record(call):
        output = call.run()
        kind = type(call.module).__name__
        calls[call.path] = kind, jnp.shape(call.args[0]), jnp.shape(output)
        return output

    return record


def trace(model, variables=VARIABLES, x=X):
    # A new function each time: jax remembers what it has traced.
    return jax.eval_shape(lambda variables, x: model.apply(variables, x), variables, x)


def test_reads_every_module_by_its_path():
    calls = {}
    with intercept(recorder(calls)):
        output = trace(MODEL)
    assert next(iter(calls)) == "stem"
    assert list(calls)[-1] == ""  # the model itself ends last
    assert calls[""] == ("SqueezeNet", X.shape, output.shape)
    assert calls["stem"][:2] == ("Conv", X.shape)
    kind, shape, _ = calls["stage1/block1/squeeze"]
    assert (kind, shape[3]) == ("Conv", calls["stem"][2][3])


def test_only_calls_in_the_block_are_intercepted():
    calls = {}
    with intercept(recorder(calls)):
        pass
    trace(MODEL)
    assert not calls


def test_the_handler_can_read_the_modules_variables():
    kernels = {}

    def read(call):
        if call.path == "stem":
            kernels[call.path] = call.module.variables["params"]["kernel"]
        return call.run()

    with intercept(read):
        MODEL.apply(VARIABLES, X)
    np.testing.assert_array_equal(kernels["stem"], VARIABLES["params"]["stem"]["kernel"])


def test_replaces_an_output():
    def replace(call):
        output = call.run()
        return jnp.zeros_like(output) if call.path == "stage2" else output

    with intercept(replace):
        replaced = jax.jit(lambda x: MODEL.apply(VARIABLES, x))(X)
        shifted = jax.jit(lambda x: MODEL.apply(VARIABLES, x))(X + 1)
    assert not np.allclose(replaced, logits(MODEL, VARIABLES, X))
    np.testing.assert_array_equal(replaced, shifted)  # nothing of the image gets through


def test_replaces_without_running_the_module():
    calls = {}

    def replace(call):
        if call.path == "stem":
            return call.args[0]
        return recorder(calls)(call)

    with intercept(replace), pytest.raises(ValueError, match="stage1/block1/squeeze"):
        trace(MODEL)  # the image has three channels, the stem gives more
    assert "stem" not in calls


def test_gradients_reach_a_replacement():
    def loss(offset):
        def add(call):
            output = call.run()
            return output + offset if call.path == "stage3" else output

        with intercept(add):
            return MODEL.apply(VARIABLES, X).sum()

    assert float(jax.jit(jax.grad(loss))(0.0)) != 0


class Outer(nn.Module):
    """A model as a part of a larger module."""

    inner: nn.Module

    def __call__(self, x):
        return self.inner(x)


def test_paths_count_from_an_outer_module():
    calls, inside = {}, {}
    variables = {"params": {"inner": VARIABLES["params"]}}
    with intercept(recorder(calls)), intercept(recorder(inside), inside=("inner",)):
        trace(Outer(MODEL), variables)
    assert {"", "inner", "inner/stem"} < calls.keys()
    assert {"", "stem"} < inside.keys()
    assert inside[""] == calls["inner"]
    assert inside.keys() == {path[6:] for path in calls if path.startswith("inner")}


def test_nested_handlers_all_act_and_the_innermost_acts_first():
    def scale(factor, offset):
        def handler(call):
            output = call.run()
            return factor * output + offset if call.path == "head" else output

        return handler

    def head(*handlers):
        outputs = {}

        def read(call):
            outputs[call.path] = call.run()
            return outputs[call.path]

        with intercept(read), intercept(handlers[0]), intercept(handlers[1]):
            MODEL.apply(VARIABLES, X)
        return outputs["head"]

    plain = head(scale(1, 0), scale(1, 0))
    got = head(scale(2, 0), scale(1, 3))
    np.testing.assert_allclose(got, 2 * (plain + 3), rtol=1e-5)


def test_stops_early():
    seen = []

    def stop(call):
        output = call.run()
        seen.append(call.path)
        if call.path == "stage1":
            call.stop()
        return output

    with intercept(stop):
        trace(MODEL)
        seen.append("never")
    assert seen[-1] == "stage1"
    assert not any(path.startswith("stage2") for path in seen)


def test_a_stop_leaves_the_block_of_its_own_handler():
    reached = []

    def stop(call):
        output = call.run()
        return call.stop() if call.path == "stem" else output

    with intercept(stop):
        with intercept(lambda call: call.run()):
            trace(MODEL)
        reached.append("between")
    reached.append("after")
    assert reached == ["after"]


def test_errors_of_a_model_come_through():
    with pytest.raises(ValueError, match="SqueezeNet"), intercept(lambda call: call.run()):
        MODEL.apply(VARIABLES, X[0])


def test_inside_jit_what_is_not_used_is_dropped():
    @jax.jit
    def stem(x):
        outputs = {}

        def read(call):
            outputs[call.path] = call.run()
            return outputs[call.path]

        with intercept(read):
            MODEL.apply(VARIABLES, x)
        return outputs["stem"]

    text = stem.lower(X).compile().as_text()
    assert text.count(" convolution(") + text.count(" dot(") == 1
    assert stem(X).shape == stem(X + 1).shape  # a second call runs the same program
    assert stem._cache_size() == 1
