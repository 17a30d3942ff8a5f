"""Images of every kind, errors that name the file, and preprocessing."""

import io
import os
import shutil
import struct
import tempfile
import threading
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.zoo.inference.image_files import BLUE, GREEN, PLAIN, RED, WHITE, encoded, pixels, png
from zoo.inference import images
from zoo.inference.images import ImageError
from zoo.inference.preprocessing import Preprocessing


class TestKinds:
    def test_array_image_bytes_and_path_are_the_same(self, corner, tmp_path):
        data = encoded(Image.fromarray(corner), "PNG")
        (tmp_path / "corner.png").write_bytes(data)
        path = tmp_path / "corner.png"
        for source in (corner, Image.fromarray(corner), data, path, str(path), Image.open(path)):
            np.testing.assert_array_equal(pixels(source), corner)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation_is_applied(self, corner, orientation):
        """The tag says how to turn the stored image, for each way that a camera can be held."""
        stored = {
            1: corner,
            2: corner[:, ::-1],
            3: corner[::-1, ::-1],
            4: corner[::-1],
            5: corner.transpose(1, 0, 2),
            6: np.rot90(corner),
            7: corner[::-1, ::-1].transpose(1, 0, 2),
            8: np.rot90(corner, -1),
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
        np.testing.assert_array_equal(pixels(data), corner)

    def test_palette(self, corner):
        image = Image.fromarray(corner).quantize(4)
        assert image.mode == "P"
        np.testing.assert_array_equal(pixels(encoded(image, "GIF")), corner)

    def test_transparent_palette_lies_on_white(self, corner):
        image = Image.fromarray(corner).quantize(4)
        transparent = image.getpixel((0, 0))
        got = pixels(encoded(image, "PNG", transparency=transparent))
        assert tuple(got[0, 0]) == WHITE
        assert tuple(got[-1, -1]) == GREEN

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_alpha_lies_on_white(self, mode):
        image = Image.new(mode, (10, 10), (0, 0, 0, 0) if mode == "RGBA" else (0, 0))
        assert tuple(pixels(encoded(image, "PNG"))[5, 5]) == WHITE
        array = np.zeros((10, 10, 4), np.uint8)
        array[..., 3] = 51  # a fifth of black, four fifths of white
        assert tuple(pixels(array)[5, 5]) == (204, 204, 204)

    @pytest.mark.parametrize("mode", ["1", "L"])
    def test_greyscale(self, mode):
        image = Image.new(mode, (9, 9), 255)
        assert tuple(pixels(encoded(image, "PNG"))[0, 0]) == WHITE

    def test_16_bits_become_8(self):
        """The whole range is scaled, not clipped or cut to its low byte."""
        values = np.linspace(0, 65535, 100).reshape(10, 10)
        want = np.round(values / 257)
        array = values.astype(np.uint16)
        files = [encoded(Image.fromarray(array), kind) for kind in ("PNG", "TIFF", "PPM")]
        assert {Image.open(io.BytesIO(file)).mode for file in files} == {"I;16", "I"}
        for source in (array, array.astype(">u2"), Image.fromarray(array), *files):
            np.testing.assert_allclose(pixels(source)[..., 1], want, atol=1)

    def test_cmyk(self):
        image = Image.new("CMYK", (12, 12), (0, 255, 255, 0))  # magenta and yellow ink are red
        got = pixels(encoded(image, "JPEG", quality=95))
        assert np.abs(got[6, 6].astype(int) - RED).max() < 8

    def test_floating_point_from_0_to_1(self):
        array = np.linspace(0, 1, 300).reshape(10, 10, 3)
        np.testing.assert_array_equal(pixels(array), np.round(array * 255))

    def test_bfloat16(self):
        array = np.linspace(0, 1, 100).reshape(10, 10)
        got = pixels(jnp.asarray(array, jnp.bfloat16))[..., 0]
        np.testing.assert_allclose(got, array * 255, atol=1.5)

    def test_the_first_frame_of_an_animation(self):
        frames = [Image.new("RGB", (10, 10), colour) for colour in (RED, BLUE)]
        data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert tuple(pixels(data)[5, 5]) == RED

    def test_jax_arrays(self, corner):
        np.testing.assert_array_equal(pixels(jnp.asarray(corner)), corner)

    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
    def test_transparent_grey_of_any_depth_becomes_white(self, bits):
        top = 2**bits - 1
        samples = np.tile(np.arange(16) * top // 15, (8, 1))
        transparent = samples[0, 5]
        want = np.where(samples == transparent, 255, np.round(samples * 255 / top))
        got = pixels(png(samples, bits, 0, [transparent]))
        np.testing.assert_array_equal(got, np.stack([want] * 3, axis=-1))

    @pytest.mark.parametrize("kind", ["<u2", ">u2"])
    @pytest.mark.parametrize("white_is_zero", [False, True])
    def test_tiff_of_16_bits(self, kind, white_is_zero):
        values = np.linspace(0, 65535, 100).reshape(10, 10).astype(kind)
        image = Image.fromarray(values.astype(np.uint16))
        data = encoded(image, "TIFF", tiffinfo={262: 0 if white_is_zero else 1})
        want = np.round(values / 257)
        got = pixels(data)[..., 0]
        np.testing.assert_allclose(got, 255 - want if white_is_zero else want, atol=1)

    def test_tiff_of_12_bits_uses_their_range(self):
        """Two samples lie in three bytes; Pillow reads them, and writes none."""
        values = np.tile(np.linspace(0, 4095, 10).astype(int), (10, 1))
        packed = b"".join(
            bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
            for a, b in values.reshape(-1, 2).tolist()
        )
        tags = [
            (256, 10), (257, 10), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 10),
            (279, len(packed)),
        ]  # fmt: skip
        directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        data = struct.pack("<2sHI", b"II", 42, 8 + len(packed)) + packed
        data += struct.pack("<H", len(tags)) + directory + struct.pack("<I", 0)
        np.testing.assert_allclose(pixels(data)[..., 0], values / 4095 * 255, atol=0.6)

    def test_float_tiff_from_0_to_1(self):
        array = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
        got = pixels(encoded(Image.fromarray(array), "TIFF"))[..., 0]
        np.testing.assert_array_equal(got, np.round(array * 255))

    def test_large_images_are_converted_in_strips(self, monkeypatch):
        monkeypatch.setattr("zoo.inference.pixels.STRIP_PIXELS", 50)
        deep = np.linspace(0, 65535, 300).reshape(15, 20).astype(np.uint16)
        np.testing.assert_allclose(pixels(deep)[..., 0], np.round(deep / 257))
        np.testing.assert_allclose(pixels(Image.fromarray(deep))[..., 0], np.round(deep / 257))
        alpha = np.zeros((15, 20, 4), np.uint8)
        alpha[..., 3] = np.arange(15)[:, None] * 17
        want = 255 - np.arange(15)[:, None] * 17
        np.testing.assert_allclose(pixels(alpha)[..., 0], np.tile(want, (1, 20)))

    def test_a_given_image_is_not_changed(self, corner):
        given = Image.fromarray(corner)
        images.load_image(given).putpixel((0, 0), BLUE)
        np.testing.assert_array_equal(np.asarray(given), corner)


class TestBadInput:
    def assert_error(self, source, *words):
        with pytest.raises(ImageError) as raised:
            images.load_image(source)
        message = str(raised.value)
        assert "\n" not in message
        assert all(word in message for word in words), message

    def test_missing(self, tmp_path):
        self.assert_error(tmp_path / "none.jpg", "none.jpg", "No such file")

    def test_unreadable(self, tmp_path):
        """A link to itself, which not even root can read."""
        (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
        self.assert_error(tmp_path / "loop.jpg", "loop.jpg cannot be read", "symbolic links")

    @pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "nul\0.jpg"])
    def test_impossible_file_names(self, name):
        self.assert_error(name, "cannot be read")

    def test_find_photos_yields_a_name_that_is_too_long(self):
        assert list(images.find_photos(["x" * 300])) == [Path("x" * 300)]

    def test_no_permission(self):
        top = Path(tempfile.mkdtemp())
        top.chmod(0o755)
        locked = top / "locked"
        locked.mkdir(mode=0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # nobody: root may read everything
        try:
            assert list(images.find_photos([locked / "cat.jpg"])) == [locked / "cat.jpg"]
            assert list(images.find_photos([top])) == [locked]
            self.assert_error(locked, "locked cannot be read: Permission denied")
            self.assert_error(locked / "cat.jpg", "cannot be read: Permission denied")
        finally:
            if root:
                os.seteuid(0)
            shutil.rmtree(top)

    def test_image_of_32_bit_integers(self):
        self.assert_error(Image.fromarray(np.full((9, 9), 255, np.int32)), "int32 from 0 to 255")

    def test_a_pipe_can_be_read(self, examples, tmp_path):
        data = (examples / "rocket.jpg").read_bytes()
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=lambda: pipe.write_bytes(data))
        writer.start()
        assert images.load_image(pipe).size == images.load_image(data).size
        writer.join()

    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
    def test_devices(self, path):
        self.assert_error(path, f"{path} is a device")

    def test_formats_that_are_not_for_photos(self, tmp_path):
        """Pillow starts Ghostscript for one, whatever the file's name."""
        assert "EPS" not in images.FORMATS
        page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n"
        (tmp_path / "page.jpg").write_bytes(page)
        self.assert_error(tmp_path / "page.jpg", "page.jpg is not an image of a known format")

    def test_files_whose_samples_have_no_white(self):
        grey = np.full((9, 9), 1000, np.int32)
        self.assert_error(encoded(Image.fromarray(grey), "TIFF"), "signed integers")
        nan = np.full((9, 9), np.nan, np.float32)
        self.assert_error(encoded(Image.fromarray(nan), "TIFF"), "from nan to nan")
        colour = np.full((8, 8, 3), 600)
        self.assert_error(png(colour, 16, 2, [600, 0, 0]), "16-bit colour")

    def test_more_pixels_on_request(self, tmp_path):
        path = tmp_path / "wide.ppm"
        path.write_bytes(b"P5 200 100 255\n" + bytes(20_000))
        with pytest.raises(ImageError, match="too many pixels, 200x100"):
            images.load_image(path, max_pixels=19_999)
        assert images.load_image(path, max_pixels=20_000).size == (200, 100)
        assert images.load_image(Image.new("L", (200, 100)), max_pixels=1).size == (200, 100)

    def test_empty(self, tmp_path):
        (tmp_path / "empty.jpg").touch()
        self.assert_error(tmp_path / "empty.jpg", "empty.jpg is empty")

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
    @pytest.mark.parametrize("part", [0.3, 0.9])
    def test_truncated(self, examples, tmp_path, kind, part):
        with Image.open(examples / "cat.jpg") as image:
            data = encoded(image, kind)
        path = tmp_path / "half.img"
        path.write_bytes(data[: int(len(data) * part)])
        self.assert_error(path, "half.img")

    def test_text(self, tmp_path):
        (tmp_path / "text.jpg").write_text("I am not a photo\n" * 99)
        self.assert_error(tmp_path / "text.jpg", "text.jpg is not an image")

    def test_decompression_bomb(self, tmp_path):
        """A header that promises 40,000 by 40,000 pixels."""
        header = b"P6 40000 40000 255\n"
        (tmp_path / "bomb.ppm").write_bytes(header + b"\0" * 99)
        self.assert_error(tmp_path / "bomb.ppm", "bomb.ppm has too many pixels")

    def test_one_pixel(self, tmp_path):
        Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
        self.assert_error(tmp_path / "dot.png", "dot.png is 1x1 pixels", "8 a side")

    def test_folder(self, tmp_path):
        self.assert_error(tmp_path, f"{tmp_path} is a folder without images")

    def test_random_damage_never_raises_another_error(self, examples):
        """Damaged files give an image or an ImageError, never another exception."""
        rng = np.random.default_rng(0)
        with Image.open(examples / "cat.jpg") as image:
            small = image.resize((60, 40))
        for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
            original = encoded(small, kind)
            for _ in range(40):
                data = bytearray(original)
                for place in rng.integers(0, min(len(data), int(rng.choice([40, 10**6]))), 4):
                    data[place] = rng.integers(256)
                try:
                    images.load_image(bytes(data))
                except ImageError as error:
                    message = str(error)
                    assert "\n" not in message

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (np.zeros(5, np.uint8), "(5,)"),
            (np.zeros((9, 9, 2), np.uint8), "(9, 9, 2)"),
            (np.full((9, 9), 2.0), "float64 from 0.0 to 2.0"),
            (np.full((9, 9), np.nan), "float64"),
            (np.full((9, 9), 255), "int64 from 0 to 255"),  # of 8 bits or of 16?
            (np.zeros((9, 9), np.complex64), "complex64"),
            (np.zeros((9, 9), bool), "bool"),
        ],
    )
    def test_arrays_that_are_not_images(self, array, words):
        self.assert_error(array, words)

    def test_other_types(self):
        self.assert_error(7, "got int")

    def test_no_images(self):
        with pytest.raises(ImageError, match="no images"):
            PLAIN([])
        with pytest.raises(ImageError, match="no images"):
            PLAIN(np.zeros((0, 9, 9, 3), np.uint8))


