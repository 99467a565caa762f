"""Files that another program wrote in its own way: their pixels, or a refusal by name. Oracle: what was written."""

import io
import re
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageCms

from fusion.images.cell import CellError, make_cell
from fusion.images.decoding import MAX_PIXELS, ImageError, decode_image
from fusion.images.file_headers import read_header
from tests.builders.images import paint

RGB = paint(3, side=40, radius=14)[:, :36]
GREY = RGB[..., 1]


def tiff(pixels, **options):
    sink = io.BytesIO()
    tifffile.imwrite(sink, pixels, **options)
    return sink.getvalue()


def as_grey(pixels):
    return np.stack([pixels] * 3, axis=-1)


PHOTOMETRICS = ["miniswhite", "minisblack", "rgb", "cielab", "separated", "ycbcr", "palette", "cfa", "linear_raw"]


@given(
    photometric=st.sampled_from(PHOTOMETRICS),
    bits=st.sampled_from([8, 16]),
    channels=st.sampled_from([1, 2, 3, 4, 5]),
    planar=st.booleans(),
    extra=st.sampled_from(["unassalpha", "assocalpha", "unspecified"]),
    options=st.sampled_from([{}, {"tile": (32, 32)}, {"compression": "zlib"}, {"rowsperstrip": 7}]),
    byteorder=st.sampled_from("<>"),
)
@settings(max_examples=250, deadline=None)
def test_a_tiff_shows_what_was_written_or_is_refused(photometric, bits, channels, planar, extra, options, byteorder):
    """Grey and RGB of any layout; of other colours no more is known than that they are not taken for RGB."""
    rng = np.random.default_rng(channels)
    upper = rng.integers(0, 256, (24, 20, channels), dtype=np.uint8)
    pixels = upper if bits == 8 else upper.astype(np.uint16) << 8 | 9
    usual = {"rgb": 3, "separated": 4, "cielab": 3, "ycbcr": 3, "linear_raw": 3}.get(photometric, 1)
    more = {"extrasamples": [extra] * (channels - usual)} if channels > usual else {}
    if photometric == "palette":
        more["colormap"] = np.zeros((3, 2**bits), np.uint16)
    try:
        content = tiff(
            np.ascontiguousarray(np.moveaxis(pixels, 2, 0)) if planar and channels > 1 else pixels.squeeze(),
            photometric=photometric,
            byteorder=byteorder,
            **({"planarconfig": "separate" if planar else "contig"} if channels > 1 else {}),
            **more,
            **options,
        )
    except (ValueError, TypeError, KeyError):  # that nobody can write
        return
    try:
        shown = decode_image(content)
    except ImageError:
        assert (photometric, channels) not in {("minisblack", 1), ("miniswhite", 1)}
        assert photometric != "rgb" or channels != 3 or (planar and bits == 16)
        return
    assert photometric in ("miniswhite", "minisblack", "rgb", "separated", "ycbcr", "palette")
    if photometric in ("miniswhite", "minisblack"):
        first = upper[..., 0] if photometric == "minisblack" else 255 - upper[..., 0]
        assert_array_equal(shown, as_grey(first))
    elif photometric == "rgb":
        assert_array_equal(shown, upper[..., :3])


def two_pages(first, second, marks, big=False):
    sink = io.BytesIO()
    with tifffile.TiffWriter(sink, bigtiff=big) as out:
        for page, mark in zip((first, second), marks, strict=True):
            out.write(page, photometric="rgb", subfiletype=mark)
    return sink.getvalue()


@pytest.mark.parametrize("big", [False, True])
def test_a_thumbnail_is_no_image_wherever_it_stands(big):
    small = np.ascontiguousarray(RGB[::2, ::2])
    assert_array_equal(decode_image(two_pages(small, RGB, (1, 0), big)), RGB)
    assert_array_equal(decode_image(two_pages(RGB, small, (0, 1), big)), RGB)
    with pytest.raises(ImageError, match="several images"):
        decode_image(two_pages(small, RGB, (0, 0), big))
    with pytest.raises(ImageError, match="no page"):
        decode_image(two_pages(small, RGB, (1, 1), big))


