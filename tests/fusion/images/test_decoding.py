"""Every kind of file that people send has one outcome: docs/input.md lists them, in this order."""

import ast
import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image, ImageOps

from fusion.data import _file_index
from fusion.features import cell_measurement
from fusion.images import cell as cell_module
from fusion.images import decoding, file_headers, masks
from fusion.images.decoding import MAX_PIXELS, ImageError, decode_image, decode_mask, pixel_key, read_bytes
from fusion.images.file_headers import read_header
from tests.builders.images import ROOT, paint, write_image
from tests.builders.mutants import encoded, images

RGB = paint(3, side=40, radius=14)
IMAGE = Image.fromarray(RGB)


def with_alpha():
    image = IMAGE.copy()
    image.putalpha(Image.fromarray((RGB.any(axis=2) * 255).astype(np.uint8)))
    return image


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("palette PNG", encoded(IMAGE.quantize(250), "PNG")),
        ("palette BMP", encoded(IMAGE.quantize(250), "BMP")),
        ("palette TIFF", encoded(IMAGE.quantize(250), "TIFF")),
        ("grey PNG", encoded(IMAGE.convert("L"), "PNG")),
        ("two-level PNG", encoded(IMAGE.convert("1"), "PNG")),
        ("PNG with alpha", encoded(with_alpha(), "PNG")),
        ("TIFF with alpha", encoded(with_alpha(), "TIFF")),
        ("grey PNG with alpha", encoded(with_alpha().convert("LA"), "PNG")),
        ("CMYK TIFF", encoded(IMAGE.convert("CMYK"), "TIFF")),
        ("LZW TIFF", encoded(IMAGE, "TIFF", compression="tiff_lzw")),
        ("deflated TIFF", encoded(IMAGE, "TIFF", compression="tiff_adobe_deflate")),
        ("JPEG", encoded(IMAGE, "JPEG", quality=95)),
        ("progressive JPEG", encoded(IMAGE, "JPEG", progressive=True)),
    ],
)
def test_other_colour_models_become_rgb_as_pillow_has_them(kind, content):
    theirs = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert_array_equal(decode_image(content), theirs)


