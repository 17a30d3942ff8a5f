"""Quality metrics of maps, against values by hand, plain loops and what they are for."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.zoo.models.small_models import small
from tests.zoo.visualize.by_hand import SIZE, Plain, linear, make_trained, photo, pixels
from zoo.checkpoints.load import as_trained
from zoo.visualize import metrics
from zoo.visualize.cam import grad_cam
from zoo.visualize.gradients import (
    ArgumentError,
    blur,
    gradient,
    input_x_gradient,
    integrated_gradients,
)
from zoo.visualize.inputs import TargetError, prepare_inputs
from zoo.visualize.metrics.common import rank_pixels, restore_inputs
from zoo.visualize.metrics.fidelity import remove_square
from zoo.visualize.metrics.randomization import rank_correlation
from zoo.visualize.metrics.road import impute

RNG = np.random.default_rng(4)
WEIGHTS = 0.2 * RNG.normal(size=(3, SIZE, SIZE, 3))
BIAS = np.array([0.5, 0, -0.5])


@functools.cache
def net():
    return linear(WEIGHTS, BIAS)


def probability(x, target):
    """Of the linear net, in float64."""
    logits = np.tensordot(WEIGHTS, x, 3) + BIAS
    return (np.exp(logits) / np.exp(logits).sum())[target]


@functools.cache
def attribution():
    """Of two targets of one photo, with random maps of one channel."""
    made = gradient(net(), photo(), [0, 2])
    return dataclasses.replace(made, maps=np.float32(RNG.normal(size=(2, SIZE, SIZE))))


@pytest.mark.parametrize("channels", ["RGB", "BGR", "grey"])
def test_images_are_restored_from_photos(channels):
    bands = 1 if channels == "grey" else 3
    params = {
        "features": {"kernel": jnp.ones((1, 1, bands, 2)), "bias": jnp.zeros(2)},
        "head": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)},
    }
    trained = make_trained(Plain(num_classes=3), params, bands)
    preprocessing = dataclasses.replace(
        trained.info.preprocessing,
        mean=(0.4, 0.5, 0.6)[:bands],
        std=(0.2, 0.3, 0.1)[:bands],
        channels=channels,
    )
    trained = trained.replace(info=dataclasses.replace(trained.info, preprocessing=preprocessing))
    inputs = prepare_inputs(trained, [photo(0), photo(1)], [1, 2])
    restored = restore_inputs(trained, gradient(trained, inputs))
    np.testing.assert_allclose(restored.x, inputs.x, atol=1e-6)
    np.testing.assert_array_equal(restored.targets, [1, 2])
    assert np.ptp(inputs.x) > 1


def test_ranks_begin_with_the_largest_and_mix_equal_ones():
    np.testing.assert_array_equal(
        rank_pixels(np.array([[0.5, -1.0], [3.0, 2.0]])), [[2, 3], [0, 1]]
    )
    values = np.zeros((40, 40))
    values[5, 5] = 1
    ranks = rank_pixels(values)
    assert sorted(ranks.ravel()) == list(range(1600))
    assert ranks[5, 5] == 0
    assert abs(ranks[:20].mean() - ranks[20:].mean()) < 150  # by position it would be 800


@pytest.mark.parametrize("metric", ["insertion", "deletion"])
def test_curves_are_those_of_a_plain_loop(metric):
    steps, a, x = 7, attribution(), pixels(photo())
    start = np.asarray(blur(jnp.asarray(x), SIZE / 20)) if metric == "insertion" else x
    end = x if metric == "insertion" else np.zeros_like(x)
    found = getattr(metrics, metric)(net(), a, steps=steps, batch_size=3)
    for row, target in enumerate((0, 2)):
        order = np.argsort(-a.maps[row].ravel())
        image, expected = start.copy().reshape(-1, 3), []
        for step in range(steps + 1):
            chosen = order[: round(step * SIZE * SIZE / steps)]
            image[chosen] = end.reshape(-1, 3)[chosen]
            expected.append(probability(image.reshape(x.shape), target))
        np.testing.assert_allclose(found.curve[row], expected, atol=1e-5)
        area = sum((p + q) / 2 / steps for p, q in itertools.pairwise(expected))
        assert found.area[row] == pytest.approx(area, abs=1e-5)
    assert found.labels == ("kind 0", "kind 2")


def test_maps_with_channels_are_ordered_by_absolute_values():
    a = gradient(net(), photo(), 1)
    summed = dataclasses.replace(a, maps=np.abs(a.maps).sum(-1))
    ours, theirs = metrics.deletion(net(), a, steps=5), metrics.deletion(net(), summed, steps=5)
    np.testing.assert_array_equal(ours.curve, theirs.curve)


def test_curves_as_pictures(tmp_path):
    curves = metrics.Curves(
        "deletion", np.array([[1, 1, 0.0], [0, 0, 0]]), np.zeros(2), ("a", "b"), "m"
    )
    full, empty = np.split(np.asarray(curves.picture())[22:], [263], axis=1)
    tinted = [(np.abs(np.int32(half) - (253, 221, 200)).sum(-1) < 12) for half in (full, empty)]
    assert tinted[0].mean() > 0.4  # three quarters of the diagram, less its margins and lines
    assert tinted[1].mean() < 0.01
    curves.save(tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        np.testing.assert_array_equal(image, curves.picture())


def test_curves_as_a_figure():
    curves = metrics.insertion(net(), attribution(), steps=5)
    lines = curves.figure().axes[0].lines
    np.testing.assert_array_equal([line.get_ydata() for line in lines], curves.curve)
    np.testing.assert_allclose(lines[0].get_xdata(), [0, 0.2, 0.4, 0.6, 0.8, 1])


def dense_system(removed):
    """Equations: a removed pixel is the weighted mean of its neighbours, others are as they are."""
    side = len(removed)
    system, known = np.eye(side * side), (~removed).ravel().astype(float)
    for y, x in itertools.product(range(side), repeat=2):
        if not removed[y, x]:
            continue
        weights = {}
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            if (dy, dx) != (0, 0) and 0 <= y + dy < side and 0 <= x + dx < side:
                weights[(y + dy) * side + x + dx] = 1 if dy and dx else 2
        for other, weight in weights.items():
            system[y * side + x, other] = -weight / sum(weights.values())
    return system, known


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_imputation_solves_the_linear_system(share):
    removed = np.random.default_rng(1).random((4, 4)) < share
    image = np.random.default_rng(2).normal(size=(4, 4, 2))
    system, known = dense_system(removed)
    expected = np.linalg.solve(system, known[:, None] * image.reshape(16, 2)).reshape(4, 4, 2)
    np.testing.assert_allclose(impute(image, removed), expected, atol=1e-12)


def test_imputation_continues_a_ramp():
    # A linear function is the mean of its neighbours, so that it is the solution inside a border.
    ramp = np.add.outer(2.0 * np.arange(30), np.arange(30))[..., None]
    removed = np.zeros((30, 30), bool)
    removed[3:-3, 2:-1] = True
    np.testing.assert_allclose(impute(np.where(removed[..., None], 7, ramp), removed), ramp)


def test_road_is_the_change_of_the_probability():
    a, x, percentiles = attribution(), pixels(photo()), (25, 70)
    changes = {}
    for name, sign in (("most", 1), ("least", -1)):
        found = metrics.road(net(), a, order=name, percentiles=percentiles, noise=0)
        changes[name] = np.empty((2, 2))
        for row, column in itertools.product(range(2), repeat=2):
            values, target = sign * a.maps[row], (0, 2)[row]
            filled = impute(x, values >= np.percentile(values, percentiles[column]))
            changes[name][row, column] = probability(filled, target) - probability(x, target)
        np.testing.assert_allclose(found.changes, changes[name], atol=1e-5)
        np.testing.assert_allclose(found.score, changes[name].mean(1), atol=1e-5)
        assert len(found.images) == 4
    both = metrics.road(net(), a, percentiles=percentiles, noise=0)
    np.testing.assert_allclose(both.changes, (changes["least"] - changes["most"]) / 2, atol=1e-5)
    assert len(both.images) == 8


def test_noise_of_road_depends_on_the_seed():
    one, two, other = (
        metrics.road(net(), attribution(), noise=0.5, seed=seed).score for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 1e-4


def test_the_gradient_of_a_linear_net_has_no_infidelity():
    a = gradient(net(), photo(), [0, 2])
    silent = dataclasses.replace(a, maps=0 * a.maps)
    half = dataclasses.replace(a, maps=a.maps / 2)
    samples, noise = 2000, 0.3
    # The logit changes by w·I: a Gaussian of this variance. Half the gradient misses half of it.
    variance = noise**2 * (WEIGHTS[[0, 2]] ** 2).sum((1, 2, 3))
    measure = functools.partial(
        metrics.infidelity, net(), samples=samples, noise=noise, batch_size=500
    )
    assert measure(a).max() < 1e-9
    error = 5 * np.sqrt(2 / samples)
    np.testing.assert_allclose(measure(silent), variance, rtol=error)
    np.testing.assert_allclose(measure(half), variance / 4, rtol=error)
    assert measure(half, normalize=True).max() < 1e-9


def test_covered_squares_suit_maps_that_sum_to_the_logit():
    a = input_x_gradient(net(), photo(), [0, 1])
    square = remove_square(3)
    assert metrics.infidelity(net(), a, perturb=square, samples=40).max() < 1e-9
    raw = gradient(net(), photo(), [0, 1])
    assert metrics.infidelity(net(), raw, perturb=square, samples=40).min() > 1e-3


def test_squares_are_of_one_size_and_anywhere():
    taken = [remove_square(2)(jax.random.key(n), jnp.ones((4, 4, 1)))[0] for n in range(60)]
    assert {float(square.sum()) for square in taken} == {4}
    assert np.sum(taken, axis=0).min() > 0


def test_sensitivity_of_linear_nets():
    images = [photo(0), photo(1)]
    assert metrics.max_sensitivity(gradient, net(), images, 1).max() == 0
    # Of input times gradient, the change is w·δ.
    radius, samples = 0.1, 6
    found = metrics.max_sensitivity(
        input_x_gradient, net(), images, 1, radius=radius, samples=samples, seed=3
    )
    for row, image in enumerate(images):
        length = np.linalg.norm(WEIGHTS[1] * pixels(image))
        # δ² is of mean radius²/3 and standard deviation radius² √(4/45).
        squares = WEIGHTS[1] ** 2
        mean = radius**2 / 3 * squares.sum()
        spread = radius**2 * np.sqrt(4 / 45 * (squares**2).sum())
        assert np.sqrt(mean - spread) < found[row] * length < np.sqrt(mean + 5 * spread)


def test_completeness_of_integrated_gradients():
    a = integrated_gradients(net(), photo(), [0, 2], steps=2, baselines=["black", "white"])
    assert metrics.completeness(net(), a).max() < 1e-4
    double = dataclasses.replace(a, maps=2 * a.maps)
    np.testing.assert_allclose(metrics.completeness(net(), double), 1, rtol=1e-4)
    for number in (np.float32(0.25), np.array(0.25), 0.25):
        a = integrated_gradients(net(), photo(), 0, steps=2, baselines=number)
        assert a.settings["baselines"] == [0.25]
        assert metrics.completeness(net(), a).max() < 1e-4
    array = np.full((SIZE, SIZE, 3), 0.3, np.float32)
    a = integrated_gradients(net(), photo(), 0, steps=2, baselines=array)
    with pytest.raises(ArgumentError, match="baselines of this integrated-gradients are unknown"):
        metrics.completeness(net(), a)
    assert metrics.completeness(net(), a, baselines=array).max() < 1e-4
    with pytest.raises(ArgumentError, match="baselines of this gradient are unknown"):
        metrics.completeness(net(), gradient(net(), photo()))


def test_rank_correlation():
    assert rank_correlation(np.array([1, 2, 3]), np.array([1, 10, 11])) == pytest.approx(1)
    assert rank_correlation(np.array([1, 2, 3]), np.array([0, -5, -6])) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5, 4 and 2, 1, 3, 4, less their means: -1.5, 0, 0, 1.5 and -0.5, -1.5, 0.5,
    # 1.5.
    assert rank_correlation(np.array([0, 1, 1, 5]), np.array([2, 1, 3, 4])) == pytest.approx(
        3 / np.sqrt(4.5 * 5)
    )
    assert rank_correlation(np.zeros(3), np.arange(3)) == 0


def test_a_cascade_randomises_modules_from_the_head_and_keeps_them():
    model, variables, _ = small("mobilenet_v2")
    trained, seen = as_trained(model, variables), []

    def method(model, inputs):
        assert model is inputs.trained
        seen.append(model.variables)
        return gradient(model, inputs)

    cascade = metrics.cascade_randomization(method, trained, photo(0, 60), 2, size=40)
    names = ("stem", "stage1", "stage2", "stage3", "stage4", "stage5", "conv_head", "head")
    assert cascade.groups == names[::-1]
    assert len(seen) == len(names) + 1
    changed = [
        {
            name
            for name in names
            if any(
                not np.array_equal(a, b)
                for kind in ("params", "batch_stats")
                for a, b in zip(
                    jax.tree.leaves(variables[kind].get(name, {})),
                    jax.tree.leaves(current[kind].get(name, {})),
                    strict=True,
                )
            )
        }
        for current in seen
    ]
    assert changed == [set(names[len(names) - count :]) for count in range(len(names) + 1)]
    assert {a.labels for a in cascade.randomized} == {cascade.original.labels}
    assert len(cascade.gallery()) == len(names) + 1


@pytest.fixture(scope="module")
def photos(lite, examples):
    names = ["cat.jpg", "espresso.jpg"]
    return prepare_inputs(lite, [examples / name for name in names], size=160)


@pytest.mark.slow
def test_a_true_map_changes_with_the_weights(lite, photos):
    cascade = metrics.cascade_randomization(grad_cam, lite, photos)
    assert cascade.groups[0] == "head"
    assert cascade.groups[-1] == "stem"
    assert np.abs(cascade.similarity[-5:].mean()) < 0.35
    # A map of edges alone does not change.
    edges = np.abs(np.diff(np.float32(photos.photos).mean(-1), axis=1, prepend=0))

    def detect_edges(model, inputs):
        return dataclasses.replace(cascade.original, maps=edges)

    untouched = metrics.cascade_randomization(detect_edges, lite, photos)
    np.testing.assert_allclose(untouched.similarity, 1)


@pytest.mark.slow
def test_metrics_prefer_a_true_map_to_random_ones(lite, photos):
    true, count = grad_cam(lite, photos), 4
    # Random maps as smooth as the true one: of as many cells.
    cells = np.random.default_rng(0).random((2 * count, 5, 5, 1))
    maps = np.float32(jax.image.resize(cells, (2 * count, 160, 160, 1), "linear"))[..., 0]
    rows = np.repeat([0, 1], count)
    random = dataclasses.replace(
        true,
        maps=maps,
        labels=tuple(true.labels[row] for row in rows),
        **{name: getattr(true, name)[rows] for name in ("targets", "probabilities", "photos")},
    )

    def better(measure):
        return measure(true) - measure(random).reshape(2, count).mean(1)

    settings = {"steps": 6, "batch_size": 7}
    assert better(lambda a: metrics.insertion(lite, a, **settings).area).min() > 0.03
    assert better(lambda a: metrics.deletion(lite, a, **settings).area).max() < -0.03
    road = functools.partial(metrics.road, lite, percentiles=(50, 70), batch_size=10)
    assert better(lambda a: road(a).score).min() > 0.03


@pytest.mark.parametrize(
    ("metric", "settings", "message"),
    [
        ("insertion", {"steps": 0}, "steps must be an integer of at least 1, got 0"),
        ("deletion", {"fill": "red"}, "'red'"),
        ("road", {"percentiles": (0, 50)}, "percentiles must be a number between 0 and 100, got 0"),
        ("road", {"percentiles": ()}, "percentiles must be"),
        ("road", {"percentiles": "many"}, "percentiles must be .* got 'many'"),
        ("road", {"noise": "a"}, "noise must be a number of at least 0, got 'a'"),
        ("infidelity", {"noise": "a"}, "noise must be a number above 0, got 'a'"),
        ("road", {"order": "first"}, "order must be one of most, least, combined, got 'first'"),
        ("road", {"noise": -1}, "noise must be a number of at least 0, got -1"),
        ("infidelity", {"samples": 0}, "samples must be"),
        ("infidelity", {"noise": 0}, "noise must be a number above 0, got 0"),
    ],
)
def test_bad_settings(metric, settings, message):
    with pytest.raises(ArgumentError, match=message):
        getattr(metrics, metric)(net(), attribution(), **settings)


def test_bad_settings_of_sensitivity():
    for radius in (-1, "a", None):
        with pytest.raises(ArgumentError, match=f"radius must be a number above 0, got {radius!r}"):
            metrics.max_sensitivity(gradient, net(), photo(), radius=radius)
    with pytest.raises(ArgumentError, match="samples must be"):
        metrics.max_sensitivity(gradient, net(), photo(), samples=0)


def test_a_model_without_the_class_is_refused():
    other = linear(WEIGHTS[:2], BIAS[:2])
    with pytest.raises(TargetError, match="of class 2, but Tiny has 2 classes"):
        metrics.deletion(other, attribution())
