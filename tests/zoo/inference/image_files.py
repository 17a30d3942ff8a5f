"""Image files that tests write, and what reading them gives."""

import io
import struct
import zlib

import numpy as np

from zoo.inference import images
from zoo.inference.preprocessing import Preprocessing

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def pixels(source):
    image = images.load_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, bits, colour, transparent):
    """A PNG of samples [H, W] or [H, W, 3] with a transparent value, which Pillow cannot write."""
    height, width = samples.shape[:2]
    texts = ["".join(f"{v:0{bits}b}" for v in row.ravel()) for row in samples]
    rows = [bytes(int(t[i : i + 8], 2) for i in range(0, len(t), 8)) for t in texts]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", header),
            png_chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)),
            png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
            png_chunk(b"IEND", b""),
        ]
    )


PLAIN = Preprocessing(
    size=8, resize=10, interpolation="bilinear", mean=(0, 0, 0), std=(1 / 255,) * 3
)
