"""Groups that must stay together: samples that share a subject, an image or another id, directly or through others."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.data.subjects import Identity, format_subject


def merge_groups(
    subjects: Sequence[Identity | None] | None,
    keys: Sequence[str],
    *groups: Sequence[Hashable | None] | None,
) -> NDArray[np.intp]:
    """Number the sets of samples that share a subject, an image or a group, directly or through others.

    Parameters
    ----------
    subjects : n subjects (see ``fusion.data.subjects.identities``), compared letter by letter ("h3" is not "H3"); None
        where unknown. An unknown subject joins nothing.
    keys : n content hashes of the images.
    groups : n ids each of anything else that must stay together, None where there is none.

    Returns
    -------
    intp (n,): 0, 1, ... in the order in which the groups first appear.

    >>> merge_groups(["20", "21", "22"], ["a", "a", "b"])
    array([0, 0, 1])
    """
    columns = [column for column in (subjects, keys, *groups) if column is not None]
    if wrong := [len(column) for column in columns if len(column) != len(keys)]:
        raise ValueError(f"{wrong[0]} ids for {len(keys)} samples")
    return connected(len(keys), [pair for column in columns for pair in _neighbours(column)])


def merged_subjects(subjects: Sequence[Identity | None], keys: Sequence[str]) -> list[list[str]]:
    """Subjects that share an image, directly or through others: sets of two or more, in order of appearance."""
    members: dict[int, dict[str, None]] = {}
    for group, subject in zip(merge_groups(subjects, keys), subjects, strict=True):
        if subject is not None:
            members.setdefault(int(group), {})[format_subject(subject)] = None
    return [list(ids) for ids in members.values() if len(ids) > 1]


def connected(n: int, pairs: ArrayLike) -> NDArray[np.intp]:
    """Number the sets of n items that pairs join, directly or through others.

    Parameters
    ----------
    pairs : integers (m, 2), positions of items that belong together.

    Returns
    -------
    intp (n,): 0, 1, ... in the order in which the sets first appear.

    >>> connected(4, [(3, 1), (1, 3), (2, 2)])
    array([0, 1, 2, 1])
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = np.asarray(pairs, np.intp).reshape(-1, 2).T
    labels = connected_components(coo_array((np.ones(len(one), bool), (one, other)), shape=(n, n)), directed=False)[1]
    # SciPy promises no order of its numbers.
    _, first, of = np.unique(labels, return_index=True, return_inverse=True)
    return np.unique(first[of], return_inverse=True)[1].astype(np.intp)


def _neighbours(ids: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """(first row of that id, row) for every row with an id."""
    first: dict[Hashable, int] = {}
    for at, value in enumerate(ids):
        if value is not None:
            yield first.setdefault(value, at), at