class TestPreprocessing:
    @pytest.mark.parametrize("short", [256, 232])
    def test_equals_resizing_and_then_cropping(self, examples, short):
        """Compares with the usual two steps in Pillow; one step must give the same pixels."""
        with Image.open(examples / "cat.jpg") as image:
            photo = image.convert("RGB")
        for size in (photo.size, (300, 451), (64, 64), (999, 333), (441, 147)):
            image = photo.resize(size)
            # torchvision's formula for the sides.
            sides = [int(short * side / min(size)) for side in size]
            resized = image.resize(sides, Image.BICUBIC)
            left, top = (round((side - 224) / 2) for side in resized.size)
            want = np.asarray(resized.crop((left, top, left + 224, top + 224)), np.float32)
            spec = Preprocessing(224, short, "bicubic", (0, 0, 0), (1 / 255,) * 3)
            difference = np.abs(spec(image)[0] - want)
            # Pillow rounds to 8 bits after each of its two passes, whose order depends on what is
            # cheaper; a bicubic sum of pixels that were rounded otherwise differs by up to two.
            assert difference.max() <= 2.01
            assert difference.mean() < 0.25
            shifted = np.asarray(resized.crop((left + 1, top, left + 225, top + 224)), np.float32)
            assert np.abs(spec(image)[0] - shifted).mean() > 1  # so one pixel would be noticed

    def test_normalisation_is_by_channel(self, corner):
        spec = Preprocessing(8, 8, "nearest", (0.0, 0.5, 1.0), (0.5, 0.25, 2.0))
        got = spec(corner)
        assert got.dtype == np.float32
        assert got[0, 0, 0].tolist() == [2.0, -2.0, -0.5]  # red
        assert got[0, -1, -1].tolist() == [0.0, 2.0, -0.5]  # green

    def test_channel_order(self, corner):
        bgr = Preprocessing(8, 8, "nearest", (0, 0, 0), (1, 1, 1), channels="BGR")
        assert bgr(corner)[0, 0, 0].tolist() == [0, 0, 1]

    def test_constants_of_127_and_128_are_exact(self):
        """EfficientNet-Lite's weights were trained on (x − 127) / 128."""
        mean, std = (127 / 255,) * 3, (128 / 255,) * 3
        grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
        got = Preprocessing(16, 16, "nearest", mean, std)(grey)[0, ..., 0]
        np.testing.assert_array_equal(got, (grey.astype(np.float32) - 127) / 128)

    def test_one_image_or_several(self, corner, examples):
        assert PLAIN(corner).shape == (1, 8, 8, 3)
        assert PLAIN([corner, examples / "cat.jpg"]).shape == (2, 8, 8, 3)
        assert PLAIN(np.stack([corner] * 3)).shape == (3, 8, 8, 3)

    @pytest.mark.parametrize("size", [(8, 3000), (3000, 8), (8, 8)])
    def test_extreme_shapes(self, size):
        assert PLAIN(Image.new("RGB", size)).shape == (1, 8, 8, 3)
