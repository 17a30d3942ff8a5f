"""`Trained.compile`: any number of images, its arguments, models of all origins, and threads."""

import concurrent.futures
import dataclasses
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.small_models import SMALL, random_variables, small
from zoo.inference import compiled as compiled_models
from zoo.inference.trained import NoClassifierError
from zoo.runtime.checks import ArgumentError
from zoo_kernels.native import build

SIDE = 40


@functools.cache
def trained(family="mobilenet_v2", channels=3):
    """A small model with random weights, as if they were published."""
    lite = zoo.trained(zoo.EfficientNetLite0)
    model = SMALL[family]
    preprocessing = lite.info.preprocessing.resized(SIDE).for_channels(channels)
    info = dataclasses.replace(
        lite.info, preprocessing=preprocessing, labels=lite.info.labels[: model.num_classes]
    )
    return zoo.Trained(model, random_variables(model, channels), info)


@functools.cache
def compiled(implementation, family="mobilenet_v2"):
    return trained(family).compile((2, 5), implementation=implementation)


@pytest.fixture(params=["native", "xla"])
def net(request):
    """A compiled model of either implementation."""
    if request.param == "native":
        request.getfixturevalue("native_library")
    return compiled(request.param)


def draw(count, size=SIDE, channels=3):
    rng = np.random.default_rng(0)
    return np.float32(rng.normal(size=(count, size, size, channels)))


def assert_close(got, want):
    """Equal but for float32's rounding in sums of another order."""
    want = np.asarray(want)
    assert got.shape == want.shape
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * abs(want).max())


class TestCalls:
    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 13])
    def test_any_number_of_images(self, net, count):
        x = draw(13)
        assert_close(net(x[:count]), logits(x)[:count])

    def test_anything_that_is_an_array(self, net):
        x = draw(2)
        want = net(x)
        for same in (x.tolist(), jnp.asarray(x), x.astype(np.float64), np.asfortranarray(x)):
            np.testing.assert_array_equal(net(same), want)
        np.testing.assert_array_equal(net(x[::-1, :, ::-1]), net(x[::-1, :, ::-1].copy()))

    def test_probabilities(self, net):
        x = draw(3)
        assert_close(net.probabilities(x), jax.nn.softmax(logits(x)))

    @pytest.mark.parametrize(
        "shape",
        [(0, SIDE, SIDE, 3), (SIDE, SIDE, 3), (1, SIDE, SIDE, 1), (2, SIDE, SIDE + 1, 3), (), (3,)],
    )
    def test_other_shapes(self, net, shape):
        expected = f"x must be images [N, {SIDE}, {SIDE}, 3], got shape {shape}"
        with pytest.raises(ValueError, match=re.escape(expected)):
            net(np.zeros(shape, np.float32))

    def test_from_several_threads(self, net):
        x = draw(9)
        want = [net(x[i : i + 3]) for i in range(6)]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            for _ in range(4):
                got = pool.map(lambda i: net(x[i : i + 3]), range(6))
                jax.tree.map(np.testing.assert_array_equal, list(got), want)

    def test_what_is_not_finite_is_told(self, native_library):
        """By native layers: XLA's faster minima and maxima may drop a NaN."""
        net = compiled("native")
        x = draw(2)
        x[1, 3, 3, 0] = np.nan
        y = net(x)
        assert np.isfinite(y[0]).all()
        assert np.isnan(y[1]).all()
        with pytest.raises(FloatingPointError, match="not finite"):
            net.rank_labels(net.probabilities(x), 1)

    def test_images_are_classified(self, net, examples):
        photos = [examples / "cat.jpg", examples / "espresso.jpg"]
        assert net.preprocess(photos).shape == (2, SIDE, SIDE, 3)
        want = trained().classify(photos, top=2)
        assert_same_classes(net.classify(photos, top=2), want)
        assert_same_classes([net.classify(photos[0])], trained().classify(photos[:1]))
        with pytest.raises(ValueError, match="top must be from 1 to 5, got 6"):
            net.classify(photos, top=6)

    def test_facts(self, net):
        assert (net.size, net.channels, net.batch_sizes) == (SIDE, 3, (2, 5))
        assert net.dtype == "float32"
        assert net.labels == trained().labels
        assert net.info == trained().info
        assert net.count_top() == 5
        assert len(repr(net)) < 2000  # no arrays


@functools.cache
def _logits(count):
    return np.asarray(trained()(draw(count)))


def logits(x):
    """Of the first images that `draw` gives."""
    return _logits(13)[: len(x)]


def assert_same_classes(got, want):
    for one, other in zip(got, want, strict=True):
        assert [label for label, _ in one] == [label for label, _ in other]
        np.testing.assert_allclose([p for _, p in one], [p for _, p in other], rtol=1e-4)