def saved(image, kind, **options):
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CONTAINERS = [
    ("PNG", {}),
    ("PNG", {"icc_profile": ICC}),
    ("PNG", {"transparency": 3}),
    ("BMP", {}),
    *[("TIFF", {"compression": f"tiff_{name}"}) for name in ("lzw", "deflate", "adobe_deflate")],
    *[("TIFF", {"compression": name}) for name in ("packbits", "group3", "group4", "zstd", "lzma", "jpeg", None)],
    ("TIFF", {"big_tiff": True}),
    *[
        ("JPEG", {"quality": 95, **more})
        for more in ({}, {"progressive": True}, {"subsampling": 0}, {"keep_rgb": True})
    ],
    *[(kind, {}) for kind in ("GIF", "WEBP", "PPM", "JPEG2000", "ICO", "TGA", "DIB", "SGI", "PCX")],
]
MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I", "F"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "options"), CONTAINERS, ids=lambda value: re.sub("b['\"].*", "...", str(value)))
def test_whatever_pillow_writes_is_shown_as_pillow_shows_it_or_refused(mode, kind, options):
    image = Image.fromarray(RGB)
    if mode == "PA":
        image = image.convert("P").convert("PA")
    else:
        image = Image.fromarray(GREY.astype(np.uint16) << 8) if mode == "I;16" else image.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(GREY))
    try:
        content = saved(image, kind, **options)
    except (OSError, KeyError, ValueError, TypeError, SystemError, RuntimeError, struct.error):  # none of its kinds
        return
    try:
        shown = decode_image(content)
    except ImageError:
        is_usual = kind in ("PNG", "BMP", "JPEG") or options in ({"compression": None}, {"big_tiff": True})
        assert not (is_usual and mode in ("1", "L", "P", "RGB", "RGBA", "CMYK"))
        return
    theirs = Image.open(io.BytesIO(content))
    if theirs.mode == "I;16":
        expected = as_grey((np.asarray(theirs) >> 8).astype(np.uint8))
    else:
        expected = np.asarray(theirs.convert("RGBA" if "A" in theirs.mode or theirs.mode == "P" else "RGB"))[..., :3]
    is_rounded = kind == "JPEG" or options.get("compression") == "jpeg" or mode in ("CMYK", "YCbCr")
    assert_allclose(shown, expected, rtol=0, atol=2 * is_rounded)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize(
    "more",
    [
        chunk(b"gAMA", struct.pack(">I", 10_000)),
        chunk(b"bKGD", struct.pack(">HHH", 255, 0, 0)),
        chunk(b"tRNS", struct.pack(">HHH", *RGB[20, 18].tolist())),
        chunk(b"sBIT", bytes((5, 6, 5))),
        chunk(b"sRGB", b"\0"),
        chunk(b"cICP", bytes((9, 16, 0, 1))),
    ],
    ids=lambda more: more[4:8].decode(),
)
def test_what_a_png_says_of_display_changes_no_pixel(more):
    content = cv2.imencode(".png", RGB[..., ::-1])[1].tobytes()
    assert_array_equal(decode_image(content[:33] + more + content[33:]), RGB)


def test_a_png_written_in_seven_passes():
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = [b"\0" + row.tobytes() for x, y, right, down in passes for row in RGB[y::down, x::right]]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", RGB.shape[1], RGB.shape[0], 8, 2, 0, 0, 1))
    body = chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    assert_array_equal(decode_image(b"\x89PNG\r\n\x1a\n" + head + body), RGB)


