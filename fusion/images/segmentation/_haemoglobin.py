"""Where a field has the colour of red cells, whatever the stain: haemoglobin takes nearly as much blue as green.

Azure and eosin let more blue pass than green, so that the ratio of the two optical densities parts a cytoplasm from a
red cell that is as dark. What the ratio is of either depends on stain and camera: both are learnt from the image, and
nothing is said where it does not show two.
"""

from __future__ import annotations

import cv2
import numpy as np

from fusion.images.segmentation._mask_geometry import Image, Mask, opened, radius_of
from fusion.images.segmentation._otsu import Values, percentile, two_classes

# Ratios, each cut into 256 levels. What takes more blue than that is no stain.
_HIGHEST = 1.5

# Two ratios that lie nearer are one, and what takes half as much blue as green, or more, is nobody's cytoplasm where
# red cells take more: in 300 images of a stain without that contrast one passes.
_GAP, _RATIO, _CYTOPLASM = 0.12, 1.75, 0.5

# Ring around the nucleus that is cytoplasm if anything is, in nuclear radii, and where a cell seldom reaches.
_NEAR, _FAR = (0.1, 0.4), 1.2

# Share of the ring that red cells may cover, share of the stained pixels far out that they should, and how many times
# as dense as three quarters of these a red cell may be.
_MOST_NEAR, _LEAST_FAR, _DARKER = 0.3, 0.4, 1.7

# Nuclei of red cells far out, of which the hue is learnt.
_LEAST_RED = 0.02

# What is narrower than twice as many nuclear radii is a rim whose colour JPEG has smeared.
_RIM = 0.1


def red_cells(smooth: Image, white: Values, nucleus: Mask, faint: float) -> Mask | None:
    """bool (H, W): stained pixels of the hue of red cells; None where the image does not show that hue.

    Parameters
    ----------
    smooth : uint8 (H, W, 3), blurred.
    white : float32 (3,), the colour of the slide.
    nucleus : bool (H, W), of the white cell, not empty.
    faint : the stain below which there is slide.
    """
    half = smooth.shape[1] // 2, smooth.shape[0] // 2
    if min(half) < 8:
        return None
    small = np.asarray(cv2.resize(smooth, half, interpolation=cv2.INTER_LINEAR), np.uint8)
    radius = radius_of(np.count_nonzero(nucleus)) / 2
    green, blue = (_density(small, channel, white) for channel in (1, 2))
    distance = cv2.distanceTransform(1 - cv2.resize(nucleus.view(np.uint8), half), cv2.DIST_L2, 3)
    # The optical density of a stain; noise alone makes the hue of what is paler.
    stained = (green > max(faint, 0.12)) & (distance > _NEAR[0] * radius)
    levels = np.minimum(blue / np.maximum(green, 1e-3) * (255 / _HIGHEST), 255).astype(np.uint8)
    histogram = cv2.calcHist([levels], [0], stained.view(np.uint8), [256], [0, 256]).ravel().astype(float)
    if histogram.sum() < 50:
        return None
    split = int(two_classes(histogram)[0])
    below = np.cumsum(histogram)
    if below[split] == below[-1]:
        return None
    low = int(np.searchsorted(below, below[split] / 2))
    high = int(np.searchsorted(below, (below[split] + below[-1]) / 2))
    if high < _RATIO * low or high - low < _GAP * 255 / _HIGHEST or low > _CYTOPLASM * 255 / _HIGHEST:
        return None
    red = stained & (levels > (low + high) / 2)
    far = distance > _FAR * radius
    if np.count_nonzero(red & far) < max(_LEAST_FAR * np.count_nonzero(stained & far), _LEAST_RED * np.pi * radius**2):
        return None
    # Granules of eosinophils come near the hue, and are darker.
    red = opened(red & (green < _DARKER * percentile(green[red & far], 0.75)), _RIM * radius)
    ring = (distance > _NEAR[0] * radius) & (distance < _NEAR[1] * radius)
    if np.count_nonzero(red & ring) > _MOST_NEAR * np.count_nonzero(ring):
        return None
    return cv2.resize(red.view(np.uint8), smooth.shape[1::-1], interpolation=cv2.INTER_NEAREST).view(bool)


def _density(rgb: Image, channel: int, white: Values) -> Values:
    """float32 (H, W): optical density against the slide, 0 to 4."""
    table = -np.log(np.clip(np.arange(256, dtype=np.float32) / white[channel], 0.02, 1))
    return np.asarray(cv2.LUT(cv2.extractChannel(rgb, channel), table), np.float32)
