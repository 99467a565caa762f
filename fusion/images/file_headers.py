"""What the first bytes of an image file say, read without decoding: format, size, frames, and whether it is whole.

Decoders fill what is missing with grey, take the first of several pages and allocate whatever a header asks for, all
without a word. What is read here is checked before a decoder sees the file. Content decides, never the name.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

#: First bytes -> format, of what we read and of what people send instead.
_SIGNATURES = (
    (b"BM", "BMP"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"GIF8", "GIF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP"),
)

#: The formats that are read.
READ = ("BMP", "PNG", "JPEG", "TIFF")

#: No cell has this many pages, strips or tiles; a header that says so is damaged or hostile.
_MAX_PAGES, _MAX_STRIPS = 10_000, 1_000_000

#: TIFF: bytes of one value, and struct code, by field type; types that no field of ours has are left out.
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_SUBFILE, _WIDTH, _HEIGHT, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES, _SAMPLE_FORMAT = (
    254,
    256,
    257,
    273,
    279,
    324,
    325,
    339,
)
_REDUCED = 1  # bit of NewSubfileType: a smaller version of another page, a thumbnail


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    Attributes
    ----------
    format : "BMP", "PNG", "JPEG", "TIFF"; another known format; "" where unknown.
    width, height : pixels; 0 where the header does not say.
    frames : images in the file, thumbnails not counted.
    damage : what is wrong with the file, "" where nothing was found. BMP, JPEG and TIFF carry no checksum: their
        pixels may have changed all the same.
    is_bare : whether the pixels lie in the file as they are, all of them: whatever their values, it decodes.
    """

    format: str
    width: int = 0
    height: int = 0
    frames: int = 1
    damage: str = ""
    is_bare: bool = False


def read_header(data: bytes) -> Header:
    """The header of an image file's content. Never raises: what cannot be read is reported as damage."""
    kind = next((name for start, name in _SIGNATURES if data.startswith(start)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "WebP"
    reader = {"BMP": _bmp, "PNG": _png, "JPEG": _jpeg, "TIFF": _tiff}.get(kind)
    if reader is None:
        return Header(kind)
    try:
        return reader(data)
    except (struct.error, IndexError, ValueError):
        return Header(kind, damage="its header ends too early")


def _bmp(data: bytes) -> Header:
    start, header_bytes = struct.unpack_from("<II", data, 10)
    if header_bytes == 12:  # the header of OS/2
        width, height, bits, compression = *struct.unpack_from("<HH", data, 18), data[24] | data[25] << 8, 0
    else:
        width, height = struct.unpack_from("<ii", data, 18)
        bits, compression = struct.unpack_from("<HI", data, 28)
    # The plainest kind, C-NMC's: 24 bits a pixel right behind a header of 40 bytes.
    is_plain = (start, header_bytes, bits, compression) == (54, 40, 24, 0) and width > 0 and height != 0
    width, height = abs(width), abs(height)  # a negative height only says that the first row is the top one
    row_bytes = (width * bits + 31) // 32 * 4
    is_short = compression in (0, 3) and start + row_bytes * height > len(data)
    damage = "the image is cut short" if is_short else ""
    return Header("BMP", width, height, damage=damage, is_bare=is_plain and not is_short)


def _png(data: bytes) -> Header:
    width, height, frames, at = 0, 0, 1, 8
    while True:
        if at + 12 > len(data):
            return Header("PNG", width, height, frames, "the image is cut short")
        size, kind = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if body + size + 4 > len(data):
            return Header("PNG", width, height, frames, "the image is cut short")
        (checksum,) = struct.unpack_from(">I", data, body + size)
        if zlib.crc32(memoryview(data)[at + 4 : body + size]) != checksum:
            return Header("PNG", width, height, frames, f"the checksum of its part {kind!r} is wrong")
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", data, body)
        elif kind == b"acTL":
            (frames,) = struct.unpack_from(">I", data, body)
        elif kind == b"IEND":
            return Header("PNG", width, height, frames, "" if width else "it has no header")
        at = body + size + 4


def _jpeg(data: bytes) -> Header:
    # The end marker must follow the last scan; a thumbnail has its own before it.
    damage = "the image is cut short" if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda") else ""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return Header("JPEG", damage=damage or "its header is damaged")
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without content
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Header("JPEG", width, height, damage=damage)
        elif marker in (0xD9, 0xDA):
            return Header("JPEG", damage=damage or "its header is damaged")
        else:
            at += 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])
    return Header("JPEG", damage="the image is cut short")


def _tiff(data: bytes) -> Header:
    pages = [page for page in _tiff_pages(data) if not _first(page, _SUBFILE) & _REDUCED]
    if not pages:
        return Header("TIFF", damage="it has no page")
    width, height = _first(pages[0], _WIDTH), _first(pages[0], _HEIGHT)
    starts = pages[0].get(_STRIPS) or pages[0].get(_TILES) or ()
    sizes = pages[0].get(_STRIP_BYTES) or pages[0].get(_TILE_BYTES) or ()
    damage = ""
    if not starts or len(starts) != len(sizes):
        damage = "it does not say where its pixels are"
    elif any(start + size > len(data) for start, size in zip(starts, sizes, strict=True)):
        damage = "the image is cut short"
    elif set(pages[0].get(_SAMPLE_FORMAT, (1,))) - {1, 4}:
        damage = "its numbers are signed or have fractions; 8 or 16 bits without sign are read"
    return Header("TIFF", width, height, len(pages), damage)


def _tiff_pages(data: bytes) -> Iterator[dict[int, tuple[int, ...]]]:
    """Our fields of every page: tag -> values."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    offset, count, entry_bytes, inline = ("Q", "Q", 20, 8) if is_big else ("I", "H", 12, 4)
    (at,) = struct.unpack_from(order + offset, data, 8 if is_big else 4)
    seen: set[int] = set()
    while at and at not in seen and len(seen) < _MAX_PAGES:
        seen.add(at)
        (entries,) = struct.unpack_from(order + count, data, at)
        at += struct.calcsize(count)
        if at + entries * entry_bytes > len(data):
            raise ValueError("a page that ends outside the file")
        yield _tiff_page(data, range(at, at + entries * entry_bytes, entry_bytes), order, offset, inline)
        (at,) = struct.unpack_from(order + offset, data, at + entries * entry_bytes)


def _tiff_page(data: bytes, entries: range, order: str, offset: str, inline: int) -> dict[int, tuple[int, ...]]:
    fields = {}
    for at in entries:
        tag, kind, number = struct.unpack_from(order + "HH" + offset, data, at)
        if tag not in _TIFF_FIELDS or kind not in _TIFF_TYPES:
            continue
        if number > _MAX_STRIPS:
            raise ValueError("more strips than any image has")
        layout = f"{order}{number}{_TIFF_TYPES[kind]}"
        where = at + 4 + struct.calcsize(offset)
        if struct.calcsize(layout) > inline:
            (where,) = struct.unpack_from(order + offset, data, where)
        fields[tag] = struct.unpack_from(layout, data, where)
    return fields


_TIFF_FIELDS = {_SUBFILE, _WIDTH, _HEIGHT, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES, _SAMPLE_FORMAT}


def _first(fields: dict[int, tuple[int, ...]], tag: int) -> int:
    return (fields.get(tag) or (0,))[0]
