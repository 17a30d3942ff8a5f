"""The photos of a folder in the order of a channel, of their similarity, and on a map."""

import dataclasses
import io
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

import zoo
from tests.zoo.visualize.by_hand import SIZE, photo, plain
from zoo.runtime.checks import ArgumentError
from zoo.surgery.embed import EmbeddingError, Embeddings, embed_folder
from zoo.visualize.embedding_map import embedding_map, find_positions
from zoo.visualize.folders import nearest, top_photos
from zoo.visualize.layers import LayerError
from zoo.visualize.pictures import PictureError

# Channel 0 is red less green and blue, channel 1 is blue less the others, channel 2 is brightness.
COLORS = np.array([[1, -1, 1], [-1, -1, 1], [-1, 1, 1]]) / 3


def color_net():
    return plain(COLORS, [0, 0, 0], np.eye(3))


def flat(red, green, blue):
    return np.full((SIZE, SIZE, 3), [red, green, blue], np.uint8)


def write(folder, photos):
    """Saves photos by name, and gives the folder."""
    folder.mkdir(exist_ok=True)
    for name, pixels in photos.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def names_of(ranked):
    return [name.rpartition("/")[2].removesuffix(".png") for name in ranked.names]


@pytest.fixture
def random_folder(tmp_path):
    return write(tmp_path / "random", {f"{seed:02}": photo(seed) for seed in range(11)})


