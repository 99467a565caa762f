"""Grey values as classes: Otsu's thresholds for two and for three, and how well two classes part."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Values = NDArray[np.float32]


def to_bytes(values: Values, low: float, high: float) -> Image:
    """``low`` ... ``high`` stretched to 0 ... 255, the rest cut off."""
    return np.clip((values - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)


def quantiles(image: Image, share: float, where: Image | None = None) -> NDArray[np.float64]:
    """(channels,) the lowest tone that at least this share of the pixels does not exceed, from histograms.

    ``where``: uint8 (H, W), not 0 where pixels count; None counts all.
    """
    channels = 1 if image.ndim == 2 else image.shape[2]
    counts = [cv2.calcHist([image], [channel], where, [256], [0, 256]).ravel() for channel in range(channels)]
    return np.array([np.searchsorted(count, share * count[-1]) for count in np.cumsum(counts, axis=1)], float)


def percentile(values: Values, share: float) -> float:
    """The value that this share of float32 (n,) does not exceed, as ``np.percentile`` has it to the last bit.

    Between two values it is on the line through them. NumPy's takes four times as long to find out what it was given.
    """
    at = (len(values) - 1) * share
    below = int(at)
    if below + 1 >= len(values):
        return float(values.max())
    parted = np.partition(values, (below, below + 1))
    low, high, along = parted[below], parted[below + 1], at - below
    # In float32, from the nearer end.
    step = high - low
    return float(high - step * np.float32(1 - along)) if along >= 0.5 else float(low + step * np.float32(along))


def median(values: NDArray[np.float32] | Image) -> np.floating:
    """The middle of (n,) values, as ``np.median`` has it to the last bit."""
    half = len(values) // 2
    low, high = np.partition(values, (max(0, half - 1), half))[[max(0, half - 1), half]]
    if values.dtype == np.float32:  # of which the sum is one, too
        return np.float32(high if len(values) % 2 else (low + high) / np.float32(2))
    return np.float64(high if len(values) % 2 else (int(low) + int(high)) / 2)


def two_classes(histogram: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Otsu's threshold (the last dark level) and his separability, the share of variance between classes, 0 to 1.

    ``histogram``: (..., n) counts per level, not all 0; several are done in the time of one.

    Returns
    -------
    thresholds : intp (...), the level itself where there is one only.
    separabilities : float64 (...), 0 where there is one level only.

    Source: Otsu (1979), IEEE Trans. SMC 9(1):62-66.
    """
    levels = np.arange(histogram.shape[-1])
    below = np.cumsum(histogram, axis=-1)
    pixels = below[..., -1:]
    share, moment = below / pixels, np.cumsum(histogram * levels, axis=-1) / pixels
    mean = moment[..., -1:]
    variance = (histogram * (levels - mean) ** 2).sum(axis=-1) / pixels[..., 0]
    # Between-class variance w0 w1 (m0 - m1)**2 = (mean w0 - m0 w0)**2 / (w0 w1), of every split that leaves two.
    between = ((mean * share - moment) ** 2 / np.maximum(share * (1 - share), 1e-12))[..., :-1]
    threshold = np.where(variance > 0, between.argmax(axis=-1), mean[..., 0].astype(np.intp))
    return threshold, between.max(axis=-1) / np.where(variance > 0, variance, np.inf)


def median_level(histogram: NDArray[np.float64]) -> int:
    """The lowest level that half of the counts do not exceed."""
    below = np.cumsum(histogram)
    return int(np.searchsorted(below, below[-1] / 2))


def counts(tones: Image) -> NDArray[np.float64]:
    """(256,) how often each tone occurs."""
    return np.bincount(tones.ravel(), minlength=256).astype(float)


def three_classes(tones: Image) -> tuple[int, int]:
    """Otsu's two thresholds for three classes, each the last tone of its class."""
    # 64 levels of four tones are finer than any threshold needs to be, and a sixteenth of the work of 256.
    histogram = cv2.calcHist([tones], [0], None, [64], [0, 256]).ravel().astype(float)
    count = np.concatenate([[0.0], np.cumsum(histogram)])
    total = np.concatenate([[0.0], np.cumsum(histogram * np.arange(64))])
    # Squared sum over count of the class of levels first ... last - 1, for every first and last.
    counts, totals = np.subtract.outer(count, count).T, np.subtract.outer(total, total).T
    score = totals * totals / np.maximum(counts, 1)
    score[_LAST_BEFORE_FIRST] = -np.inf
    of_pair = score + score[0][:, None] + score[:, 64]
    first, second = np.unravel_index(of_pair.argmax(), of_pair.shape)
    return 4 * int(first) - 1, 4 * int(second) - 1


_LAST_BEFORE_FIRST = np.tril_indices(65, -1)
