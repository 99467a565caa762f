"""Masks as shapes: the largest region, holes filled, a disc, a polygon."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def radius_of(area: float | np.integer) -> float:
    """Of the disc of that area."""
    return float(np.sqrt(area / np.pi))


def disc(radius: int) -> Image:
    """uint8 (2 radius + 1, 2 radius + 1): the structuring element."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def centroid(mask: Mask) -> tuple[float, float]:
    """(x, y) of a mask that is not empty."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    moments = cv2.moments(mask[y : y + height, x : x + width].view(np.uint8), binaryImage=True)
    area = moments["m00"]
    # Sums of whole numbers, exact wherever they are counted from.
    return (moments["m10"] + x * area) / area, (moments["m01"] + y * area) / area


def around_box(mask: Mask, reach: float) -> tuple[slice, slice]:
    """Rows and columns of all pixels that lie within ``reach`` of a mask, and more: of a mask that is not empty."""
    margin = int(reach) + 2
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return slice(max(0, y - margin), y + height + margin), slice(max(0, x - margin), x + width + margin)


def polygon(points: NDArray[np.float64], shape: tuple[int, ...]) -> Mask:
    """bool ``shape``: the inside of a closed curve (n, 2) of x, y."""
    mask = np.zeros(shape, np.uint8)
    # Four binary digits behind the point: OpenCV takes whole numbers of sixteenths.
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], [1], shift=4)
    return mask.view(bool)


def solidity(points: NDArray[np.float64]) -> float:
    """Area inside a closed curve over that of its convex hull, 0 to 1; 0 where the hull has none."""
    curve = points.astype(np.float32)
    hull = cv2.contourArea(cv2.convexHull(curve))
    return cv2.contourArea(curve) / hull if hull > 0 else 0.0


def regions(mask: Mask, share: float = 1.0) -> Mask:
    """The regions of at least ``share`` of what all of them cover, and the largest in any case; holes filled.

    Regions are connected over edges and corners. A share of 1 leaves the largest alone.
    """
    kept = np.zeros(mask.shape, np.uint8)
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = np.ascontiguousarray(mask[y : y + height, x : x + width]).view(np.uint8)
    contours, _ = (
        cv2.findContours(window, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(x, y)) if width else ([], None)
    )
    if contours:
        # Pick's theorem: the pixels within a curve through pixel centres, those on it included.
        areas = np.array([cv2.contourArea(contour) + len(contour) / 2 + 1 for contour in contours])
        least = min(share * areas.sum(), areas.max())
        large = [contour for contour, area in zip(contours, areas, strict=True) if area >= least]
        # Two that tie for the largest are not both it.
        cv2.drawContours(kept, large if share < 1 else large[:1], -1, [1], cv2.FILLED)
    return kept.view(bool)


def opened(mask: Mask, radius: float) -> Mask:
    """Without what is narrower than two radii: as far as a disc of that radius reaches inside ``mask``.

    By distances, whose cost does not grow with the disc. Outside the image there is no mask.
    """
    padded = np.pad(mask, 1).view(np.uint8)
    middles = cv2.distanceTransform(padded, cv2.DIST_L2, 5) > radius
    # Distances are those of pixels' centres, and a disc reaches half a pixel beyond its last.
    reached = cv2.distanceTransform((~middles).view(np.uint8), cv2.DIST_L2, 5) <= radius + 0.5
    return (reached & (padded > 0))[1:-1, 1:-1] if middles.any() else np.zeros_like(mask)
