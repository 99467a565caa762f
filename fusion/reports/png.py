"""Images as PNG: as bytes, as a file, and as a ``data:`` address that a page carries with it."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.io.output_files import write_output


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """The PNG file of an image, uint8 RGB (height, width, 3)."""
    done, content = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    assert done
    return bytes(content)


def write_png(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Write an image, uint8 RGB (height, width, 3), as a PNG file, whole or not at all.

    Raises
    ------
    OSError : the disk is full or the folder cannot be written; nothing is left behind.
    """
    write_output(path, encode_png(rgb))


def png_data_uri(rgb: NDArray[np.uint8]) -> str:
    """An image, uint8 RGB (height, width, 3), as a ``data:`` address of a PNG."""
    return "data:image/png;base64," + base64.b64encode(encode_png(rgb)).decode()
