"""Class activation maps, against values by hand on a tiny net and where the animal is."""

import jax
import numpy as np
import pytest
from PIL import Image

import zoo
from tests.zoo.models.small_models import SMALL, small
from tests.zoo.visualize.by_hand import linear, photo, pixels, plain
from zoo.checkpoints.load import as_trained
from zoo.visualize import cam, layers
from zoo.visualize.attribution import resize_maps
from zoo.visualize.inputs import prepare_inputs
from zoo.visualize.layers import LayerError, find_layer, layer_shapes, select_targets

# Channel 0 sees red − 0.5, channel 1 green + blue; kind 1 weighs them by −1 and 3.
KERNEL, BIAS, HEAD = [[1, 0], [0, 1], [0, 1]], [-0.5, 0], [[2, -1], [0.5, 3]]
LAYER, AREA = "features", 64
NAMES = (
    "grad_cam",
    "grad_cam_plus_plus",
    "x_grad_cam",
    "hires_cam",
    "layer_cam",
    "eigen_cam",
    "score_cam",
    "ablation_cam",
    "guided_grad_cam",
)


@pytest.fixture(scope="module")
def net():
    return plain(KERNEL, BIAS, HEAD)


def values(target):
    """A [8, 8, 2], the output of "features", and G, which is the same at every position."""
    x = pixels(photo())
    a = np.maximum(np.stack([x[..., 0] - 0.5, x[..., 1] + x[..., 2]], -1), 0)
    return a, np.float64(HEAD)[:, target] / AREA


def run(method, net, target, **settings):
    a = getattr(cam, method)(net, photo(), target, layer=LAYER, **settings)
    assert a.settings == {"layer": LAYER}
    return a.maps[0]


@pytest.mark.parametrize("target", [0, 1])
def test_grad_cam(net, target):
    a, g = values(target)
    np.testing.assert_allclose(run("grad_cam", net, target), np.maximum(a @ g, 0), atol=1e-6)


@pytest.mark.parametrize("target", [0, 1])
def test_hires_cam_is_grad_cam_before_a_mean_and_a_dense_layer(net, target):
    a, g = values(target)
    np.testing.assert_allclose(run("hires_cam", net, target), np.maximum(a @ g, 0), atol=1e-6)


def test_grad_cam_plus_plus(net):
    a, g = values(1)
    alpha = g**2 / (2 * g**2 + a.sum((0, 1)) * g**3 + 1e-6)
    weights = np.maximum(g, 0) * alpha * AREA
    expected = np.maximum(a @ weights, 0)
    np.testing.assert_allclose(run("grad_cam_plus_plus", net, 1), expected, rtol=1e-4, atol=1e-6)


def test_x_grad_cam(net):
    a, g = values(1)
    weights = (g * a).sum((0, 1)) / a.sum((0, 1))
    expected = np.maximum(a @ weights, 0)
    np.testing.assert_allclose(run("x_grad_cam", net, 1), expected, rtol=1e-4, atol=1e-6)


def test_layer_cam(net):
    a, g = values(1)
    expected = a[..., 1] * g[1]  # the gradient of channel 0 is negative
    np.testing.assert_allclose(run("layer_cam", net, 1), expected, rtol=1e-5)


def test_eigen_cam_is_the_first_principal_component(net):
    a, _ = values(0)
    rows = a.reshape(-1, 2)
    centered = rows - rows.mean(0)
    _, _, directions = np.linalg.svd(centered)
    projection = centered @ directions[0]
    energy = np.linalg.norm(rows, axis=-1)
    projection *= np.sign(projection @ (energy - energy.mean()))
    expected = np.maximum(projection, 0).reshape(8, 8)
    np.testing.assert_allclose(run("eigen_cam", net, 0), expected, rtol=1e-3, atol=1e-5)


