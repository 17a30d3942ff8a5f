"""Where images come from, their metadata, threads, memory, and the photos of a folder."""

import concurrent.futures
import io
import os
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.zoo.inference.image_files import (
    PLAIN,
    encoded,
    pixels,
    png_chunk,
)
from zoo.inference import image_metadata, images
from zoo.inference.images import ImageError


class TestSources:
    """What people hold paths and images in."""

    @pytest.fixture
    def path(self, corner, tmp_path):
        path = tmp_path / "corner.png"
        Image.fromarray(corner).save(path)
        return path

    def test_bytes_in_any_buffer_and_open_files(self, corner, path):
        data = path.read_bytes()
        ahead = io.BytesIO(b"other" + data)
        ahead.seek(5)
        with path.open("rb") as file:
            for source in (bytearray(data), memoryview(data), io.BytesIO(data), ahead, file):
                for _ in range(2):  # a file stays where it is
                    np.testing.assert_array_equal(pixels(source), corner)
                assert images.is_single_image(source)

    def test_a_stream_that_cannot_seek(self, corner, path):
        class Upload(io.RawIOBase):
            stream = io.BytesIO(path.read_bytes())

            def readable(self):
                return True

            def readinto(self, buffer):
                return self.stream.readinto(buffer)

        np.testing.assert_array_equal(pixels(io.BufferedReader(Upload())), corner)

    def test_a_stream_without_end_is_refused(self, monkeypatch):
        class Endless:
            def read(self, count=-1):
                assert count > 0, "reads all of it"
                return bytes(count)

        monkeypatch.setattr(images, "MAX_BYTES", 1 << 20)
        with pytest.raises(ImageError, match="holds more than 1 MiB"):
            images.load_image(Endless())

    def test_numpy_texts(self, path):
        name = str(path)
        for source, count in (
            (np.str_(name), 1),
            (np.array(name), 1),
            (np.array([name, name]), 2),
            (np.array([name, path], object), 2),
            ((name for _ in range(2)), 2),
        ):
            assert PLAIN(source).shape == (count, 8, 8, 3)

    def test_objects_with_the_array_protocol(self, corner):
        class Tensor:
            ndim = 3

            def __array__(self, dtype=None, copy=None):
                return corner

        class OnAnotherDevice(Tensor):
            def __array__(self, dtype=None, copy=None):
                raise TypeError("can't convert a cuda tensor\nand more")

        np.testing.assert_array_equal(pixels(Tensor()), corner)
        with pytest.raises(ImageError, match="OnAnotherDevice is no NumPy array: can't convert"):
            images.load_image(OnAnotherDevice())

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            (None, "got NoneType"),
            ({"image": 1}, "got dict"),
            ([None], "got NoneType"),
            (np.array([["a.jpg"]]), "holds numbers"),
            (io.StringIO("x"), "open it for reading bytes"),
            ("https://example.org/cat.jpg", "is an address, not a file"),
        ],
    )
    def test_what_is_no_image_is_named(self, source, words):
        with pytest.raises(ImageError, match=words):
            PLAIN(source)


class TestMetadata:
    """Metadata never refuses pixels."""

    def test_random_damage_of_exif_keeps_the_pixels(self, examples):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F], exif[0x9003] = 1, "maker", "2026:01:01 00:00:00"
        exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
        rng = np.random.default_rng(0)
        with Image.open(examples / "cat.jpg") as image:
            small = image.resize((60, 40))
        for kind in ("JPEG", "PNG", "WEBP"):
            plain = encoded(small, kind, exif=exif)
            start = plain.index(exif.tobytes()[6:40])
            with Image.open(io.BytesIO(plain)) as image:
                want = np.asarray(image.convert("RGB"))
            for _ in range(60):
                data = bytearray(plain)
                for place in rng.integers(start, start + len(exif.tobytes()) - 10, 6):
                    data[place] = rng.integers(256)
                got = pixels(bytes(data))
                # The orientation may have been damaged into another one.
                assert sorted(got.shape) == sorted(want.shape)
                np.testing.assert_array_equal(np.sort(got.ravel()), np.sort(want.ravel()))

    def test_text_that_expands_too_far(self, corner):
        data = encoded(Image.fromarray(corner), "PNG")
        text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100 << 20)))
        with pytest.raises(ValueError, match="too large"):
            Image.open(io.BytesIO(data[:33] + text + data[33:])).load()
        np.testing.assert_array_equal(pixels(data[:33] + text + data[33:]), corner)

    def test_orientation_is_applied_where_other_entries_are_damaged(self, corner):
        exif = Image.Exif()
        exif[0x0112], exif[0x011A] = 3, 72.0
        data = encoded(Image.fromarray(corner[::-1, ::-1]), "WEBP", lossless=True, exif=exif)
        entry = data.index(b"\x01\x1a")  # of the resolution: now it points beyond the end
        damaged = bytearray(data)
        damaged[entry + 8 : entry + 12] = b"\xff" * 4
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.testing.assert_array_equal(pixels(bytes(damaged)), corner)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_stripping_keeps_the_pixels_of_whole_and_of_cut_files(self, examples, kind):
        with Image.open(examples / "cat.jpg") as image:
            small = image.resize((60, 40))
        exif = Image.Exif()
        exif[0x010F] = "maker"
        data = encoded(small, kind, exif=exif, comment="a comment")
        stripped = image_metadata.strip_metadata(data)
        assert len(stripped) < len(data)
        assert b"maker" not in stripped
        np.testing.assert_array_equal(pixels(stripped), pixels(data))
        for end in range(0, len(data), 7):
            assert len(image_metadata.strip_metadata(data[:end])) <= end


