"""From bytes to pixels: what is an image that can be trusted, and what its pixels are.

Every kind of bad file has one outcome, a fault with a reason, listed in ``docs/input.md``.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.errors import FusionError
from fusion.images.file_headers import READ, Header, read_header
from fusion.io.content_hash import hash_content
from fusion.io.files import printable
from fusion.io.remote_path import Remote

#: Pixels of the largest image that is decoded: 8192 x 8192, 100 times a C-NMC image and 200 MB in memory. A
#: header asks for 30,000 x 30,000 in a file of a few kilobytes.
MAX_PIXELS = 1 << 26

#: Formats whose pixels are the same whoever decodes them.
LOSSLESS = ("BMP", "PNG", "TIFF")

#: Bytes of the largest file that is read: MAX_PIXELS in 16 bits with alpha are 0.5 GB.
MAX_BYTES = 1 << 30


#: How a fault says that there is no such file.
MISSING = f"cannot be read: {os.strerror(errno.ENOENT).lower()}"


class CellError(FusionError):
    """This image holds no measurable cell. The image is counted and skipped; the run goes on."""


class ImageError(CellError):
    """These bytes are no image that can be trusted: not one at all, or cut short."""


def read_bytes(path: Path) -> bytes:
    """The file's content. We read it ourselves because OpenCV crashes on names that are not UTF-8.

    Raises
    ------
    ImageError : it is not there, not ours to read, not a file, or too large for an image.
    """
    try:
        if isinstance(path, Remote):  # its size was looked at when it was listed; to ask again takes as long as reading
            return path.read_bytes()
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("is a folder that cannot be listed" if not _can_list(path) else "is a folder")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise ImageError("is not a regular file")
        if status.st_size > MAX_BYTES:
            raise too_large(status.st_size)
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:  # a name that no file can have, out of a table
        raise ImageError(f"cannot be read: {error}") from error


def too_large(size: int) -> ImageError:
    """For a file of more than ``MAX_BYTES``."""
    return ImageError("too large for an image of a cell", found=f"{size >> 20} MB")


def _can_list(folder: Path) -> bool:
    try:
        next(os.scandir(folder), None)
    except OSError:
        return False
    return True


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) in RGB order, turned upright as its EXIF tells.

    Of 16 bits the upper 8 are taken: the scale is that of the type, whatever the brightest pixel is. Grey is repeated,
    a palette or CMYK converted, alpha dropped.

    Raises
    ------
    ImageError : see ``docs/input.md``.
    """
    # 16 bits are asked for as they are: OpenCV's own way down to 8 differs by a level between PNG and TIFF.
    image = _decode(data, check_header(data), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ImageError("has neither 8 nor 16 bits", found=str(image.dtype))
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def pixel_key(data: bytes) -> str:
    """Hash of the size and pixels that ``decode_image`` makes of a BMP, PNG or TIFF: the same in any container.

    "" for JPEG: its decoders differ by a level here and there, so that only its bytes tell it.

    Raises
    ------
    ImageError : as ``decode_image`` does.
    """
    rgb = decode_image(data)
    if read_header(data).format not in LOSSLESS:
        return ""
    return hash_content(f"{rgb.shape[0]} x {rgb.shape[1]}:".encode(), np.ascontiguousarray(rgb).data)


def decode_mask(data: bytes, by: str = "value") -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The file's own values, turned upright as its EXIF tells.

    Parameters
    ----------
    data : content of the file.
    by : "value" gives grey values, or indices of a palette of colours: (H, W). "colour" gives colours, (H, W, 3) in RGB
        order. "red", "green", "blue", "alpha" give one channel, (H, W).

    Raises
    ------
    ImageError : see ``docs/input.md``; colours or opacity where values were asked for, no alpha where that was.
    """
    header = check_header(data)
    if by == "value" and header.palette and not _is_grey(header.palette):
        return _palette_indices(data, header)
    # The file's own depth and channels, but turned upright, which IMREAD_UNCHANGED leaves out.
    mask = _decode(data, header, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if mask.dtype not in (np.uint8, np.uint16):
        raise ImageError("has neither 8 nor 16 bits", found=str(mask.dtype))
    if mask.ndim == 2 and by in (*_CHANNELS, "colour"):
        return mask if by in _CHANNELS else np.repeat(mask[..., None], 3, axis=2)
    if by in _CHANNELS:
        return np.ascontiguousarray(mask[..., 2 - _CHANNELS.index(by)])
    if by == "colour":
        return np.ascontiguousarray(mask[..., ::-1])
    alpha = _alpha(data, header, mask)
    if by == "alpha":
        if alpha is None:
            raise ImageError("the mask has no alpha channel", found=header.colours)
        return alpha
    if alpha is not None and alpha.min() < np.iinfo(alpha.dtype).max:
        raise ImageError(
            "the mask is partly transparent; say with --mask-levels which channel counts",
            found=_common_opacities(alpha),
        )
    if mask.ndim == 3:
        # Three channels that differ by more than JPEG makes grey differ are colours.
        if np.ptp(mask, axis=2).max() > _JPEG_GREY:
            found = _common_colours(mask[..., ::-1])
            raise ImageError("the mask is in colours; say with --mask-levels what they mean", found=found)
        mask = np.ascontiguousarray(mask[..., 1])
    return mask


_CHANNELS = ("red", "green", "blue")

#: Levels by which the channels of a grey image may differ once it has been through JPEG.
_JPEG_GREY = 3


def _alpha(data: bytes, header: Header, mask: NDArray) -> NDArray | None:
    """(H, W): the channel of opacity; None where there is none."""
    if not header.has_alpha and (header.format, header.colours) != ("BMP", "RGB"):
        return None
    whole = _decode(data, header, cv2.IMREAD_UNCHANGED)
    if whole.ndim == 2 or whole.shape[2] not in (2, 4) or header.format == "BMP":
        return None  # the fourth byte of a BMP is padding to most programs
    if whole.shape[:2] != mask.shape[:2] or (mask.ndim == 3 and not np.array_equal(whole[..., :3], mask)):
        raise ImageError("the mask is turned by its EXIF and has alpha", do="Save it upright.")
    return np.ascontiguousarray(whole[..., -1])


def _is_grey(palette: bytes) -> bool:
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _palette_indices(data: bytes, header: Header) -> NDArray[np.uint8]:
    """uint8 (H, W): the index of every pixel, read as grey by a decoder that is told so."""
    if header.format == "BMP":
        (header_bytes,) = struct.unpack_from("<I", data, 14)
        step = 3 if header_bytes == 12 else 4
        greys = b"".join(bytes((i,) * 3 + (0,) * (step - 3)) for i in range(len(header.palette) // 3))
        content = data[: 14 + header_bytes] + greys + data[14 + header_bytes + len(greys) :]
        return np.asarray(_decode(content, header, cv2.IMREAD_GRAYSCALE), np.uint8)
    pieces, at = [data[:8]], 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            body = body[:9] + b"\0" + body[10:]
        if kind in (b"IHDR", b"IDAT", b"IEND", b"eXIf"):
            pieces.append(struct.pack(">I", size) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
        at += size + 12
    grey = np.asarray(_decode(b"".join(pieces), header, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR), np.uint8)
    # Indices of fewer than 8 bits are spread over 0 to 255.
    return grey // np.uint8(255 // (2**header.bits - 1))


#: Pixels of which the commonest colours are told, spread evenly: a message is not worth sorting all of a large mask.
_COUNTED = 1_000_000


def _common_colours(colours: NDArray) -> str:
    """The commonest colours and their shares, as ``#ff0000 (12%)``."""
    pixels = colours.reshape(-1, 3)
    pixels = pixels[:: -(-len(pixels) // _COUNTED)].astype(np.uint64)
    found, counts = np.unique(pixels[:, 0] << 32 | pixels[:, 1] << 16 | pixels[:, 2], return_counts=True)
    largest = np.argsort(-counts, kind="stable")[:6]
    names = ["".join(f"{int(found[at]) >> shift & 0xFFFF:02x}" for shift in (32, 16, 0)) for at in largest]
    texts = [f"#{name} ({counts[at] / counts.sum():.0%})" for name, at in zip(names, largest, strict=True)]
    return ", ".join(texts) + (f" and {len(found) - 6} more" if len(found) > 6 else "")


def _common_opacities(alpha: NDArray) -> str:
    """The commonest values of opacity and their shares."""
    found, counts = np.unique(alpha, return_counts=True)
    largest = np.sort(np.argsort(-counts, kind="stable")[:6])
    texts = [f"{found[at]} ({counts[at] / counts.sum():.0%})" for at in largest]
    return f"alpha {', '.join(texts)}" + (f" and {len(found) - 6} more" if len(found) > 6 else "")


def _decode(data: bytes, header: Header, flags: int) -> NDArray:
    _silence_opencv()
    for at, piece in header.edits:
        data = data[:at] + piece + data[at + len(piece) :]
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageError("not an image that can be decoded", found=_format_beginning(data))
    size = image.shape[1], image.shape[0]
    # EXIF may have turned it by a quarter.
    if (header.width, header.height) not in (size, size[::-1]):
        raise ImageError(
            "decodes to another size than its header says",
            found=f"{size[0]} x {size[1]}, header {header.width} x {header.height}",
        )
    return cv2.bitwise_not(image) if header.is_inverted else image


def check_header(data: bytes) -> Header:
    """The header; refuses what a decoder would take without a word, or with all of the memory.

    Raises
    ------
    ImageError : see ``docs/input.md``.
    """
    if not data:
        raise ImageError("the file is empty")
    header = read_header(data)
    if header.format not in READ:
        raise ImageError(
            f"a {header.format} file, which is not read" if header.format else "not an image that can be decoded",
            found=_format_beginning(data),
            expected=", ".join(READ),
        )
    if header.pixels > MAX_PIXELS:
        raise ImageError(
            "too large for an image of a cell",
            found=f"{header.width} x {header.height} pixels",
            expected=f"at most {MAX_PIXELS >> 20} million",
        )
    if header.damage:
        raise ImageError(header.damage)
    if header.frames > 1:
        raise ImageError("holds several images", found=f"{header.frames} frames or pages", expected="one")
    return header


def _format_beginning(data: bytes) -> str:
    """How a file that is no image begins, in words: what a text says, or its first bytes as a hex dump has them."""
    first = data[:16].split(b"\0")[0]
    if len(first) > 3 and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in first):
        return f'text, "{printable(first.decode()).strip()}"'
    return f"bytes {data[:8].hex(' ').upper()}"


@functools.cache
def _silence_opencv() -> None:
    """OpenCV writes to the terminal about every bad image; they are counted and reported as faults."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
