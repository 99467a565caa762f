"""What the first bytes of an image file say, read without decoding: format, size, frames, and whether it is whole.

Decoders fill what is missing with grey, take the first of several pages and allocate whatever a header asks for, all
without a word. What is read here is checked before a decoder sees the file. Content decides, never the name.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

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

#: TIFF: struct code of one value by field type, of all that libtiff takes for a whole number.
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
#: TIFF: the tags of the fields that are read.
_SUBFILE, _OLD_SUBFILE, _INNER_PAGES = 254, 255, 330
_WIDTH, _HEIGHT, _COMPRESSION, _COLOURS = 256, 257, 259, 262
_BITS, _SAMPLES, _PLANES, _EXTRA, _SAMPLE_FORMAT = 258, 277, 284, 338, 339
_STRIPS, _STRIP_BYTES = 273, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
#: Fields of one value each. Who reads the first of two and who reads the last see two images.
_TIFF_SINGLE = {
    _SUBFILE,
    _OLD_SUBFILE,
    _WIDTH,
    _HEIGHT,
    _COMPRESSION,
    _COLOURS,
    _SAMPLES,
    _PLANES,
    _TILE_WIDTH,
    _TILE_HEIGHT,
}
_TIFF_FIELDS = {*_TIFF_SINGLE, _BITS, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES, _INNER_PAGES, _EXTRA, _SAMPLE_FORMAT}
_REDUCED = 1  # bit of NewSubfileType: a smaller version of another page, a thumbnail
_OLD_REDUCED = 2  # the same as SubfileType, which came before

#: PhotometricInterpretation -> what we call it.
_TIFF_COLOURS = {
    0: "grey",
    1: "grey",
    2: "RGB",
    3: "palette",
    4: "transparency mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "colour filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
#: Bits and channels of those colours that decoders get right.
_TIFF_BITS = {"grey": {1, 8, 10, 12, 14, 16}, "RGB": {8, 16}, "palette": {1, 4, 8}, "CMYK": {8}, "YCbCr": {8}}
_TIFF_CHANNELS = {"grey": {1, 2}, "RGB": {3, 4}, "palette": {1}, "CMYK": {4}, "YCbCr": {3}}
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
#: Compression -> what we call it, of those that are not read.
_TIFF_NOT_READ = {
    6: "JPEG of an old kind",
    9: "JBIG",
    10: "JBIG",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_UNASSOCIATED_ALPHA = 2

#: JPEG: markers behind which a length says where the next one is: tables, application data, comments.
_JPEG_SEGMENTS = {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE}
#: Markers that begin a frame, and those without content.
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = {0x01, *range(0xD0, 0xD8)}

#: A frame's marker, its length, bits, and then height and width.
_JPEG_SIZE = re.compile(rb"\xff[\xc0-\xc2]..\x08(....)", re.DOTALL)

#: BMP: lengths of the headers whose fields lie where we look, and masks of colours that decoders agree on.
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_BMP_MASKS = {16: ((0x7C00, 0x3E0, 0x1F), (0xF800, 0x7E0, 0x1F)), 32: ((0xFF0000, 0xFF00, 0xFF),)}

_PNG_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    Attributes
    ----------
    format : "BMP", "PNG", "JPEG", "TIFF"; another known format; "" where unknown.
    width, height : pixels; 0 where the header does not say.
    frames : images in the file, thumbnails not counted.
    damage : what is wrong with the file, or how its pixels are laid out in a way that decoders get wrong; "" where
        nothing was found. BMP, JPEG and TIFF carry no checksum: their pixels may have changed all the same.
    bits : of one channel, or of an index into the palette.
    colours : "grey", "RGB", "palette" and so on, with " with alpha" where there is a channel more; "" where unknown.
    palette : uint8 triples in the order red, green, blue, one colour after the other; empty where there is none, or
        where only the decoder reads it.
    edits : (position, bytes) by which the content is changed before it is decoded, so that a decoder which knows less
        shows the right image of the right page.
    is_inverted : whether the brightest value is black once these edits are made.
    tile_pixels : pixels of a tile, which are decoded together, however small the image is; 0 where there is none.
    """

    format: str
    width: int = 0
    height: int = 0
    frames: int = 1
    damage: str = ""
    bits: int = 0
    colours: str = ""
    palette: bytes = b""
    edits: tuple[tuple[int, bytes], ...] = ()
    is_inverted: bool = False
    tile_pixels: int = 0

    @property
    def pixels(self) -> int:
        """How many are decoded at once."""
        return max(self.width * self.height, self.tile_pixels)

    @property
    def has_alpha(self) -> bool:
        """Whether there is a channel of opacity."""
        return self.colours.endswith(" with alpha")