def test_cmyk_in_jpeg_is_converted_to_the_nearest_level():
    content = encoded(IMAGE.convert("CMYK"), "JPEG", quality=95)
    theirs = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.abs(decode_image(content).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright_as_its_exif_tells(kind, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    content = encoded(IMAGE.crop((0, 0, 40, 30)), kind, exif=exif)
    theirs = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert_array_equal(decode_image(content), np.asarray(theirs.convert("RGB")))
    assert_array_equal(decode_mask(content, "colour"), np.asarray(theirs.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("brightest", [255, 4095, 65535])
def test_sixteen_bits_are_scaled_by_their_type_and_not_by_their_content(suffix, brightest):
    deep = (RGB.astype(np.uint32) * brightest // 255).astype(np.uint16)
    for image in (deep, deep[..., 0]):
        content = cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()
        expected = image >> 8
        expected = expected if image.ndim == 3 else np.stack([expected] * 3, axis=-1)
        assert_array_equal(decode_image(content), expected)


def test_content_decides_and_not_the_name(tmp_path):
    path = write_image(tmp_path / "cell.png", RGB).rename(tmp_path / "cell.bmp")
    assert_array_equal(decode_image(read_bytes(path)), RGB)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gif", "a GIF file, which is not read"),
        ("webp", "a WebP file, which is not read"),
        ("png animated", "2 frames or pages"),
        ("tiff pages", "2 frames or pages"),
    ],
)
def test_what_may_hold_several_images_is_not_guessed_at(name, message):
    with pytest.raises(ImageError) as caught:
        decode_image(images()[name])
    assert message in str(caught.value)


def test_a_thumbnail_in_a_tiff_is_not_another_page():
    small = IMAGE.resize((10, 10))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    content = encoded(IMAGE, "TIFF", save_all=True, append_images=[small])
    assert read_header(content).frames == 1
    assert_array_equal(decode_image(content), RGB)


def huge(kind, width=30_000, height=30_000):
    """A small file whose header asks for a huge image."""
    if kind == "PNG":
        header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        end = b"IEND"
        parts = [struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in (header, end)]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    content = bytearray(encoded(IMAGE.resize((123, 77)), kind))
    order = "big" if kind == "JPEG" else "little"
    size = 4 if kind == "BMP" else 2
    for old, new in ((123, width), (77, height)):
        start = 0xA0 if kind == "JPEG" else 0
        at = content.find(old.to_bytes(size, order), start)
        content[at : at + size] = new.to_bytes(size, order)
    return bytes(content)


@pytest.mark.parametrize("kind", ["BMP", "PNG", "JPEG"])
def test_a_huge_image_is_refused_by_its_header(kind, monkeypatch):
    assert (read_header(huge(kind)).width, read_header(huge(kind)).height) == (30_000, 30_000)
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(ImageError, match="too large") as caught:
        decode_image(huge(kind))
    assert "30000 x 30000 pixels" in str(caught.value)


def test_a_huge_tiff_is_refused_by_its_header(monkeypatch):
    content = bytearray(encoded(IMAGE, "TIFF"))
    (start,) = struct.unpack_from("<I", content, 4)
    for at in range(start + 2, start + 2 + 12 * content[start], 12):
        if struct.unpack_from("<H", content, at)[0] in (256, 257):
            struct.pack_into("<HII", content, at + 2, 4, 1, 30_000)
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(ImageError, match="too large"):
        decode_image(bytes(content))


def test_the_largest_image_is_still_read():
    side = 8192
    assert side * side == MAX_PIXELS
    content = cv2.imencode(".png", np.zeros((side, side), np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    assert decode_mask(content).shape == (side, side)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_a_tiff_of_signed_or_broken_numbers_is_refused(dtype):
    import tifffile

    sink = io.BytesIO()
    tifffile.imwrite(sink, RGB[..., 0].astype(dtype))
    with pytest.raises(ImageError, match="signed or have fractions"):
        decode_image(sink.getvalue())


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"tile": (32, 32)}, {"planarconfig": "separate"}])
def test_every_way_to_lay_out_a_tiff_gives_its_pixels(byteorder, options):
    import tifffile

    sink = io.BytesIO()
    pixels = np.moveaxis(RGB, 2, 0) if "planarconfig" in options else RGB
    tifffile.imwrite(sink, np.ascontiguousarray(pixels), photometric="rgb", byteorder=byteorder, **options)
    header = read_header(sink.getvalue())
    assert (header.width, header.height, header.frames, header.damage) == (40, 40, 1, "")
    assert_array_equal(decode_image(sink.getvalue()), RGB)
    with pytest.raises(ImageError):
        decode_image(sink.getvalue()[:-20])


def test_only_regular_files_of_a_sane_size_are_opened(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match="no such file"):
        read_bytes(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_bytes(tmp_path)
    with pytest.raises(ImageError, match="cannot be read"):
        read_bytes(tmp_path / "a\0b.png")
    (tmp_path / "large.png").touch()
    os.truncate(tmp_path / "large.png", 5 << 30)  # takes no room on the disk
    with pytest.raises(ImageError, match="too large"):
        read_bytes(tmp_path / "large.png")

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    write_image(tmp_path / "secret.png", RGB)
    monkeypatch.setattr("pathlib.Path.read_bytes", denied)
    with pytest.raises(ImageError, match="permission denied"):
        read_bytes(tmp_path / "secret.png")


@pytest.mark.skipif(os.name == "nt", reason="no pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_bytes(tmp_path / "pipe.png")


def test_pixels_are_the_same_in_any_container():
    keys = {pixel_key(encoded(IMAGE, name)) for name in ("BMP", "PNG", "TIFF")}
    assert len(keys) == 1
    other, black = Image.eval(IMAGE, lambda value: 255 - value), Image.new("RGB", (12, 6))
    assert keys != {pixel_key(encoded(other, "PNG"))}
    assert pixel_key(encoded(black, "PNG")) != pixel_key(encoded(black.transpose(Image.Transpose.ROTATE_90), "PNG"))
    assert pixel_key(encoded(IMAGE, "JPEG")) == ""


def test_a_key_of_pixels_finds_what_decoding_finds():
    good = encoded(IMAGE, "BMP")
    for bad in (b"", good[:-1], encoded(IMAGE, "JPEG")[:300], encoded(IMAGE, "PNG")[:-1]):
        with pytest.raises(ImageError) as message:
            pixel_key(bad)
        with pytest.raises(ImageError) as decoded:
            decode_image(bad)
        assert str(message.value) == str(decoded.value)


def reasons_in_the_code():
    """The words of every fault, longest unchanging piece each."""
    found = set()
    for module in (decoding, file_headers, masks, cell_module, cell_measurement, _file_index):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            words = []
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "damage":
                words = [node.value]
            elif called in {"ImageError", "CellError", "MaskError"} and node.args:
                words = [node.args[0]]
            elif called == "Header":
                words = [*node.args[4:], *(word.value for word in node.keywords if word.arg == "damage")]
            elif called in {"Fault", "Content"}:
                words = node.args[-1:]
            for word in words:
                pieces = [part.value for part in ast.walk(word) if isinstance(part, ast.Constant)]
                texts = [piece.strip() for piece in pieces if isinstance(piece, str) and len(piece) > 8]
                found |= set(texts)
    return found


def test_every_reason_is_in_the_documentation():
    message = " ".join((ROOT / "docs" / "input.md").read_text().split())
    reasons = reasons_in_the_code()
    assert len(reasons) > 20
    assert [reason for reason in sorted(reasons) if reason not in message] == []
