"""Logistic regression of rows that are read batch by batch: the objective and the solver of scikit-learn, no matrix."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifiers._row_batches import Batched

_Floats = NDArray[np.float64]

#: Rows that are multiplied at a time: of 2,833 columns 46 MB as float64.
_ROWS = 2048

#: What scikit-learn's ``LogisticRegression`` tells the same solver: the largest slope, and what a step brings, with
#: which it stops; and how often it looks for a better length of a step.
_SLOPE, _GAIN, _LENGTHS = 1e-4, 64 * float(np.finfo(float).eps), 50


def fit(
    X: Batched, codes: NDArray[np.intp], weights: _Floats, strength: float, max_iter: int
) -> tuple[_Floats, _Floats, int]:
    """Weights (classes, d), or (1, d) of two classes, intercepts, and steps, as ``LogisticRegression`` has them.

    The sums over rows are taken batch by batch, so that weights agree within the solver's tolerance and not to the bit.
    While it is fitted the rows lie in a file among the system's temporary ones, which each step reads.

    Parameters
    ----------
    X : float32 (n, d).
    codes, weights : intp and float64 (n,): classes from 0 on, and how much each row counts.
    strength, max_iter : ``C`` and ``max_iter`` there.

    Raises
    ------
    ValueError : NaN or inf.
    """
    from scipy.optimize import minimize

    classes, total = int(codes.max()) + 1, float(weights.sum())
    with tempfile.TemporaryDirectory(prefix="fusion-logreg-") as folder:
        rows = _write(X, Path(folder) / "rows")
        targets = np.eye(classes)[codes] if classes > 2 else codes[:, None].astype(np.float64)
        loss = _Loss(rows, X.shape[1], targets, weights / total, 1 / (strength * total))
        found = minimize(
            loss,
            np.zeros(targets.shape[1] * (X.shape[1] + 1)),
            method="L-BFGS-B",
            jac=True,
            options={"maxiter": max_iter, "maxls": _LENGTHS, "gtol": _SLOPE, "ftol": _GAIN},
        )
    both = found.x.reshape(targets.shape[1], -1)
    return both[:, :-1].copy(), both[:, -1].copy(), int(found.nit)


@dataclass(frozen=True, eq=False)
class _Loss:
    """What is made small, and its slopes: the mean cross-entropy of the rows and the penalty of the weights.

    Attributes
    ----------
    rows, columns : the file of float32 (n, d), and d.
    targets : float64 (n, outputs), 1 for the class of an output.
    weights : float64 (n,), 1 in sum.
    penalty : of half the squares of all weights but the intercepts.
    """

    rows: Path
    columns: int
    targets: _Floats
    weights: _Floats
    penalty: float

    def __call__(self, flat: _Floats) -> tuple[float, _Floats]:
        both = flat.reshape(self.targets.shape[1], -1)
        own, intercepts = both[:, :-1], both[:, -1]
        slopes = np.zeros_like(both)
        slopes[:, :-1] = self.penalty * own
        loss, start = self.penalty * float((own**2).sum()) / 2, 0
        for X in _read(self.rows, self.columns):
            part = slice(start, start + len(X))
            start = part.stop
            costs, errors = _cross_entropy(X @ own.T + intercepts, self.targets[part])
            loss += float(self.weights[part] @ costs)
            errors *= self.weights[part, None]
            slopes[:, :-1] += errors.T @ X
            slopes[:, -1] += errors.sum(axis=0)
        return loss, slopes.ravel()


def _cross_entropy(margins: _Floats, targets: _Floats) -> tuple[_Floats, _Floats]:
    """float64 (n,), and its slopes by the margins, (n, outputs); a single output is the logistic function's."""
    if margins.shape[1] == 1:
        costs = np.logaddexp(0, margins) - targets * margins
        return costs[:, 0], 1 / (1 + np.exp(-margins)) - targets
    peaks = margins.max(axis=1, keepdims=True)
    odds = np.exp(margins - peaks)
    sums = odds.sum(axis=1, keepdims=True)
    return (peaks + np.log(sums))[:, 0] - (targets * margins).sum(axis=1), odds / sums - targets


def _write(X: Batched, file: Path) -> Path:
    with file.open("wb") as out:
        for batch in X.batches():
            rows = np.ascontiguousarray(batch, np.float32)
            if not np.isfinite(rows).all():
                raise ValueError("Input X contains NaN or infinity")
            out.write(rows.data)
    return file


def _read(file: Path, columns: int) -> Iterator[_Floats]:
    """float64 (k, d), some rows at a time."""
    with file.open("rb") as rows:
        while len(some := np.fromfile(rows, np.float32, _ROWS * columns)):
            yield some.reshape(-1, columns).astype(np.float64)