def test_more_images_than_one_are_refused_wherever_they_hide():
    one, other = Image.fromarray(RGB), Image.fromarray(np.ascontiguousarray(RGB[::-1]))
    jpeg = saved(one, "JPEG")
    small = saved(one.resize((18, 20)), "JPEG")
    for content in (
        saved(one, "PNG", save_all=True, append_images=[other]),
        saved(one, "PNG", save_all=True, append_images=[other], default_image=True),
        saved(one, "TIFF", save_all=True, append_images=[other]),
        saved(one, "MPO", save_all=True, append_images=[other]),
        jpeg + saved(other, "JPEG", progressive=True),
    ):
        with pytest.raises(ImageError, match="several images"):
            decode_image(content)
    assert_array_equal(decode_image(jpeg + small), decode_image(jpeg))
    inside = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(jpeg)) + jpeg + jpeg[2:]
    assert_array_equal(decode_image(inside), decode_image(jpeg))


def test_an_image_that_a_thumbnail_lists_as_its_own_is_not_passed_over():
    sink = io.BytesIO()
    with tifffile.TiffWriter(sink) as out:
        out.write(np.ascontiguousarray(RGB[::2, ::2]), photometric="rgb", subifds=1)
        out.write(RGB, photometric="rgb", subfiletype=0)
    with pytest.raises(ImageError, match="several images"):
        decode_image(sink.getvalue())


def field_places(content):
    """Tag -> where its entry is, of the first page of a little-endian TIFF."""
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    return {struct.unpack_from("<H", content, at)[0]: at for at in range(start + 2, start + 2 + 12 * count, 12)}


@pytest.mark.parametrize("kind", [4, 6, 8, 9, 13])
def test_a_size_is_read_in_every_type_that_a_decoder_reads(kind, monkeypatch):
    content = bytearray(tiff(RGB, photometric="rgb"))
    for tag in (256, 257):
        struct.pack_into("<HII", content, field_places(content)[tag] + 2, kind, 1, 100 if kind == 6 else 30_000)
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("was decoded") if kind != 6 else None)
    header = read_header(bytes(content))
    assert header.pixels in (10_000, 900_000_000)
    with pytest.raises(ImageError, match="not an image" if kind == 6 else "too large"):
        decode_image(bytes(content))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_header_is_never_believed_against_the_pixels(data):
    """Any field of a TIFF, JPEG or BMP changed: the size that it says, the size that is decoded, or a refusal."""
    kind = data.draw(st.sampled_from(["tiff", "jpeg", "bmp", "png"]))
    content = bytearray(
        tiff(RGB, photometric="rgb") if kind == "tiff" else cv2.imencode("." + kind, RGB[..., ::-1])[1].tobytes()
    )
    end = {"tiff": 250, "jpeg": 200, "bmp": 54, "png": 40}[kind]
    for at in data.draw(st.lists(st.integers(2, end), min_size=1, max_size=3)):
        content[at] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 3, 4, 9, 255])))
    header = read_header(bytes(content))
    if header.pixels > 4_000_000:  # above what a test should allocate
        return
    try:
        shown = decode_image(bytes(content))
    except ImageError:
        return
    assert (header.width, header.height) in {shown.shape[1::-1], shown.shape[:2]}


def test_a_field_that_is_there_twice_is_refused():
    content = bytearray(tiff(RGB, photometric="rgb"))
    places = field_places(content)
    struct.pack_into("<HHII", content, places[305], 256, 3, 1, 9_000)  # in the place of the software's name
    with pytest.raises(ImageError, match="damaged"):
        decode_image(bytes(content))


def test_a_tile_that_is_larger_than_its_image_counts():
    content = bytearray(tiff(RGB, photometric="rgb", tile=(16, 16)))
    places = field_places(content)
    for tag in (322, 323):
        struct.pack_into("<HII", content, places[tag] + 2, 4, 1, 16_384)
    with pytest.raises(ImageError, match="too large"):
        decode_image(bytes(content))


@pytest.mark.parametrize("marker", [0x00, 0x02, 0xBF, 0xD8, 0xF0])
def test_a_jpeg_whose_frame_hides_behind_no_marker_is_refused(marker, monkeypatch):
    whole = cv2.imencode(".jpg", RGB)[1].tobytes()
    hidden = whole[:2] + bytes((0xFF, marker)) + struct.pack(">H", 40) + bytes(38) + whole[2:]
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(ImageError, match="damaged"):
        decode_image(hidden)


