"""Kernel SVMs with calibrated probabilities: ours, an earlier version of ours, and scikit-learn's own, in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.svm --cells 2000 --before CHECKOUT

Each contestant fits on the same cells (five folds of the calibration and one SVM of all) and predicts 2,000 others, in
a process of its own. Processor seconds, which other work on the machine lengthens little, and peak memory.
``--one-fit`` has scikit-learn fit one SVM of all cells, where six would take an hour, and scales its seconds by 4.2:
five fits of four fifths of the cells, at the square of their number, and one of all.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What six fits take, in fits of all cells.
SIX = 1 + 5 * 0.8**2

#: As ``classifiers.svm`` has it.
C, FOLDS = 10.0, 5

_HELD = 2000


def cells(count: int, columns: int) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Standardised features with 60 directions in common, two classes that overlap, and subjects of 70 cells."""
    draw = np.random.default_rng(0)
    total = count + _HELD
    y = np.arange(total) // 70 % 2
    X = draw.normal(size=(total, 60)) @ draw.normal(size=(60, columns)) / 8 + draw.normal(size=(total, columns))
    X[:, :60] += 0.25 * y[:, None]
    return (X - X.mean(axis=0)) / X.std(axis=0), y, np.arange(total) // 70


def contest(name: str, count: int, columns: int, file: Path) -> None:
    """Fit and predict as one contestant; seconds, memory and probabilities go into ``file``."""
    X, y, groups = cells(count, columns)
    train, held = slice(0, count), slice(count, None)
    if name == "scikit-learn":
        model: Any = scikit_learns(y[train], groups[train])
    elif name == "scikit-learn, one fit":
        from sklearn.svm import SVC

        model = SVC(C=C)
    else:
        from classifiers.svm import SupportVectorClassifier

        model = SupportVectorClassifier(gamma="scale")  # as all contestants have it
    begin = time.process_time()
    if name.startswith("scikit-learn"):
        from classifiers.class_weights import balanced_weights

        model.fit(X[train], y[train], sample_weight=balanced_weights(y[train]))
    else:
        model.fit(X[train], y[train], groups[train])
    fitted = time.process_time()
    # A single SVM has no probabilities: its class is that of the sign, and it is not compared.
    proba = model.predict_proba(X[held]) if hasattr(model, "predict_proba") else model.decision_function(X[held])
    asked = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    np.savez(file, seconds=[fitted - begin, asked - fitted], peak=peak, proba=proba)


def scikit_learns(y: NDArray[np.intp], groups: NDArray[np.intp]) -> Any:
    """``CalibratedClassifierCV(SVC())`` on the folds that ours has."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    from classifiers.class_weights import inner_folds

    return CalibratedClassifierCV(SVC(C=C), ensemble=False, cv=inner_folds(y, groups, FOLDS, 0))


def measured(name: str, count: int, columns: int, source: Path) -> dict[str, NDArray[Any]]:
    """A contestant's seconds, memory and probabilities, from a process of its own in this checkout."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.npz"
        words = [sys.executable, __file__, "--contestant", name, "--file", file, "--cells", count, "--columns", columns]
        environment = {**os.environ, "PYTHONPATH": str(source)}
        subprocess.run([str(word) for word in words], check=True, cwd=source, env=environment)
        with np.load(file) as found:
            return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--columns", type=int, default=2699)
    parser.add_argument("--before", type=Path, help="checkout of an earlier version")
    parser.add_argument("--one-fit", action="store_true", help="scikit-learn fits a single SVM")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contestant:
        contest(given.contestant, given.cells, given.columns, given.file)
        return
    here = Path(__file__).parents[1]
    rows = [("ours", here), ("scikit-learn, one fit" if given.one_fit else "scikit-learn", here)]
    rows += [("before", given.before.resolve())] if given.before else []
    print("| contestant | fit, s | predict 2,000, s | times ours | peak, GB | classes that differ |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    ours = None
    for name, source in rows:
        found = measured(name, given.cells, given.columns, source)
        ours = found if ours is None else ours
        seconds = found["seconds"] * np.array([SIX if "one fit" in name else 1.0, 1.0])
        times = " and ".join(f"{value:.1f}" for value in seconds / ours["seconds"])
        proba = found["proba"]
        other = f"{(proba.argmax(axis=1) != ours['proba'].argmax(axis=1)).sum()}" if proba.ndim == 2 else ""
        about = f"{name}, x {SIX:.1f}" if "one fit" in name else name
        print(
            f"| {about} | {seconds[0]:.1f} | {seconds[1]:.2f} | {times} | {found['peak']:.1f} | {other} |", flush=True
        )


if __name__ == "__main__":
    main()