class TestThreads:
    def test_warnings_stay_as_they_are(self):
        before = list(warnings.filters)
        array = np.zeros((200, 200, 3), np.uint8)
        for _ in range(5):
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _: PLAIN(array), range(100)))
        assert list(warnings.filters) == before

    def test_a_large_photo_gives_no_warning(self, tmp_path):
        """Pillow warns from 90 million pixels on, which is an error here."""
        (tmp_path / "large.ppm").write_bytes(b"P5 10000 9500 255\n" + bytes(95_000_000))
        assert images.load_image(tmp_path / "large.ppm").size == (10000, 9500)


MEMORY_OF_LARGE_FILE = """
import sys
from zoo.inference.preprocessing import Preprocessing
Preprocessing(224, 256, "bicubic", (0,) * 3, (1,) * 3)(sys.argv[1])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_memory_of_the_largest_photos_is_below_1_gb(root, tmp_path):
    path = tmp_path / "large.tif"
    Image.new("RGBA", (9400, 9400)).save(path)  # 4 bytes a pixel, and as many for the result
    command = [sys.executable, "-c", MEMORY_OF_LARGE_FILE, path]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) < 1 << 20  # KiB


class TestFindPhotos:
    def test_folders_are_searched_and_files_are_yielded_whatever_their_name(self, tmp_path):
        for name in ("b.JPG", "a.png", "notes.txt", "deep/c.webp"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        found = list(images.find_photos([tmp_path, tmp_path / "notes.txt"]))
        (tmp_path / "album.jpg").mkdir()  # a folder, whatever its name
        names = [str(path.relative_to(tmp_path)) for path in found]
        assert names == ["a.png", "b.JPG", str(Path("deep/c.webp")), "notes.txt"]

    def test_endings_are_those_of_the_formats(self):
        endings = images.extensions()
        assert {".jpg", ".jfif", ".apng", ".mpo", ".j2k", ".pnm", ".dib", ".tiff"} <= endings
        assert not endings & {".eps", ".ps", ".pdf", ".h5", ".mpg", ".ico"}

    def test_hidden_files_and_special_files_are_left_out(self, tmp_path):
        for name in ("a.jpg", "._a.jpg", ".hidden.jpg", ".thumbnails/b.jpg"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        os.mkfifo(tmp_path / "pipe.jpg")
        assert list(images.find_photos([tmp_path])) == [tmp_path / "a.jpg"]

    def test_links_are_followed_once(self, tmp_path):
        for name in ("photos/a.jpg", "others/b.jpg"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).touch()
        (tmp_path / "photos/loop").symlink_to(tmp_path / "photos")
        (tmp_path / "photos/others").symlink_to(tmp_path / "others")
        (tmp_path / "photos/gone.jpg").symlink_to(tmp_path / "nothing")
        found = list(images.find_photos([tmp_path / "photos"]))
        names = [str(path.relative_to(tmp_path / "photos")) for path in found]
        assert names == ["a.jpg", "gone.jpg", "others/b.jpg"]

    def test_a_folder_without_photos_is_yielded(self, tmp_path):
        assert list(images.find_photos([tmp_path])) == [tmp_path]