def test_eigen_cam_by_positions_or_by_channels(lite, examples):
    """An early layer has more positions than channels, a late one fewer."""
    inputs = prepare_inputs(lite, examples / "cat.jpg", size=96)
    for layer in ("stage2", "stage6"):
        a = np.float64(zoo.features(lite, inputs.x, layer)[layer][0])
        rows = a.reshape(-1, a.shape[-1])
        assert (len(rows) > rows.shape[1]) == (layer == "stage2")
        centered = rows - rows.mean(0)
        u, values, _ = np.linalg.svd(centered, full_matrices=False)
        component = (u[:, 0] * values[0]).reshape(a.shape[:2])
        found = cam.eigen_cam(lite, inputs, layer=layer).maps[0]
        parts = np.maximum(np.stack([component, -component]), 0)
        errors = np.abs(found - resize_maps(np.float32(parts), found.shape)).max((1, 2))
        assert errors.min() < 1e-3 * np.abs(component).max()


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_score_cam(net, batch_size):
    a, _ = values(1)
    low, high = a.min((0, 1)), a.max((0, 1))
    scores = []
    for channel in range(2):
        mask = (a[..., channel] - low[channel]) / (high[channel] - low[channel])
        x = pixels(photo()) * mask[..., None]
        y = np.maximum(np.stack([x[..., 0] - 0.5, x[..., 1] + x[..., 2]], -1), 0)
        scores.append(y.mean((0, 1)) @ np.float64(HEAD)[:, 1])
    weights = np.exp(scores) / np.exp(scores).sum()
    expected = a @ weights
    found = run("score_cam", net, 1, batch_size=batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_ablation_cam(net, batch_size):
    a, _ = values(1)
    parts = a.mean((0, 1)) * np.float64(HEAD)[:, 1]  # the logit is their sum
    expected = np.maximum(a @ parts, 0)
    found = run("ablation_cam", net, 1, batch_size=batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_ablation_cam_of_a_negative_or_absent_logit():
    """Nothing speaks for the class, so that the map is empty."""
    for head in ([[-2, 0], [-1, 0]], [[0, 1], [0, 1]]):
        assert not run("ablation_cam", plain(KERNEL, BIAS, head), 0).any()


def test_guided_grad_cam_is_the_product(net):
    a, g = values(1)
    guided = np.zeros((8, 8, 3))
    guided[..., 1:] = 3 / AREA  # the gradient at channel 0 is negative, and stopped
    expected = guided * np.maximum(a @ g, 0)[..., None]
    np.testing.assert_allclose(run("guided_grad_cam", net, 1), expected, atol=1e-6)


def test_maps_are_resized_between_the_centres_of_positions(lite, examples):
    inputs = prepare_inputs(lite, examples / "cat.jpg", size=64)
    a = cam.grad_cam(lite, inputs, layer="stage7")
    shape = layer_shapes(lite, 64)["stage7"]
    assert shape[:2] == (2, 2)
    corners = a.maps[0][[0, 0, -1, -1], [0, -1, 0, -1]].reshape(2, 2)
    blocks = np.repeat(np.repeat(corners, 32, 0), 32, 1)
    expected = np.asarray(Image.fromarray(np.float32(corners)).resize((64, 64), 2))
    np.testing.assert_allclose(a.maps[0], expected, atol=1e-3 * np.abs(blocks).max())


@pytest.mark.parametrize("family", SMALL)
def test_default_layer_of_every_family_is_the_last_feature_map(family):
    model, variables, _ = small(family)
    trained = as_trained((model, variables))
    path = find_layer(trained, None, spatial=True, size=64)
    shapes = layer_shapes(trained, 64)
    assert path.split("/")[0] not in model.classifier
    assert len(shapes[path]) == 3
    behind = list(shapes)[list(shapes).index(path) + 1 :]
    assert any(name.split("/")[0] in model.classifier for name in behind)
    others = [
        shapes[name]
        for name in behind
        if name.split("/")[0] not in model.classifier and not name.startswith("dropout")
    ]
    assert all(len(shape) == 1 or shape[:2] == (1, 1) for shape in others)


def inside(a, box):
    """The share of a map in a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    return float(a.maps[0][top:bottom, left:right].sum() / a.maps[0].sum())


def place_cat(examples, left, top):
    """The cat, half as large, in a grey picture of 224x224; and its box."""
    sheet = Image.new("RGB", (224, 224), (124, 116, 104))
    cat = Image.open(examples / "cat.jpg").convert("RGB")
    side = cat.height
    cat = cat.crop(((cat.width - side) // 2, 0, (cat.width + side) // 2, side))
    sheet.paste(cat.resize((112, 112)), (left, top))
    return sheet, (left, top, left + 112, top + 112)


@pytest.mark.parametrize("corner", [(8, 8), (104, 8), (8, 104), (104, 104)])
def test_grad_cam_follows_the_animal(corner, lite, examples):
    """The box holds a quarter of the picture."""
    sheet, box = place_cat(examples, *corner)
    assert inside(cam.grad_cam(lite, sheet, "tiger cat"), box) > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in NAMES if name != "guided_grad_cam"])
def test_all_cams_put_their_mass_on_the_animal(method, lite, examples):
    sheet, box = place_cat(examples, 104, 104)
    assert inside(getattr(cam, method)(lite, sheet, "tiger cat"), box) > 0.5


# Drawn by hand on the photos as the model sees them, 224x224: the cat's face, without the ground
# beside it, and the cup without saucer and spoon.
BOXES = {
    "cat.jpg": ("tiger cat", (30, 50, 215, 215)),
    "espresso.jpg": ("espresso", (28, 0, 190, 192)),
}


@pytest.mark.parametrize("name", BOXES)
def test_grad_cam_is_denser_on_what_the_example_photos_show(name, lite, examples):
    label, box = BOXES[name]
    share = inside(cam.grad_cam(lite, examples / name, label), box)
    left, top, right, bottom = box
    area = (right - left) * (bottom - top) / 224**2
    assert share / area > 1.3 * (1 - share) / (1 - area)


def test_maps_change_with_random_weights(lite, examples):
    image = examples / "cat.jpg"
    shuffled = jax.tree.map(
        lambda v: jax.random.permutation(jax.random.key(1), v.reshape(-1)).reshape(v.shape),
        lite.variables["params"],
    )
    other = lite.replace(variables={**lite.variables, "params": shuffled})
    maps = [cam.grad_cam(model, image, 281, layer="stage5").heat_maps for model in (lite, other)]
    assert np.corrcoef(maps[0].reshape(-1), maps[1].reshape(-1))[0, 1] < 0.5


def test_a_batch_is_its_images(net):
    images = [photo(0), photo(1)]
    both = cam.grad_cam(net, images, [1, 0], layer=LAYER)
    for row, (image, target) in enumerate(zip(images, (1, 0), strict=True)):
        one = cam.grad_cam(net, image, target, layer=LAYER)
        np.testing.assert_allclose(both[row].maps, one.maps, rtol=1e-5)
        assert both[row].labels == one.labels


def test_layers_that_cannot_be_used(net, lite, examples):
    with pytest.raises(LayerError, match="has no layer 'feature'; did you mean features"):
        cam.grad_cam(net, photo(), layer="feature")
    with pytest.raises(LayerError, match=r"'head' of Linear has no spatial extent.*\[2\]"):
        cam.grad_cam(linear(np.ones((2, 8, 8, 3)), [0, 0]), photo(), layer="head")
    with pytest.raises(LayerError, match="no feature map of more than one position"):
        cam.grad_cam(linear(np.ones((2, 8, 8, 3)), [0, 0]), photo())
    with pytest.raises(LayerError, match=r"layer 'stage7' of EfficientNetLite0.*\[1, 1, 320\]"):
        cam.grad_cam(lite, examples / "cat.jpg", size=32, layer="stage7")


def test_one_compilation_serves_all_targets(lite, examples, monkeypatch):
    traced = []

    def count(logits, targets):
        traced.append(logits.shape)
        return select_targets(logits, targets)

    monkeypatch.setattr(layers, "select_targets", count)
    for target in (281, "espresso", None):
        cam.grad_cam(lite, examples / "cat.jpg", target, layer="stage6", size=72)
    assert len(traced) == 1
