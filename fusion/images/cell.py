"""A cell: the cropped image and masks that every extractor measures.

The masks' contract. ``mask`` is the whole cell, one connected region without holes unless a mask file says otherwise;
``nucleus`` lies inside it and may be empty. A mask given by the user always wins over segmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.images.decoding import CellError, ImageError, decode_image, read_bytes
from fusion.images.masks import CYTOPLASM_VALUE, NUCLEUS_VALUE, GivenMask, given_mask, read_mask
from fusion.images.segmentation import red_blood_cells, segment

__all__ = [
    "CYTOPLASM_VALUE",
    "MARGIN",
    "NUCLEUS_VALUE",
    "PREPARATION",
    "Cell",
    "CellError",
    "GivenMask",
    "ImageError",
    "decode_image",
    "fit_mask",
    "make_cell",
    "read_bytes",
    "read_cell",
]

#: Part of every feature's fingerprint: raise it when pixels or masks of a cell could change.
PREPARATION = f"4+{segment.VERSION}"

#: Background kept around the cell's bounding box, so that gradients and dilations at the contour have room.
MARGIN = 8


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell, cropped to its bounding box plus a margin.

    Attributes
    ----------
    rgb : uint8 (H, W, 3), the image, background included as it was.
    mask : bool (H, W), the whole cell; never empty.
    nucleus : bool (H, W), inside ``mask``; may be empty.
    origin : (y, x) of the crop's first pixel in the source image.
    um_per_px : micrometres on the side of a pixel, None where unknown.
    red_cells : diameter in pixels of every whole red cell around it, None where nobody has asked.

    Raises
    ------
    ValueError : shapes or dtypes differ from the above, an empty mask, or a nucleus that leaves the cell.

    Examples
    --------
    >>> import numpy as np
    >>> disc = np.hypot(*np.mgrid[-20:21, -20:21]) < 15
    >>> Cell(rgb=np.full((41, 41, 3), 90, np.uint8), mask=disc, nucleus=np.zeros_like(disc)).mask.sum()
    np.int64(697)
    """

    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    nucleus: NDArray[np.bool_]
    origin: tuple[int, int] = (0, 0)
    um_per_px: float | None = None
    red_cells: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise ValueError(f"rgb must be uint8 (H, W, 3), not {self.rgb.dtype} {self.rgb.shape}")
        for name, mask in (("mask", self.mask), ("nucleus", self.nucleus)):
            if mask.dtype != np.bool_ or mask.shape != self.rgb.shape[:2]:
                raise ValueError(f"{name} must be bool {self.rgb.shape[:2]}, not {mask.dtype} {mask.shape}")
        if not self.mask.any():
            raise ValueError("mask must not be empty")
        if (self.nucleus & ~self.mask).any():
            raise ValueError("nucleus must lie inside mask")

    @property
    def cytoplasm(self) -> NDArray[np.bool_]:
        """bool (H, W): the cell without its nucleus; may be empty."""
        return self.mask & ~self.nucleus


def make_cell(
    rgb: NDArray[np.uint8],
    mask_image: NDArray[np.uint8] | GivenMask | None = None,
    um_per_px: float | None = None,
    *,
    red_cells: bool = False,
) -> Cell:
    """Find the cell in an image and crop to it.

    Parameters
    ----------
    rgb : uint8 (H, W, 3).
    mask_image : the user's mask, as ``read_mask`` gives it or as uint8 (H, W): 0 background, 128 cytoplasm, 255 nucleus
        (or 0, 1, 2). A mask of two values only is taken as the whole cell, and the nucleus is then found inside it.
        None: the cell is whatever is not black on a black background, else what segmentation finds.
    um_per_px : micrometres per pixel, carried along.
    red_cells : measure the red cells of the whole image too, before it is cropped.

    Raises
    ------
    CellError : all black, no cell found, or a mask of another size or without any cell pixel.
    MaskError : a mask whose values can be read in more than one way.
    """
    if mask_image is None:
        mask = _found_cell(rgb)
        nucleus = segment.segment_nucleus(rgb, mask)
    else:
        drawn = fit_mask(mask_image, rgb)
        mask = drawn.cell
        nucleus = segment.segment_nucleus(rgb, mask) if drawn.nucleus is None else drawn.nucleus
    widths = red_blood_cells.whole_red_cells(rgb, mask)[:, 2].tolist() if red_cells else None
    rows, columns = _window(mask)
    return Cell(
        rgb=np.ascontiguousarray(rgb[rows, columns]),
        mask=np.ascontiguousarray(mask[rows, columns]),
        nucleus=np.ascontiguousarray(nucleus[rows, columns]),
        origin=(rows.start, columns.start),
        um_per_px=um_per_px,
        red_cells=None if widths is None else tuple(widths),
    )


def _found_cell(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    mask = segment.segment_cell(rgb)
    if mask.any():
        return mask
    if not rgb.any():
        raise CellError("the image is fully black: there is no cell in it")
    raise CellError("no cell found in the image", do="Give a mask for it, or leave it out.")


def fit_mask(mask_image: NDArray[np.uint8] | GivenMask, rgb: NDArray[np.uint8]) -> GivenMask:
    """The given mask, if it is one of this image and the image shows something in it.

    Raises
    ------
    CellError : it has another size, or the image is all black or all white in it.
    MaskError : its values can be read in more than one way.
    """
    shape = mask_image.cell.shape if isinstance(mask_image, GivenMask) else mask_image.shape
    if shape != rgb.shape[:2]:
        raise CellError(
            "the mask has another size than its image",
            found=f"mask {shape[1]}x{shape[0]}, image {rgb.shape[1]}x{rgb.shape[0]}",
        )
    drawn = mask_image if isinstance(mask_image, GivenMask) else given_mask(mask_image)
    # Where the mean is neither, there is a pixel that is not black, and one that is not white: no need to look at all.
    if segment.BLACK < sum(cv2.mean(rgb, drawn.cell.view(np.uint8))) < 3 * 255 - segment.BLACK:
        return drawn
    brightness = rgb[drawn.cell].sum(axis=1, dtype=np.uint16)
    if brightness.max() < segment.BLACK:
        raise CellError("the image is fully black inside the mask", found=_brightest(rgb))
    if brightness.min() > 3 * 255 - segment.BLACK:
        raise CellError("the image is fully white inside the mask")
    return drawn


def _brightest(rgb: NDArray[np.uint8]) -> str:
    """Why an image that shows something elsewhere may be black: 8 or 12 bits stored in 16 are."""
    return f"its brightest value is {rgb.max()} of 255; of 16 bits the upper 8 are measured"


def _window(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The bounding box of ``mask`` plus the margin, clipped to the image."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return (
        slice(max(0, y - MARGIN), min(mask.shape[0], y + height + MARGIN)),
        slice(max(0, x - MARGIN), min(mask.shape[1], x + width + MARGIN)),
    )


def read_cell(
    path: Path, mask_path: Path | None = None, um_per_px: float | None = None, mask_levels: str | None = None
) -> Cell:
    """Read an image, and its mask if there is one, and crop to the cell.

    Raises
    ------
    CellError : unreadable, truncated, or without a measurable cell (see ``make_cell``).
    """
    rgb = decode_image(read_bytes(path))
    mask = None if mask_path is None else read_mask(read_bytes(mask_path), mask_levels, mask_path.name)
    return make_cell(rgb, mask, um_per_px)