def test_the_embedded_weights_by_native_layers(native_library, lite, examples):
    photos = sorted(examples.glob("*.jpg"))
    net = lite.compile((1, 2))
    assert net.implementation == "native"
    model, variables = lite.fused
    x = net.preprocess(photos)
    want = jax.nn.softmax(jax.jit(model.apply)(variables, x))
    np.testing.assert_allclose(net.probabilities(x), want, rtol=1e-3, atol=1e-6)
    ranked = [
        [(label.name, p) for label, p in row] for row in lite.rank_labels(np.asarray(want), 5)
    ]
    for got, expected in zip(net.classify(photos), ranked, strict=True):
        assert [name for name, _ in got] == [name for name, _ in expected]
        np.testing.assert_allclose(*([p for _, p in r] for r in (got, expected)), rtol=1e-3)


class TestProbabilities:
    """`Trained.probabilities` and what is made of it run native layers that are at hand."""

    @pytest.fixture
    def at_hand(self, native_library, monkeypatch):
        monkeypatch.setattr(build, "_is_compiled", lambda: True)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_they_are_those_of_xla(self, at_hand, dtype):
        fresh = dataclasses.replace(trained())
        assert fresh._native is not None
        x = jnp.asarray(draw(3), dtype)
        want = jax.nn.softmax(trained()(x.astype("float32")))
        np.testing.assert_allclose(fresh.probabilities(x), want, rtol=1e-4, atol=1e-6)

    def test_on_several_devices_they_are_xlas(self, at_hand, monkeypatch):
        monkeypatch.setattr(jax, "device_count", lambda: 8)
        assert dataclasses.replace(trained())._native is None

    def test_inside_transformations_they_are_xlas(self, at_hand):
        fresh = dataclasses.replace(trained())
        x = draw(2)
        inside = jax.jit(fresh.probabilities)
        assert "zoo_conv" not in inside.lower(x).as_text()
        np.testing.assert_allclose(inside(x), fresh.probabilities(x), rtol=1e-4, atol=1e-6)
        gradient = jax.grad(lambda x: fresh.probabilities(x)[0, 0])(x)
        assert np.isfinite(gradient).all()

    def test_of_blocks_that_are_rematerialised(self, at_hand):
        model = trained("densenet")
        remat = dataclasses.replace(model, model=model.model.clone(remat=True))
        x = draw(2)
        want = np.asarray(model.probabilities(x))
        np.testing.assert_allclose(remat.probabilities(x), want, rtol=1e-5, atol=1e-7)
        assert_close(remat.compile(2)(x), model(x))

    def test_of_other_images(self, at_hand):
        fresh = dataclasses.replace(trained())
        assert fresh.probabilities(draw(1, SIDE + 9)).shape == (1, 5)
        with pytest.raises(TypeError, match="takes normalised floating-point images"):
            fresh.probabilities(np.ones((1, SIDE, SIDE, 3), np.int32))
        with pytest.raises(ValueError, match=r"takes images \[N, H, W, C\]"):
            fresh.probabilities(draw(1)[0])

    def test_copies_and_pickles_work_without_them(self, at_hand):
        import copy
        import pickle

        fresh = dataclasses.replace(trained())
        fresh.probabilities(draw(1))
        for other in (copy.copy(fresh), pickle.loads(pickle.dumps(fresh))):
            assert "_native" not in vars(other)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"batch_sizes": ()}, "batch_sizes must name at least one size"),
            ({"batch_sizes": 0}, "batch_sizes must be an integer of at least 1, got 0"),
            ({"batch_sizes": (1, -2)}, "batch_sizes must be an integer of at least 1, got -2"),
            ({"batch_sizes": (1, 2.0)}, "batch_sizes must be an integer of at least 1, got 2.0"),
            ({"batch_sizes": 2.5}, "batch_sizes must be an integer of at least 1, got 2.5"),
            ({"batch_sizes": None}, "batch_sizes must be an integer of at least 1, got None"),
            ({"batch_sizes": "8"}, "batch_sizes must be an integer of at least 1, got '8'"),
            ({"batch_sizes": True}, "batch_sizes must be an integer of at least 1, got True"),
            ({"size": 0}, "size must be an integer of at least 1, got 0"),
            ({"size": 1.5}, "size must be an integer of at least 1, got 1.5"),
            ({"dtype": "float16"}, "dtype must be one of float32, bfloat16, got 'float16'"),
            ({"implementation": "magic"}, "implementation must be native or xla, got 'magic'"),
        ],
    )
    def test_wrong_ones(self, arguments, message, monkeypatch):
        """They are told before anything is compiled."""
        monkeypatch.setattr(build, "_load", lambda: pytest.fail("was compiled"))
        with pytest.raises(ArgumentError) as raised:
            trained().compile(**arguments)
        assert str(raised.value).startswith(message)

    def test_batch_sizes_are_sorted_and_distinct(self):
        assert compiled_models._check_sizes((8, 1, 8, 2)) == (1, 2, 8)
        assert compiled_models._check_sizes(4) == (4,)
        assert compiled_models._check_sizes(np.int64(4)) == (4,)
        assert compiled_models._check_sizes(range(1, 3)) == (1, 2)

    def test_a_size(self, native_library):
        net = trained().compile(1, size=33)
        assert net.size == 33
        assert net.preprocess(np.zeros((50, 60, 3), np.uint8)).shape == (1, 33, 33, 3)
        assert_close(net(draw(1, 33)), trained()(draw(1, 33)))

    def test_a_size_that_is_too_small(self, native_library):
        with pytest.raises(ValueError, match="of at least"):
            trained("vgg").compile(1, size=2)

    def test_bfloat16_is_by_xla(self):
        net = trained().compile(2, dtype="bfloat16")
        assert (net.implementation, net.dtype) == ("xla", "bfloat16")
        x = draw(2)
        y = net(x)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, logits(x), atol=0.05 * abs(logits(x)).max())
        with pytest.raises(NotImplementedError, match="'native' computes in float32 only"):
            trained().compile(2, dtype="bfloat16", implementation="native")

    def test_memory_is_kept_where_asked_for(self, monkeypatch):
        asked = []
        monkeypatch.setattr(compiled_models, "keep_freed_memory", lambda: asked.append(1) or True)
        trained().compile(1, implementation="xla")
        assert not asked
        trained().compile(1, implementation="xla", keep_memory=True)
        assert asked
        monkeypatch.setattr(compiled_models, "keep_freed_memory", lambda: False)
        with pytest.raises(ArgumentError, match="keep_memory=True needs Linux with glibc"):
            trained().compile(1, keep_memory=True)

    def test_without_native_layers(self, monkeypatch):
        monkeypatch.setattr(build, "_load", lambda: "needs a C++ compiler")
        net = trained().compile(2)
        assert net.implementation == "xla"
        assert_close(net(draw(2)), logits(draw(2)))
        with pytest.raises(NotImplementedError, match=r"'native' needs a C\+\+ compiler"):
            trained().compile(2, implementation="native")

    def test_xla_asked_for_needs_no_native_layers(self, monkeypatch):
        """So nothing is compiled that is not used."""
        monkeypatch.setattr(build, "_load", lambda: pytest.fail("was compiled"))
        assert trained().compile(1, implementation="xla").implementation == "xla"


