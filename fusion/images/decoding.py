"""From bytes to pixels: what is an image that can be trusted, and what its pixels are.

Every kind of bad file has one outcome, a fault with a reason, listed in ``docs/input.md``.
"""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.errors import FusionError
from fusion.images.file_headers import READ, Header, read_header
from fusion.io.remote_path import Remote

#: Pixels of the largest image that is decoded: 8192 x 8192, 100 times a C-NMC image and 200 MB in memory. A
#: header asks for 30,000 x 30,000 in a file of a few kilobytes.
MAX_PIXELS = 1 << 26

#: Bytes of the largest file that is read: MAX_PIXELS in 16 bits with alpha are 0.5 GB.
MAX_BYTES = 1 << 30


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


def changed_ns(path: Path) -> int:
    """When the file was last changed, in ns since 1970; 0 where that cannot be determined."""
    try:
        return 0 if isinstance(path, Remote) else path.stat().st_mtime_ns
    except OSError:
        return 0


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
    image = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ImageError("has neither 8 nor 16 bits", found=str(image.dtype))
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def check_image(data: bytes) -> None:
    """Raise what ``decode_image`` would, without decoding where a look at the header is enough to know.

    Raises
    ------
    ImageError : see ``docs/input.md``.
    """
    if not _check(data).is_bare:
        decode_image(data)


def decode_mask(data: bytes) -> NDArray[np.uint8]:
    """uint8 (H, W), with the file's own values, turned upright as its EXIF tells: of several channels the largest.

    Raises
    ------
    ImageError : see ``docs/input.md``.
    """
    # The file's own depth and channels, but turned upright, which IMREAD_UNCHANGED leaves out.
    mask = _decode(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    mask = mask if mask.ndim == 2 else mask[..., :3].max(axis=2)
    if mask.dtype != np.uint8 and mask.max() > 255:
        raise ImageError("the mask has values above 255", found=str(mask.max()), expected="0, 128, 255 or 0, 1, 2")
    return mask.astype(np.uint8, copy=False)


def _decode(data: bytes, flags: int) -> NDArray:
    _check(data)
    _silence_opencv()
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageError("not an image that can be decoded", found=f"content starting with {data[:8]!r}")
    return image


def _check(data: bytes) -> Header:
    """The header; refuses what a decoder would take without a word, or with all of the memory."""
    if not data:
        raise ImageError("the file is empty")
    header = read_header(data)
    if header.format not in READ:
        raise ImageError(
            f"a {header.format} file, which is not read" if header.format else "not an image that can be decoded",
            found=f"content starting with {data[:8]!r}",
            expected=", ".join(READ),
        )
    if header.width * header.height > MAX_PIXELS:
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


@functools.cache
def _silence_opencv() -> None:
    """OpenCV writes to the terminal about every bad image; they are counted and reported as faults."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
