"""Pictures of attributions, and files."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from tests.zoo.visualize.by_hand import photo
from zoo.visualize import pictures
from zoo.visualize.attribution import Attribution, compare
from zoo.visualize.pictures import Gallery, Picture, PictureError


def attribution(maps):
    maps = np.asarray(maps, np.float32)
    count = len(maps)
    labels = tuple(f"kind {n}" for n in range(count))
    photos = np.stack([photo(n) for n in range(count)])
    return Attribution(
        "grad-cam", maps, np.arange(count), labels, np.full(count, 0.25), photos, {"layer": "a"}
    )


def ramp():
    return np.broadcast_to(np.linspace(-1, 3, 8), (8, 8))


def test_heat_maps_are_what_speaks_for_the_class():
    a = attribution([ramp(), np.zeros((8, 8)), -np.ones((8, 8))])
    np.testing.assert_allclose(a.heat_maps[0], np.maximum(ramp(), 0) / 3, rtol=1e-6)
    assert not a.heat_maps[1:].any()


def test_heat_maps_of_gradients_sum_absolute_values():
    maps = np.random.default_rng(0).normal(size=(1, 8, 8, 3))
    heat = attribution(maps).heat_maps[0]
    sums = np.abs(maps[0]).sum(-1)
    order = np.argsort(sums.reshape(-1))
    assert (np.diff(heat.reshape(-1)[order]) >= 0).all()
    assert heat.min() == 0
    assert heat.max() == 1


def test_it_is_a_sequence_of_its_images():
    a = attribution([ramp(), 2 * ramp()])
    assert len(a) == 2
    assert [one.labels for one in a] == [("kind 0",), ("kind 1",)]
    np.testing.assert_array_equal(a[-1].maps[0], a.maps[1])
    np.testing.assert_array_equal(a[:1].photos, a.photos[:1])
    with pytest.raises(IndexError):
        a[2]


def test_signed_pictures_are_red_for_and_blue_against_the_class():
    pixels = attribution([ramp() - 1]).render("signed")[0].astype(int)
    assert pixels[0, 0, 2] > pixels[0, 0, 0]
    assert pixels[0, -1, 0] > pixels[0, -1, 2]


def test_color_pictures_are_grey_where_the_gradient_is_0():
    maps = np.zeros((1, 8, 8, 3))
    maps[0, 0, 0] = (1, 0, -1)
    pixels = attribution(maps).render("color")[0]
    assert (pixels[4, 4] == 128).all()
    assert list(pixels[0, 0]) == [255, 128, 0]


def test_color_pictures_of_bgr_models_are_in_rgb():
    maps = np.zeros((1, 8, 8, 3))
    maps[0, 0, 0] = (1, 0, -1)  # blue for, red against
    a = dataclasses.replace(attribution(maps), channels="BGR")
    assert list(a.render("color")[0, 0, 0]) == [0, 128, 255]


def test_comparing_methods_and_layers():
    one, other = attribution([ramp(), ramp()]), attribution([ramp(), -ramp()])
    gradient = dataclasses.replace(attribution(np.ones((2, 8, 8, 3))), method="gradient")
    picture = compare([one, gradient])
    assert picture.pixels.shape[1] == 3 * 8 + 2 * pictures.GAP
    row = picture.pixels[pictures.TITLE_HEIGHT :][:8]
    np.testing.assert_array_equal(row[:, :8], one.photos[0])
    step = 8 + pictures.GAP
    np.testing.assert_array_equal(row[:, step : step + 8], one.render("overlay")[0])
    shown = compare([one, other], ["heat", "signed"]).pixels[pictures.TITLE_HEIGHT :][:8]
    np.testing.assert_array_equal(shown[:, -8:], other.render("signed")[0])
    with pytest.raises(PictureError, match="same images and classes"):
        compare([one, one[:1]])
    with pytest.raises(PictureError, match="at least one"):
        compare([])


def test_picture_has_a_row_for_each_image_and_says_what_it_shows():
    a = attribution([ramp(), ramp()])
    picture = a.picture(("photo", "overlay", "grey"))
    height, width, _ = picture.pixels.shape
    assert width == 3 * 8 + 2 * pictures.GAP
    assert height == 2 * (8 + pictures.TITLE_HEIGHT) + pictures.GAP
    np.testing.assert_array_equal(picture.pixels[pictures.TITLE_HEIGHT :][:8, :8], a.photos[0])
    image = Image.open(io.BytesIO(a._repr_jpeg_()))
    assert image.size[1] == height
    assert repr(a).startswith("Attribution(grad-cam, 'kind 0' 25.0%, 'kind 1' 25.0%")


def test_figure_shows_the_same_pictures():
    a = attribution([ramp()])
    figure = a.figure(("photo", "heat"))
    axes = figure.axes
    assert [axis.get_title() for axis in axes] == ["kind 0 25%", "grad-cam"]
    np.testing.assert_array_equal(axes[1].images[0].get_array(), a.render("heat")[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": "warmth"}, "column must be one of photo, heat.*got 'warmth'"),
        ({"columns": ()}, "at least one column"),
        ({"opacity": 2}, "opacity must be from 0 to 1, got 2"),
    ],
)
def test_pictures_that_cannot_be_made(arguments, message):
    with pytest.raises(PictureError, match=message):
        attribution([ramp()]).picture(**arguments)


def test_overlay_mixes_grey_and_heat():
    image, heat = photo(), np.zeros((8, 8))
    np.testing.assert_allclose(
        pictures.overlay(image, heat, 0.0)[..., 0], image.mean(-1), atol=0.51
    )
    assert (pictures.overlay(image, heat, 1.0) == pictures.COLORS["heat"][0]).all()


def test_colors_reach_from_the_first_to_the_last_of_their_table():
    for name, table in pictures.COLORS.items():
        ends = pictures.color([0, 1, -5, 7, np.nan], name)
        np.testing.assert_array_equal(ends[:2], [table[0], table[-1]])
        np.testing.assert_array_equal(ends[2:], [table[0], table[-1], table[0]])
    assert list(pictures.color([0.5], "grey")[0]) == [128, 128, 128]
    with pytest.raises(PictureError, match="must be one of heat, grey, signed, got 'jet'"):
        pictures.color([0], "jet")


def test_stretch_scales_each_picture_by_itself():
    values = np.stack([ramp(), 100 * ramp(), np.full((8, 8), 5.0)])
    stretched = pictures.stretch(values)
    np.testing.assert_allclose(stretched[0], stretched[1], atol=1e-6)
    assert (stretched[0].min(), stretched[0].max()) == (0, 1)
    assert not stretched[2].any()
    assert (pictures.stretch(values, 50.0)[0] == 1).mean() > 0.4


def test_grid_puts_pictures_in_rows():
    tiles = [np.full((4, 4, 3), n, np.uint8) for n in range(5)]
    sheet = pictures.grid(tiles, columns=3)
    step = 4 + pictures.GAP
    assert sheet.shape == (2 * step - pictures.GAP, 3 * step - pictures.GAP, 3)
    assert [sheet[0, n * step, 0] for n in range(3)] == [0, 1, 2]
    assert [sheet[step, n * step, 0] for n in range(3)] == [3, 4, 255]
    with pytest.raises(PictureError, match="2 titles for 5 pictures"):
        pictures.grid(tiles, ["a", "b"])
    with pytest.raises(PictureError, match="pictures of one size"):
        pictures.grid([*tiles, np.zeros((5, 4, 3), np.uint8)])
    with pytest.raises(PictureError, match="of one size, got none"):
        pictures.grid([])


@pytest.mark.parametrize("ending", pictures.ENDINGS)
def test_saving(ending, tmp_path):
    path = tmp_path / f"a{ending}"
    pixels = np.full((16, 16, 3), 200, np.uint8)
    Picture(pixels).save(path)
    found = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert np.abs(found - pixels).max() <= 3
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_saving_what_cannot_be_saved(tmp_path, monkeypatch):
    gallery = Gallery(np.zeros((2, 8, 8, 3), np.uint8), ["a", "b"])
    with pytest.raises(PictureError, match=r"a.bmp must end in .png, .*got '.bmp'"):
        gallery.save(tmp_path / "a.bmp")
    with pytest.raises(PictureError, match="there is no folder"):
        gallery.save(tmp_path / "none" / "a.png")

    def fill_disk(self, path, **options):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", fill_disk)
    with pytest.raises(OSError, match="no space"):
        gallery.save(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_gallery_is_a_sequence_of_pictures():
    pixels = np.stack([np.full((8, 8, 3), n, np.uint8) for n in range(3)])
    gallery = Gallery(pixels, ["a", "b", "c"], columns=3)
    assert len(gallery) == 3
    assert [picture.title for picture in gallery] == ["a", "b", "c"]
    np.testing.assert_array_equal(np.asarray(gallery[1]), pixels[1])
    assert gallery.picture.pixels.shape[1] == 3 * 8 + 2 * pictures.GAP
    assert len(gallery.figure().axes) == 3
