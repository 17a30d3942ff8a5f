"""Embeddings are pooled features, whichever way the images come."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import zoo
from tests.zoo.models.small_models import SMALL, small
from tests.zoo.visualize.by_hand import photo, plain
from zoo.checkpoints.load import as_trained
from zoo.surgery.embed import EmbeddingError, Embeddings, embed, embed_folder
from zoo_kernels import native
from zoo_kernels.native import build

# The last feature map before the classifier.
LAST = {
    "densenet": "preact",
    "efficientnet_lite": "conv_head",
    "googlenet": "stage5",
    "mobilenet_v1": "stage5",
    "mobilenet_v2": "conv_head",
    "mobilenet_v3": "conv_head",
    "resnet": "stage4",
    "squeezenet": "stage3",
    "vgg": "stage5",
    "xception": "separable2",
}


def small_trained(family, size=64):
    """A family's small member, for images of a small size."""
    trained = as_trained(small(family)[:2])
    preprocessing = trained.info.preprocessing.resized(size)
    return dataclasses.replace(
        trained, info=dataclasses.replace(trained.info, preprocessing=preprocessing)
    )


def unit(vectors):
    """Rows of length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def write_photos(folder, count, size=16):
    """Saves random photos as 0.png, 1.png … and gives them as one array."""
    folder.mkdir(exist_ok=True)
    photos = np.stack([photo(seed, size) for seed in range(count)])
    for number, pixels in enumerate(photos):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return photos


@pytest.mark.parametrize("family", SMALL)
def test_families_give_the_mean_of_their_last_features(family):
    trained = small_trained(family)
    images = [photo(1, 70), photo(2, 80)]
    x = jnp.asarray(trained.preprocess(images))
    output = np.float64(zoo.features(trained, x, LAST[family])[LAST[family]])
    pooled = output.mean((1, 2))
    assert pooled.std() > 0
    np.testing.assert_allclose(embed(trained, images), unit(pooled), atol=1e-5)
    raw = embed(trained, images, normalize=False)
    np.testing.assert_allclose(raw, pooled, rtol=1e-4, atol=1e-5 * np.abs(pooled).max())


@pytest.mark.parametrize("family", ["resnet", "densenet", "googlenet", "mobilenet_v2"])
def test_the_head_makes_logits_of_them(family):
    trained, image = small_trained(family), photo(3, 70)
    head = trained.variables["params"]["head"]
    vector = np.float64(embed(trained, image, normalize=False))
    expected = vector @ np.float64(head["kernel"]) + np.float64(head["bias"])
    logits = np.asarray(trained(jnp.asarray(trained.preprocess(image))))
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("family", ["vgg", "mobilenet_v3", "squeezenet"])
def test_weights_without_a_classifier_do(family):
    trained, image = small_trained(family), photo(4, 70)
    params = trained.variables["params"]
    rest = {name: params[name] for name in params if name not in trained.model.classifier}
    headless = trained.replace(variables={**trained.variables, "params": rest})
    assert not headless.info.head
    np.testing.assert_array_equal(embed(headless, image), embed(trained, image))


def test_a_hidden_layer_is_taken_as_it_is():
    trained, image = small_trained("vgg"), photo(5, 70)
    x = jnp.asarray(trained.preprocess(image))
    expected = np.float64(zoo.features(trained, x, "fc7")["fc7"])
    np.testing.assert_allclose(embed(trained, image, layer="fc7"), unit(expected), atol=1e-5)


def test_a_hand_made_net():
    trained = plain(np.diag([1.0, 2.0, -1.0]), [0, 0, 0], np.eye(3))
    image = np.full((8, 8, 3), [51, 102, 153], np.uint8)  # 0.2, 0.4, 0.6
    raw = embed(trained, image, normalize=False)
    np.testing.assert_allclose(raw, [[0.2, 0.8, 0]], atol=1e-6)
    np.testing.assert_allclose(
        embed(trained, image), [[0.2 / 0.68**0.5, 0.8 / 0.68**0.5, 0]], atol=1e-6
    )
    black = np.zeros((8, 8, 3), np.uint8)  # a vector of zeros has no direction
    np.testing.assert_array_equal(embed(trained, black), [[0, 0, 0]])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 32])
def test_batches_of_any_size_and_folders_give_the_same(tmp_path, batch_size):
    trained = plain(np.random.default_rng(0).normal(size=(3, 4)), [0] * 4, np.ones((4, 2)))
    photos = write_photos(tmp_path / "photos", 7)
    expected = np.concatenate([embed(trained, each) for each in photos])
    read = []
    found = embed(
        trained,
        tmp_path / "photos",
        batch_size=batch_size,
        progress=lambda done, total: read.append((done, total)),
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(embed(trained, photos, batch_size=batch_size), found, atol=1e-6)
    assert read[-1] == (7, 7)
    assert len(read) == -(-7 // batch_size)


def test_a_folder_is_kept_in_a_file(tmp_path):
    trained = plain(np.random.default_rng(0).normal(size=(3, 4)), [0.1] * 4, np.ones((4, 2)))
    write_photos(tmp_path / "photos", 5)
    (tmp_path / "photos" / "2.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1 of 5 photos are left out: .*2\.png is not an image"):
        embeddings = embed_folder(trained, tmp_path / "photos", batch_size=2)
    names = [str(tmp_path / "photos" / f"{number}.png") for number in (0, 1, 3, 4)]
    assert list(embeddings.names) == names
    np.testing.assert_allclose(embeddings.vectors, embed(trained, names), atol=1e-6)

    embeddings.save(tmp_path / "kept.npz")
    loaded = Embeddings.load(tmp_path / "kept.npz")
    assert dataclasses.replace(loaded, vectors=None).__dict__ == (
        dataclasses.replace(embeddings, vectors=None).__dict__
    )
    np.testing.assert_array_equal(loaded.vectors, embeddings.vectors)
    assert [path.name for path in tmp_path.iterdir() if "npz" in path.name] == ["kept.npz"]

    query = embed(trained, names[2])[0]
    similarities = embeddings.vectors @ query
    order = np.argsort(-similarities)
    assert [name for name, _ in loaded.nearest(query, 3)] == [names[row] for row in order[:3]]
    np.testing.assert_allclose(
        [value for _, value in loaded.nearest(3 * query, 9)], similarities[order], atol=1e-6
    )


def test_images_that_cannot_be_read_are_errors_where_rows_have_no_names(tmp_path):
    trained = plain(np.eye(3), [0] * 3, np.eye(3))
    write_photos(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(zoo.ImageError, match=r"1\.png is not an image"):
        embed(trained, tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(zoo.ImageError, match="empty is a folder without images"):
        embed_folder(trained, empty)
    with pytest.raises(zoo.ImageError, match="got no images"):
        embed(trained, [])


def test_wrong_arguments_are_errors(tmp_path):
    trained, image = plain(np.eye(3), [0] * 3, np.eye(3)), photo()
    with pytest.raises(EmbeddingError, match=r"no module 'feature'; did you mean features"):
        embed(trained, image, layer="feature")
    with pytest.raises(EmbeddingError, match="layer must be one module"):
        embed(trained, image, layer="*")
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1, got 0"):
        embed(trained, image, batch_size=0)
    broken = trained.replace(
        variables={
            "params": {
                **trained.variables["params"],
                "features": {"kernel": jnp.eye(3)[None, None], "bias": jnp.full(3, jnp.inf)},
            }
        }
    )
    with pytest.raises(FloatingPointError, match="not finite"):
        embed(broken, image)


def test_wrong_embeddings_are_errors(tmp_path):
    trained, image = plain(np.eye(3), [0] * 3, np.eye(3)), photo()
    embeddings = embed_folder(trained, [image])
    with pytest.raises(EmbeddingError, match=r"must have 3 numbers .* got shape \[2\]"):
        embeddings.nearest(np.ones(2))
    with pytest.raises(ValueError, match="count must be an integer of at least 1, got 0"):
        embeddings.nearest(np.ones(3), 0)
    with pytest.raises(EmbeddingError, match=r"must end in \.npz"):
        embeddings.save(tmp_path / "kept.txt")
    with pytest.raises(EmbeddingError, match="cannot be read as embeddings"):
        Embeddings.load(tmp_path / "none.npz")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(EmbeddingError, match="cannot be read as embeddings"):
        Embeddings.load(tmp_path / "damaged.npz")
    other = dataclasses.replace(embeddings, vectors=np.zeros((2, 3), np.float32))
    other.save(tmp_path / "other.npz")
    with pytest.raises(EmbeddingError, match=r"1 names and float32 vectors of shape \[2, 3\]"):
        Embeddings.load(tmp_path / "other.npz")


@pytest.mark.parametrize("family", sorted(LAST))
def test_native_layers_give_the_same_vectors(family, native_library, monkeypatch):
    trained = small_trained(family)
    photos = [photo(seed) for seed in range(2)]
    monkeypatch.setattr(build, "_is_compiled", lambda: False)
    want = embed(trained, photos)
    monkeypatch.setattr(build, "_is_compiled", lambda: True)
    taken = []
    run = native.conv
    monkeypatch.setattr(native, "conv", lambda *a, **kw: taken.append(1) or run(*a, **kw))
    np.testing.assert_allclose(embed(trained, photos), want, atol=1e-5)
    assert taken
