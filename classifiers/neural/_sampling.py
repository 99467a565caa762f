"""Which cells a network sees, in which order, and which are kept back to say when to stop."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.class_weights import inner_folds

SAMPLINGS = ("oversample", "natural")


def epoch_order(codes: NDArray[np.intp], sampling: str, seed: int, epoch: int) -> NDArray[np.intp]:
    """Row numbers in the order of one epoch; a function of seed and epoch alone.

    "oversample" repeats cells of the rarer classes, each as often as any other or once more, until every class is as
    large as the largest. "natural" takes every cell once.
    """
    draw = np.random.default_rng([seed, epoch])
    if sampling == "natural":
        return draw.permutation(len(codes))
    largest = int(np.bincount(codes).max())
    parts = []
    for code in np.unique(codes):
        own = np.flatnonzero(codes == code)
        whole, rest = divmod(largest, len(own))
        parts += [np.tile(own, whole), draw.permutation(own)[:rest]]
    return draw.permutation(np.concatenate(parts))


def batches(order: NDArray[np.intp], size: int, least: int = 2) -> Iterator[NDArray[np.intp]]:
    """Parts of ``order``; a last one of fewer than ``least`` joins its neighbour: batch norm has no spread of one."""
    starts = list(range(0, len(order), size))
    if len(starts) > 1 and len(order) - starts[-1] < least:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        yield order[start:stop]


def count_batches(rows: int, size: int, least: int = 2) -> int:
    """How many parts ``batches`` makes."""
    return max(1, -(-rows // size) - (rows > size and 0 < rows % size < least))


def keep_back(
    codes: NDArray[np.intp], groups: ArrayLike | None, share: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(training rows, validation rows): about ``share`` of the cells, whole groups, every class on both sides.

    No validation rows where that cannot be had: a class of a single group can be kept back only by tearing it apart,
    and a part torn apart says nothing about new subjects.
    """
    everything = np.arange(len(codes))
    nothing = np.empty(0, np.intp)
    if not share:
        return everything, nothing
    try:
        train, held = inner_folds(codes, groups, max(2, round(1 / share)), seed)[0]
    except ValueError:  # a class of a single cell
        return everything, nothing
    ids = everything if groups is None else np.asarray(groups)
    is_torn = np.intersect1d(ids[train], ids[held]).size > 0
    is_whole = all(len(np.unique(codes[rows])) == len(np.unique(codes)) for rows in (train, held))
    return (everything, nothing) if is_torn or not is_whole else (train, held)
