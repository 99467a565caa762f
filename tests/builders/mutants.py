"""Images of every format, and ways of spoiling them."""

import io
import random

import cv2
import numpy as np
from PIL import Image

from tests.builders.images import paint


def encoded(image, kind, **options):
    """The bytes that Pillow writes."""
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def images():
    """Name -> content of a small cell in every format and colour model that people send."""
    rgb = paint(1, side=40, radius=14)
    image, other = Image.fromarray(rgb), Image.fromarray(paint(2, side=40, radius=14))
    with_alpha = image.copy()
    with_alpha.putalpha(Image.fromarray((rgb.any(axis=2) * 255).astype(np.uint8)))
    turned = Image.Exif()
    turned[0x112] = 6
    return {
        "bmp": encoded(image, "BMP"),
        "bmp palette": encoded(image.quantize(200), "BMP"),
        "png": encoded(image, "PNG"),
        "png grey": encoded(image.convert("L"), "PNG"),
        "png palette": encoded(image.quantize(200), "PNG"),
        "png alpha": encoded(with_alpha, "PNG"),
        "png 16 bit": cv2.imencode(".png", rgb.astype(np.uint16) * 257)[1].tobytes(),
        "png animated": encoded(image, "PNG", save_all=True, append_images=[other]),
        "jpeg": encoded(image, "JPEG", quality=95),
        "jpeg progressive": encoded(image, "JPEG", progressive=True),
        "jpeg cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "jpeg turned": encoded(image, "JPEG", exif=turned),
        "tiff": encoded(image, "TIFF"),
        "tiff lzw": encoded(image, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": encoded(image, "TIFF", compression="jpeg"),
        "tiff 16 bit": cv2.imencode(".tiff", rgb.astype(np.uint16) * 257)[1].tobytes(),
        "tiff pages": encoded(image, "TIFF", save_all=True, append_images=[other]),
        "gif": encoded(image, "GIF", save_all=True, append_images=[other]),
        "webp": encoded(image, "WEBP"),
    }


def spoil(content: bytes, rng: random.Random) -> bytes:
    """One of: flipped bits, a cut, a piece left out or doubled, and numbers in the header set to extremes."""
    data = bytearray(content)
    kind = rng.choice(["bits", "bits", "header", "header", "cut", "gone", "twice"])
    at = rng.randrange(len(data))
    if kind == "bits":
        for _ in range(rng.choice([1, 1, 4, 32])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "header":
        size = rng.choice([1, 2, 4])
        at = rng.randrange(min(len(data), 200))
        extremes = [0, 1, 0x7F, 0x7FFF, 0x7FFFFFFF, 30_000, (1 << 8 * size) - 1]
        value = rng.choice(extremes) & ((1 << 8 * size) - 1)
        data[at : at + size] = value.to_bytes(size, rng.choice(["little", "big"]))
    elif kind == "cut":
        del data[at:]
    elif kind == "gone":
        del data[at : at + rng.choice([1, 10, 100])]
    else:
        data[at:at] = data[at : at + rng.choice([1, 10, 100])]
    return bytes(data)