def test_the_frame_that_a_decoder_would_find_behind_no_marker_is_the_one_that_counts(monkeypatch):
    whole = cv2.imencode(".jpg", RGB)[1].tobytes()
    at = whole.index(b"\xff\xc0")
    large = bytearray(whole[at : at + 19])
    struct.pack_into(">HH", large, 5, 12_000, 12_000)
    hidden = whole[:2] + b"\xff\x00" + struct.pack(">H", 2 + len(large)) + bytes(large) + whole[2:]
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("was decoded"))
    assert read_header(hidden).pixels == 144_000_000
    with pytest.raises(ImageError, match="too large"):
        decode_image(hidden)
    with pytest.raises(ImageError, match="damaged"):
        decode_image(whole[:20] + b"junk" + whole[20:])


def bitmap(bits, body, compression=0, more=b"", header_bytes=40):
    head = struct.pack("<IiiHHIIiiII", header_bytes, 36, 40, 1, bits, compression, len(body), 0, 0, 0, 0)
    start = 14 + len(head) + len(more)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + more + body


ORDERS = [(0xFF << 8 * r, 0xFF << 8 * g, 0xFF << 8 * b) for r, g, b in ((2, 1, 0), (0, 1, 2), (3, 2, 1), (1, 2, 3))]


@pytest.mark.parametrize("header_bytes", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("masks", ORDERS)
def test_a_bmp_of_32_bits_shows_its_colours_in_any_order_or_is_refused(masks, header_bytes):
    body = np.zeros((40, 36, 4), np.uint8)
    for channel, mask in enumerate(masks):
        body[..., (mask.bit_length() - 1) // 8] = RGB[::-1, :, channel]
    more = struct.pack("<III", *masks) + bytes(max(0, header_bytes - 52))
    try:
        assert_array_equal(decode_image(bitmap(32, body.tobytes(), 3, more, header_bytes)), RGB)
    except ImageError as error:
        assert "unusual order" in error.what  # noqa: PT017
        assert masks != ORDERS[0]


def test_run_lengths_are_read_where_they_fill_the_image():
    palette = b"".join(bytes((i, i, i, 0)) for i in range(256))
    rows = [b"".join(bytes((1, int(value))) for value in row) for row in GREY[::-1]]
    whole = b"\0\0".join(rows) + b"\0\1"
    assert_array_equal(decode_image(bitmap(8, whole, 1, palette)), as_grey(GREY))
    literal = [bytes((0, 36)) + row.tobytes() for row in GREY[::-1]]
    assert_array_equal(decode_image(bitmap(8, b"\0\0".join(literal) + b"\0\1", 1, palette)), as_grey(GREY))
    for spoilt in (b"\0\0".join(rows[:10]) + b"\0\1", b"\0\1", whole.replace(b"\0\0", b"\0\2\1\1", 1), whole[:-40]):
        with pytest.raises(ImageError):
            decode_image(bitmap(8, spoilt, 1, palette))


@pytest.mark.parametrize("value", [0, 3, 255])
def test_nothing_is_measured_where_the_mask_shows_black_or_white(value):
    mask = np.zeros(RGB.shape[:2], np.uint8)
    mask[8:30, 8:28] = 255
    image = RGB.copy()
    image[mask > 0] = value
    with pytest.raises(CellError, match=f"fully {'white' if value == 255 else 'black'} inside the mask"):
        make_cell(image, mask)
    deep = cv2.imencode(".png", RGB.astype(np.uint16))[1].tobytes()  # 0 to 255 in 16 bits
    with pytest.raises(CellError, match="upper 8"):
        make_cell(decode_image(deep), mask)


def test_opencv_has_the_same_limit_where_fusion_is_imported_first():
    program = "import fusion, os; print(os.environ['OPENCV_IO_MAX_IMAGE_PIXELS'])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(said) in {MAX_PIXELS, int(said)}
    assert (
        subprocess.run(
            [sys.executable, "-c", "import os; os.environ.pop('OPENCV_IO_MAX_IMAGE_PIXELS', 0);" + program],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        == f"{MAX_PIXELS}\n"
    )