class TestModels:
    def test_an_adapted_one(self, native_library):
        mine = zoo.adapt(trained(), labels=["cat", "dog", "fish"])
        net = mine.compile(2)
        assert net.labels == ("cat", "dog", "fish")
        assert net.count_top() == 3
        assert_close(net(draw(2)), mine(draw(2)))
        assert net.classify(np.zeros((50, 50, 3), np.uint8), top=1)[0][0] in net.labels

    def test_of_one_channel(self, native_library):
        grey = trained("mobilenet_v1", channels=1)
        net = grey.compile(2)
        assert net.channels == 1
        x = draw(2, channels=1)
        assert_close(net(x), grey(x))
        assert net.preprocess(np.zeros((50, 50), np.uint8)).shape == (1, SIDE, SIDE, 1)

    def test_that_is_fused_already(self, native_library):
        fused = zoo.fuse(trained())
        net = fused.compile(2)
        assert net.implementation == "native"
        assert_close(net(draw(2)), logits(draw(2)))

    def test_of_grouped_convolutions(self, native_library):
        net = trained("resnet").compile(1)
        assert net.implementation == "native"
        assert "stage1/block1/conv2/conv" in net.program.remaining
        assert_close(net(draw(1)), trained("resnet")(draw(1)))

    def test_without_a_classifier(self):
        params = {k: v for k, v in trained().variables["params"].items() if k != "head"}
        headless = trained().replace(variables={**trained().variables, "params": params})
        with pytest.raises(NoClassifierError, match="have no classifier"):
            headless.compile()

    def test_of_half_precision_weights(self, native_library):
        """Packed weights are float32; these are computed in float32 by XLA."""
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), trained().variables)
        net = trained().replace(variables=half).compile(1)
        assert net.implementation == "xla"
        assert net(draw(1)).dtype == np.float32

    def test_that_was_imported(self, tmp_path, native_library):
        zoo.to_onnx(trained("mobilenet_v1"), tmp_path / "model.onnx")
        imported = zoo.from_onnx(tmp_path / "model.onnx").as_trained()
        net = imported.compile(2, size=SIDE)
        assert net.implementation == "xla"
        x = draw(2)
        assert_close(net(x), imported(x))
        with pytest.raises(NotImplementedError, match="'native' is for the zoo's own models"):
            imported.compile(2, size=SIDE, implementation="native")

    def test_its_weights_are_not_kept_twice(self, native_library):
        net = compiled("native")
        assert json.dumps(sorted(net.classifier.variables["params"])) == '["head"]'
        assert jax.tree.leaves(net.classifier.variables) == []


def test_small_models_have_labels():
    assert len(trained().labels) == small("mobilenet_v2")[0].num_classes