def read_header(data: bytes) -> Header:
    """The header of an image file's content. Never raises: what cannot be read is reported as damage."""
    kind = next((name for start, name in _SIGNATURES if data.startswith(start)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "WebP"
    reader = {"BMP": _bmp, "PNG": _png, "JPEG": _jpeg, "TIFF": _tiff}.get(kind)
    if reader is None:
        return Header(kind)
    try:
        header = reader(data)
    except (struct.error, IndexError):
        return Header(kind, damage="its header ends too early")
    except ValueError:
        return Header(kind, damage="its header is damaged")
    if not header.damage and not (header.width and header.height):
        return replace(header, damage="its header gives no size")
    return header


def _bmp(data: bytes) -> Header:
    start, header_bytes = struct.unpack_from("<II", data, 10)
    if header_bytes not in _BMP_HEADERS:
        return Header("BMP", damage="its header is damaged")
    if header_bytes == 12:  # the header of OS/2
        width, height, bits, compression = *struct.unpack_from("<HH", data, 18), data[24] | data[25] << 8, 0
    else:
        width, height = struct.unpack_from("<ii", data, 18)
        bits, compression = struct.unpack_from("<HI", data, 28)
    width, height = abs(width), abs(height)  # a negative height only says that the first row is the top one
    row_bytes = (width * bits + 31) // 32 * 4
    is_short = compression in (0, 3) and start + row_bytes * height > len(data)
    damage = "the image is cut short" if is_short else _bmp_layout(data, start, header_bytes, bits, compression)
    if not damage and compression == 1:
        damage = _run_lengths(data, start, width, height)
    return Header(
        "BMP",
        width,
        height,
        damage=damage,
        bits=8 if bits > 16 else 5 if bits == 16 else bits,
        colours="RGB" if bits > 8 else "palette",
        palette=b"" if bits > 8 else _bmp_palette(data, start, header_bytes),
    )


def _bmp_layout(data: bytes, start: int, header_bytes: int, bits: int, compression: int) -> str:
    """What decoders get wrong about these pixels; "" where nothing."""
    damage = ""
    if bits not in (1, 4, 8, 16, 24, 32):
        damage = "its number of bits a pixel is none that is read"
    elif compression == 3:
        masks = struct.unpack_from("<III", data, 54)
        # With a header of 56 bytes and more the masks are read by decoders too, where each is a byte of its own.
        is_bytes = {*masks} < {0xFF, 0xFF00, 0xFF0000, 0xFF000000} and len({*masks}) == 3
        is_known = masks in _BMP_MASKS.get(bits, ()) or (bits == 32 and header_bytes in (56, 108, 124) and is_bytes)
        if header_bytes == 64 or not is_known:
            damage = "its colours lie in an unusual order of bits"
    elif not (compression == 0 or (compression == 1 and bits == 8)):
        damage = "its pixels are compressed in a way that is not read"
    return damage


def _run_lengths(data: bytes, at: int, width: int, height: int) -> str:
    """ "" where runs of 8 bits fill every row of the image: decoders make up the rest, or take what was there."""
    missing = "its run lengths do not fill the image"
    x = y = 0
    while y < height:
        count, value = data[at], data[at + 1]
        at += 2
        if count:
            x += count
        elif value == 0:  # the row ends
            if x != width:
                return missing
            x, y = 0, y + 1
        elif value == 1:  # the image ends, the last row with it
            return "" if (x, y) == (width, height - 1) else missing
        elif value == 2:  # pixels are passed over
            return missing
        else:  # so many as they are, padded to an even number of bytes
            x, at = x + value, at + value + value % 2
        if x > width:
            return missing
    return ""


def _bmp_palette(data: bytes, start: int, header_bytes: int) -> bytes:
    step = 3 if header_bytes == 12 else 4
    colours = data[14 + header_bytes : min(start, 14 + header_bytes + 256 * step)]
    return b"".join(colours[at : at + 3][::-1] for at in range(0, len(colours) - step + 1, step))


def _png(data: bytes) -> Header:
    width, height, frames, at, bits, colours, palette = 0, 0, 0, 8, 0, "", b""
    is_first = False  # whether the image is the first frame of an animation

    def header(damage: str = "") -> Header:
        return Header("PNG", width, height, frames or 1, damage, bits=bits, colours=colours, palette=palette)

    while True:
        if at + 12 > len(data):
            return header("the image is cut short")
        size, kind = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if body + size + 4 > len(data):
            return header("the image is cut short")
        (checksum,) = struct.unpack_from(">I", data, body + size)
        if zlib.crc32(memoryview(data)[at + 4 : body + size]) != checksum:
            return header(f"the checksum of its part {kind!r} is wrong")
        if kind == b"IHDR":
            if colours:
                return header("its header is damaged")  # there are two: which one counts?
            width, height, bits, code = struct.unpack_from(">IIBB", data, body)
            colours = _PNG_COLOURS.get(code, "unknown")
        elif not colours:
            return header("it has no header")
        elif kind == b"PLTE":
            palette = data[body : body + size] if colours == "palette" else b""
        elif kind == b"tRNS":
            colours = colours if colours.endswith(" with alpha") else f"{colours} with alpha"
        elif kind == b"acTL":
            (frames,) = struct.unpack_from(">I", data, body)
        elif kind == b"fcTL":
            is_first = True
        elif kind == b"IDAT" and frames and not is_first:
            # The image that others than browsers show is none of the animation's: one more.
            frames, is_first = frames + 1, True
        elif kind == b"IEND":
            return header("" if width else "it has no header")
        at = body + size + 4


def _jpeg(data: bytes) -> Header:
    # The end marker must follow the last scan; a thumbnail has its own before it.
    damage = "the image is cut short" if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda") else ""
    at = 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0:
            # A decoder goes on to the next marker, byte by byte, and believes the frame that it finds there: so do we,
            # to know how large that is. A length behind FF 00 would have jumped over it.
            damage = damage or "its header is damaged"
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
        elif marker == 0xFF:  # padding
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        elif marker in _JPEG_FRAMES:
            return _jpeg_frame(data, at, damage)
        elif marker not in _JPEG_SEGMENTS:
            return Header("JPEG", damage=damage or "its header is damaged")
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            if length < 2:
                return Header("JPEG", damage=damage or "its header is damaged")
            at += 2 + length
    return Header("JPEG", damage=damage or "the image is cut short")


def _jpeg_frame(data: bytes, at: int, damage: str) -> Header:
    """What the frame whose marker is there says; ``damage`` was found before it."""
    bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
    colours = {1: "grey", 3: "YCbCr", 4: "CMYK"}.get(channels, "")
    if not damage and bits != 8:
        damage = "its number of bits a pixel is none that is read"
    elif not damage and not colours:
        damage = "its header is damaged"
    frames = 1 + _is_followed(data, at, width, height)
    return Header("JPEG", width, height, frames, damage, bits=bits, colours=colours)


def _is_followed(data: bytes, at: int, width: int, height: int) -> bool:
    """Whether another JPEG of this size stands behind the one whose frame is there, as in MPO files. A smaller one is a
    preview or a map of brightness, as telephones leave them."""
    scan = data.find(b"\xff\xda", at)
    # Among compressed pixels no byte above D7 follows FF, but where they end.
    start = data.find(b"\xff\xd8\xff", scan) if scan >= 0 else -1
    if start < 0:
        return False
    size = _JPEG_SIZE.search(data, start)
    return size is not None and struct.unpack(">HH", size[1]) == (height, width)


# ---- TIFF -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Page:
    """One page: its place in the file, our fields by tag, and where the first value of each lies."""

    at: int
    fields: dict[int, tuple[int, ...]]
    places: dict[int, tuple[int, str]]

    def first(self, tag: int, default: int = 0) -> int:
        return (self.fields.get(tag) or (default,))[0]

    @property
    def is_reduced(self) -> bool:
        return bool(self.first(_SUBFILE) & _REDUCED) or self.first(_OLD_SUBFILE) == _OLD_REDUCED

    def edit(self, tag: int, value: int) -> tuple[int, bytes]:
        at, layout = self.places[tag]
        return at, struct.pack(layout, value)


def _tiff(data: bytes) -> Header:
    layout = _TiffLayout.of(data)
    every = list(layout.pages(data))
    pages = [page for page in every if not page.is_reduced]
    if not pages:
        return Header("TIFF", damage="it has no page")
    page = pages[0]
    pages += [inner for each in every for inner in layout.inner_pages(data, each) if not inner.is_reduced]
    is_inverted = page.first(_COLOURS, -1) == _WHITE_IS_ZERO and page.first(_BITS, 1) > 8
    edits = [] if page.at == every[0].at else [layout.first_page(page.at)]
    samples = page.first(_SAMPLES, 1)
    colours = _TIFF_COLOURS.get(page.first(_COLOURS), "unknown") if _COLOURS in page.fields else "unknown"
    return Header(
        "TIFF",
        page.first(_WIDTH),
        page.first(_HEIGHT),
        len(pages),
        _tiff_pixels(page, len(data)) or _tiff_colours(page, colours),
        bits=page.first(_BITS, 1),
        colours=f"{colours} with alpha" if (colours, samples) in (("grey", 2), ("RGB", 4)) else colours,
        edits=(*edits, *_tiff_edits(page, is_inverted=is_inverted)),
        is_inverted=is_inverted,
        tile_pixels=page.first(_TILE_WIDTH) * page.first(_TILE_HEIGHT),
    )


def _tiff_pixels(page: _Page, file_bytes: int) -> str:
    """Why the pixels are not all there, or no numbers that are read; "" where they are."""
    starts = page.fields.get(_STRIPS) or page.fields.get(_TILES) or ()
    sizes = page.fields.get(_STRIP_BYTES) or page.fields.get(_TILE_BYTES) or ()
    damage = ""
    if not starts or len(starts) != len(sizes):
        damage = "it does not say where its pixels are"
    elif any(start + size > file_bytes for start, size in zip(starts, sizes, strict=True)):
        damage = "the image is cut short"
    elif page.first(_COMPRESSION, 1) in _TIFF_NOT_READ:
        damage = f"its pixels are compressed by {_TIFF_NOT_READ[page.first(_COMPRESSION)]}, which is not read"
    elif set(page.fields.get(_SAMPLE_FORMAT, (1,))) - {1, 4}:
        damage = "its numbers are signed or have fractions; 8 or 16 bits without sign are read"
    return damage


def _tiff_edits(page: _Page, *, is_inverted: bool) -> Iterator[tuple[int, bytes]]:
    """What is changed in the page, so that decoders show its colours as they are."""
    if is_inverted:  # decoders invert up to 8 bits, and take more as they are
        yield page.edit(_COLOURS, _BLACK_IS_ZERO)
    if page.fields.get(_EXTRA, ())[:1] == (_UNASSOCIATED_ALPHA,) and page.first(_SAMPLES, 1) == 4:
        yield page.edit(_EXTRA, 0)  # decoders darken by alpha; as "whatever it may be" it is left out


def _tiff_colours(page: _Page, colours: str) -> str:
    """How these colours are laid out, where decoders get that wrong without a word; "" where they do not."""
    samples, every = page.first(_SAMPLES, 1), page.fields.get(_BITS, (1,))
    damage = ""
    if colours not in _TIFF_BITS:
        damage = f"its colours are {colours}, which are not read; save it as RGB"
    elif len(set(every)) > 1 or every[0] not in _TIFF_BITS[colours]:
        damage = "its number of bits a pixel is none that is read"
    elif colours == "grey" and samples > min(2, 1 + len(page.fields.get(_EXTRA, ()))):
        damage = "it is called grey and has several channels; save it as RGB"
    elif samples not in _TIFF_CHANNELS[colours]:
        damage = "it has more or fewer channels than its colours"
    elif page.first(_PLANES, 1) == 2 and samples > 1 and (every[0], colours) != (8, "RGB"):
        damage = "its channels lie in planes of their own, which is read for RGB of 8 bits only"
    elif colours == "grey" and samples == 2 and (page.first(_COLOURS) == _WHITE_IS_ZERO or _TILES in page.fields):
        damage = "it is grey with alpha, in tiles or with white as its zero, which is not read; save it as RGB"
    return damage


@dataclass(frozen=True)
class _TiffLayout:
    """How numbers are written in this file: their order, and the widths of those that say where things are."""

    order: str
    offset: str
    count: str
    entry_bytes: int
    inline: int
    start: int

    @classmethod
    def of(cls, data: bytes) -> _TiffLayout:
        order = "<" if data[:2] == b"II" else ">"
        is_big = data[2:4] in (b"+\0", b"\0+")
        return cls(order, *(("Q", "Q", 20, 8, 8) if is_big else ("I", "H", 12, 4, 4)))

    def first_page(self, at: int) -> tuple[int, bytes]:
        """The edit by which decoders begin with the page there."""
        return self.start, struct.pack(self.order + self.offset, at)

    def pages(self, data: bytes) -> Iterator[_Page]:
        (at,) = struct.unpack_from(self.order + self.offset, data, self.start)
        seen: set[int] = set()
        while at and at not in seen and len(seen) < _MAX_PAGES:
            seen.add(at)
            page, at = self.page(data, at)
            yield page

    def inner_pages(self, data: bytes, page: _Page) -> Iterator[_Page]:
        """Those a page lists as its own: of a pyramid, or the image that a thumbnail belongs to."""
        for at in page.fields.get(_INNER_PAGES, ())[:_MAX_PAGES]:
            yield self.page(data, at)[0]

    def page(self, data: bytes, at: int) -> tuple[_Page, int]:
        """A page, and where the next one is."""
        start = at
        (entries,) = struct.unpack_from(self.order + self.count, data, at)
        at += struct.calcsize(self.count)
        end = at + entries * self.entry_bytes
        if end > len(data):
            raise ValueError("a page that ends outside the file")
        fields: dict[int, tuple[int, ...]] = {}
        places: dict[int, tuple[int, str]] = {}
        for entry in range(at, end, self.entry_bytes):
            (tag,) = struct.unpack_from(self.order + "H", data, entry)
            if tag in _TIFF_FIELDS:
                if tag in fields:
                    raise ValueError("a field that is there twice")
                fields[tag], places[tag] = self._values(data, entry, tag)
        (following,) = struct.unpack_from(self.order + self.offset, data, end)
        return _Page(start, fields, places), following

    def _values(self, data: bytes, entry: int, tag: int) -> tuple[tuple[int, ...], tuple[int, str]]:
        kind, number = struct.unpack_from(self.order + "H" + self.offset, data, entry + 2)
        if kind not in _TIFF_TYPES or number > _MAX_STRIPS or number < 1 or (tag in _TIFF_SINGLE and number > 1):
            raise ValueError("a field that is none")
        layout = f"{self.order}{number}{_TIFF_TYPES[kind]}"
        where = entry + 4 + struct.calcsize(self.offset)
        if struct.calcsize(layout) > self.inline:
            (where,) = struct.unpack_from(self.order + self.offset, data, where)
        values = struct.unpack_from(layout, data, where)
        if min(values) < 0:
            raise ValueError("a negative size")
        return values, (where, self.order + _TIFF_TYPES[kind])
