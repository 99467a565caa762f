"""Subject by subject: the cells of a subject pooled without a look at their labels.

Whoever judges a subject does not know what its cells are: a pool of "the leukaemic cells of subject 7" is a figure that
nobody can reach. So all cells of a subject are pooled, and what the subject is must be one thing: the class of all of
its cells, or a label of its own. Where subjects hold cells of several classes and have no label of their own, nothing
is said of subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SubjectRows:
    """One row a subject (and repeat): m rows.

    Attributes
    ----------
    labels : m labels.
    first : intp (m,), a row of the cells that is of this subject, by which its group and repeat are known.
    means : float64 (m, K), mean scores of its cells.
    votes : float64 (m, K), share of its cells predicted as each class; equal shares are distinguished by the mean
        score: a billionth of it is added, less than any difference of shares.
    threshold : float64 (m,), mean threshold of its cells, None where there is none.
    costs : float64 (m, K), mean expected cost over its cells of predicting each class, None where there is none. Of two
        classes that is the rule of the mean threshold.
    """

    labels: NDArray[Any]
    first: NDArray[np.intp]
    means: _Floats
    votes: _Floats
    threshold: _Floats | None
    costs: _Floats | None


def pool_subjects(
    labels: ArrayLike,
    scores: _Floats,
    subjects: ArrayLike,
    predicted: NDArray[np.intp],
    threshold: _Floats | None = None,
    costs: _Floats | None = None,
) -> SubjectRows:
    """Pool the cells of each subject, ordered by subject.

    Parameters
    ----------
    labels : n labels, the same for all cells of a subject; see ``label_of_subjects``.
    scores : float64 (n, K).
    subjects : n numbers of what is pooled.
    predicted : intp (n,), the column of each cell's predicted class.
    threshold : float64 (n,).
    costs : float64 (n, K).

    >>> pool_subjects(["a", "a", "b"], np.array([[1.0, 0], [0.5, 0.5], [0, 1]]), [7, 7, 3], np.array([0, 0, 1])).means
    array([[0.  , 1.  ],
           [0.75, 0.25]])
    """
    numbers, first, row = np.unique(np.asarray(subjects), return_index=True, return_inverse=True)
    count = np.bincount(row, minlength=len(numbers))[:, None]

    def mean(columns: _Floats) -> _Floats:
        return np.column_stack([np.bincount(row, column, len(numbers)) for column in columns.T]) / count

    means, shares = mean(scores), mean(np.eye(scores.shape[1])[predicted])
    votes = (shares + 1e-9 * means) / (1 + 1e-9 * means.sum(axis=1, keepdims=True))
    limit = None if threshold is None else mean(threshold[:, None])[:, 0]
    names = np.asarray(labels, object).astype(str)[first]
    return SubjectRows(names, first, means, votes, limit, None if costs is None else mean(costs))


def label_of_subjects(
    labels: ArrayLike, subjects: ArrayLike, subject_labels: Sequence[str | None] | None = None
) -> tuple[NDArray[Any] | None, str]:
    """What each cell's subject is, and, where that is unknown, why.

    Parameters
    ----------
    labels : n labels of cells.
    subjects : n numbers.
    subject_labels : n labels of the cells' subjects, where they have labels of their own.

    Returns
    -------
    n labels and "", or None and the reason.

    >>> label_of_subjects(["a", "b", "b"], [0, 0, 1])
    (None, '1 of 2 subjects holds cells of several classes')
    """
    ids = np.unique(np.asarray(subjects), return_inverse=True)[1]
    count = int(ids.max(initial=-1)) + 1
    if subject_labels is not None:
        if missing := len({int(at) for at, label in zip(ids, subject_labels, strict=True) if label is None}):
            return None, f"{missing} of {count} subjects {'has' if missing == 1 else 'have'} no label of their own"
        own = np.asarray(subject_labels, object).astype(str)
        what = "label of their own"
    else:
        own, what = np.asarray(labels, object).astype(str), "class"
    codes = np.unique(own, return_inverse=True)[1]
    pairs = np.unique(ids * (int(codes.max(initial=0)) + 1) + codes)
    several = int((np.bincount(pairs // (int(codes.max(initial=0)) + 1), minlength=count) > 1).sum())
    if not several:
        return own, ""
    if what == "class":
        return None, f"{several} of {count} subjects {'holds' if several == 1 else 'hold'} cells of several classes"
    return None, f"{several} of {count} subjects {'has' if several == 1 else 'have'} several labels of their own"