def test_the_top_photos_of_a_color_have_that_color(tmp_path):
    half = np.concatenate([flat(250, 0, 0)[:, : SIZE // 2], flat(0, 0, 0)[:, SIZE // 2 :]], axis=1)
    folder = write(
        tmp_path / "photos",
        {"grey": flat(90, 90, 90), "red": flat(240, 10, 10), "blue": flat(0, 0, 200), "half": half},
    )
    by_max = top_photos(color_net(), folder, "features:0", 2)
    by_mean = top_photos(color_net(), folder, "features:0", 2, reduce="mean")
    assert names_of(by_max) == ["half", "red"]
    assert names_of(by_mean) == ["red", "half"]
    np.testing.assert_allclose(by_max.values, [250 / 765, 220 / 765], atol=1e-6)
    np.testing.assert_allclose(by_mean.values, [220 / 765, 125 / 765], atol=1e-6)
    assert list(by_max.titles) == ["0.33  half.png", "0.29  red.png"]
    assert names_of(top_photos(color_net(), folder, "features:1", 1)) == ["blue"]


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_the_order_is_that_of_all_photos_at_once_in_batches_of_any_size(random_folder, reduce):
    x = np.stack([photo(seed) for seed in range(11)]) / 255
    maps = np.maximum(x @ COLORS, 0)[..., 2]
    values = getattr(maps, reduce)(axis=(1, 2))
    order = np.argsort(-values, kind="stable")
    for batch_size, count in itertools.product((1, 3, 32), (4, 30)):
        found = top_photos(
            color_net(), random_folder, "features:2", count, reduce=reduce, batch_size=batch_size
        )
        assert names_of(found) == [f"{row:02}" for row in order[:count]]
        np.testing.assert_allclose(found.values, values[order[:count]], atol=1e-6)


def test_of_equal_photos_the_first_ones_are_shown():
    photos = [flat(0, 0, 0), *[flat(200, 0, 0)] * 5]
    for batch_size in (1, 2, 32):
        found = top_photos(color_net(), photos, "features:0", 3, batch_size=batch_size)
        assert found.names == ("image 1", "image 2", "image 3")


def test_a_photo_is_bright_where_the_channel_responds():
    image = flat(100, 100, 100)
    image[:, SIZE // 2 :] = 200, 60, 60
    shown = {
        show: top_photos(color_net(), [image], "features:0", 1, show=show)[0].pixels
        for show in ("photo", "highlight", "overlay")
    }
    np.testing.assert_array_equal(shown["photo"], image)
    np.testing.assert_array_equal(shown["highlight"][:, -2:], image[:, -2:])
    np.testing.assert_array_equal(shown["highlight"][:, :2], 35)  # of 100
    assert (shown["overlay"][:, -2:].mean((0, 1)) > shown["overlay"][:, :2].mean((0, 1))).all()


def test_the_class_of_a_photo_is_a_channel_too(tmp_path):
    photos = [flat(0, 0, 250), flat(250, 0, 0), flat(0, 250, 0)]
    found = top_photos(color_net(), photos, "head:0", 1)
    assert found.names == ("image 1",)
    np.testing.assert_array_equal(found.pixels[0], photos[1])


def test_photos_that_cannot_be_read_are_left_out(random_folder):
    (random_folder / "03.png").write_bytes(b"no image")
    read = []
    with pytest.warns(UserWarning, match=r"1 of 11 photos are left out: .*03\.png is not an"):
        found = top_photos(
            color_net(),
            random_folder,
            "features:2",
            20,
            batch_size=4,
            progress=lambda done, total: read.append((done, total)),
        )
    assert read == [(4, 11), (8, 11), (11, 11)]
    assert len(found) == 10
    assert len(found.skipped) == 1
    assert "03" not in names_of(found)
    with pytest.warns(UserWarning, match="1 of 11 photos"):
        assert len(nearest(color_net(), photo(1), random_folder, count=20)) == 10
    for path in random_folder.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(zoo.ImageError, match=r"00\.png is not an image"):
        top_photos(color_net(), random_folder, "features:2")


def test_the_nearest_photo_is_the_photo_itself_then_its_brighter_copy(lite, examples, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("cat", "espresso", "rocket"):
        image = Image.open(examples / f"{name}.jpg")
        image.save(folder / f"{name}.png")
        ImageEnhance.Brightness(image).enhance(1.2).save(folder / f"{name} bright.png")
        image.transpose(Image.Transpose.ROTATE_180).save(folder / f"{name} turned.png")
    embeddings = embed_folder(lite, folder)
    embeddings.save(tmp_path / "kept.npz")
    for name in ("cat", "espresso", "rocket"):
        found = nearest(lite, folder / f"{name}.png", Embeddings.load(tmp_path / "kept.npz"))
        assert names_of(found)[:3] == [name, f"{name} bright", f"{name} turned"]
        assert found.values[0] == pytest.approx(1, abs=1e-5)
        assert found.titles[0] == f"1.00  {name}.png"
        assert (np.diff(found.values) <= 0).all()
    again = nearest(lite, folder / "rocket.png", folder)
    assert again.names == found.names
    np.testing.assert_array_equal(again.pixels, found.pixels)


def two_clusters(count, seed=0):
    """As many reddish and as many bluish photos, in turn."""
    rng = np.random.default_rng(seed)
    strong, weak = rng.integers(150, 255, 2 * count), rng.integers(0, 40, (2 * count, 2))
    return [
        flat(s, *w) if number % 2 == 0 else flat(*w, s)
        for number, (s, w) in enumerate(zip(strong, weak, strict=True))
    ]


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_map_keeps_clusters_apart(method):
    photos = two_clusters(12)
    found = embedding_map(color_net(), photos, method=method, size=300)
    distances = np.linalg.norm(found.positions[:, None] - found.positions[None], axis=-1)
    same = np.arange(24)[:, None] % 2 == np.arange(24)[None] % 2
    np.fill_diagonal(distances, np.inf)
    assert same[np.arange(24), distances.argmin(axis=1)].all()
    assert found.positions.min() >= 0
    assert found.positions.max() <= 1
    assert max(found.pixels.shape) == 300
    # The thumbnails lie at the positions: the right half of the red ones is not blue, and so on.
    for number, (x, y) in enumerate(found.positions - found.positions.min(axis=0)):
        side = 39  # as 24 thumbnails cover 40 % of 300x300
        left, top = int(x * (300 - side)), int(y * (300 - side))
        patch = found.pixels[top : top + side, left : left + side].reshape(-1, 3)
        channels = patch[(patch < 255).any(axis=1)].mean(axis=0)
        assert channels.argmax() == (0, 2)[number % 2]
    again = embedding_map(color_net(), photos, method=method, size=300)
    np.testing.assert_array_equal(again.pixels, found.pixels)


def test_no_photo_covers_another_in_a_grid():
    photos = two_clusters(11)
    found = embedding_map(color_net(), photos, method="pca", grid=True, size=200)
    cells = found.pixels[20::40, 20::40].reshape(-1, 3)  # 5 x 5 cells of 40 pixels
    shown = sorted(map(tuple, cells[(cells < 255).any(axis=1)].tolist()))
    assert shown == sorted(tuple(image[0, 0].tolist()) for image in photos)
    red = np.argwhere(found.pixels[20::40, 20::40].argmax(-1) == 0)
    blue = np.argwhere(found.pixels[20::40, 20::40].argmax(-1) == 2)
    assert np.linalg.norm(red.mean(0) - blue.mean(0)) > 2


def test_principal_components_are_those_of_the_covariance():
    vectors = np.random.default_rng(0).normal(size=(20, 5)) * [5, 3, 1, 1, 1]
    positions = find_positions(np.float32(vectors), "pca")
    _, axes = np.linalg.eigh(np.cov(vectors.T))
    points = (vectors - vectors.mean(0)) @ axes[:, :-3:-1]
    scale = np.ptp(points, axis=0).max()
    for axis in range(2):
        expected, got = points[:, axis] / scale, positions[:, axis]
        expected, got = expected - expected.mean(), got - got.mean()
        assert min(abs(expected - got).max(), abs(expected + got).max()) < 1e-4


def test_photos_that_are_all_equal_have_a_map():
    found = embedding_map(color_net(), [flat(200, 0, 0)] * 5, grid=True, size=120)
    assert np.isfinite(found.positions).all()
    middle = embedding_map(color_net(), [flat(200, 0, 0)] * 5, method="pca", size=120)
    np.testing.assert_array_equal(middle.positions, 0.5)


def test_wrong_features_are_errors():
    net = color_net()
    for wrong in ("features", "features:", "features:red", "features:-1", ":3", ""):
        with pytest.raises(LayerError):
            top_photos(net, [photo()], wrong)
    with pytest.raises(LayerError, match=r"'features' of Plain has the channels 0 to 2, got 3"):
        top_photos(net, [photo()], "features:3")
    with pytest.raises(LayerError, match=r"no layer 'feature'; did you mean features"):
        top_photos(net, [photo()], "feature:0")
    headless = net.replace(variables={"params": {"features": net.variables["params"]["features"]}})
    with pytest.raises(ValueError, match="have no classifier"):
        top_photos(headless, [photo()], "head:0")
    assert len(top_photos(headless, [photo()], "features:0")) == 1


def test_wrong_arguments_of_top_photos_are_errors(tmp_path):
    net = color_net()
    with pytest.raises(ValueError, match="count must be an integer of at least 1, got 0"):
        top_photos(net, [photo()], "features:0", 0)
    with pytest.raises(PictureError, match="reduce must be one of max, mean, got 'maximum'"):
        top_photos(net, [photo()], "features:0", reduce="maximum")
    with pytest.raises(PictureError, match=r"show must be one of .* did you mean overlay"):
        top_photos(net, [photo()], "features:0", show="overlays")
    with pytest.raises(zoo.ImageError, match="is a folder without images"):
        top_photos(net, tmp_path, "features:0")
    broken = net.replace(
        variables={
            "params": {
                **net.variables["params"],
                "features": {"kernel": jnp.eye(3)[None, None], "bias": jnp.full(3, jnp.inf)},
            }
        }
    )
    with pytest.raises(FloatingPointError, match="'features' is not finite"):
        top_photos(broken, [photo()], "features:0")


def test_wrong_arguments_of_nearest_are_errors(random_folder, tmp_path):
    net = color_net()
    embeddings = embed_folder(net, random_folder)
    with pytest.raises(ValueError, match="count must be an integer of at least 1, got 0"):
        nearest(net, photo(), embeddings, count=0)
    with pytest.raises(PictureError, match="one image, got 2"):
        nearest(net, [photo(), photo()], embeddings)
    with pytest.raises(PictureError, match="of the layer None, which layer='features' cannot"):
        nearest(net, photo(), embeddings, layer="features")
    other = dataclasses.replace(embeddings, weights="others")
    with pytest.raises(EmbeddingError, match="of Tiny with the weights 'others', the model is"):
        nearest(net, photo(), other)
    (random_folder / "05.png").unlink()
    with pytest.raises(zoo.ImageError, match=r"05\.png cannot be read"):
        nearest(net, photo(5), embeddings)


def test_embeddings_of_images_without_files_are_errors(random_folder):
    net = color_net()
    for sources in ([photo(n) for n in range(4)], [Image.fromarray(photo(n)) for n in range(4)]):
        embeddings = embed_folder(net, sources)
        with pytest.raises(EmbeddingError, match="images without files, such as 'image 0'"):
            nearest(net, photo(), embeddings)
        with pytest.raises(EmbeddingError, match="images without files, such as 'image 0'"):
            embedding_map(net, embeddings, method="pca")
    opened = [Image.open(path) for path in sorted(random_folder.iterdir())]
    assert names_of(nearest(net, photo(3), embed_folder(net, opened), count=1)) == ["03"]


def test_streams_are_as_good_as_files(random_folder):
    net, paths = color_net(), sorted(random_folder.iterdir())
    streams = [io.BytesIO(path.read_bytes()) for path in paths]
    found, expected = nearest(net, paths[3], streams), nearest(net, paths[3], paths)
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    found, expected = (embedding_map(net, s, method="pca", size=200) for s in (streams, paths))
    np.testing.assert_array_equal(found.pixels, expected.pixels)


def test_wrong_arguments_of_maps_are_errors(random_folder, tmp_path):
    net = color_net()
    with pytest.raises(PictureError, match="at least 4 photos, got 3"):
        embedding_map(net, [photo()] * 3)
    with pytest.raises(PictureError, match="method must be one of tsne, pca, got 'umap'"):
        embedding_map(net, random_folder, method="umap")
    with pytest.raises(ArgumentError, match=r"perplexity of 11 photos .* from 1 to 10, got"):
        embedding_map(net, random_folder, perplexity=11)
    for wrong in ({"perplexity": "a"}, {"perplexity": 0.5}, {"size": "a"}, {"size": 99.5}):
        name, value = next(iter(wrong.items()))
        with pytest.raises(ArgumentError, match=f"{name} must be .*, got {value!r}"):
            embedding_map(net, tmp_path / "not read", **wrong)
    for grid in (False, True):
        with pytest.raises(PictureError, match="size must be larger for so many photos, got 15"):
            embedding_map(net, random_folder, method="pca", grid=grid, size=15)
    with pytest.raises(zoo.ImageError, match="is a folder without images"):
        embedding_map(net, write(tmp_path / "empty", {}), method="pca")
