"""What sharing distances saves: all RBF-kernel SVMs of an ablation, against the loop that everyone writes.

    OMP_NUM_THREADS=1 python -m benchmarks.ablation              # the size of C-NMC 2019: hours, nearly all in the loop
    OMP_NUM_THREADS=1 python -m benchmarks.ablation --cells 2000 --folds 1

Both sides get the same cells, folds, fusion layer, C and gamma, on one thread, in one process, one after the other for
each fold: for every set of blocks, fit an RBF-kernel SVM on the training part and predict the test part. The loop is
scikit-learn's SVC on the fused matrix.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from fusion.analysis.block_subsets import block_subsets
from fusion.feature_transforms.fusion_layer import FusionLayer
from fusion.leakage.grouped_splits import grouped_folds
from fusion.learning.shared_distances import SharedDistances

#: Columns of the four blocks: a network's, and 250 measured ones.
BLOCKS = {"cnn": 1536, "texture": 150, "colour": 60, "morphology": 40}

SUBJECTS, C = 73, 10.0


@dataclass(frozen=True)
class Outcome:
    """Seconds of both sides, predictions that differ of all calls, and the peak memory of sharing in bytes."""

    shared: float
    loop: float
    fits: int
    differ: int
    calls: int
    peak: int


def matrix(cells: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]]:
    """float32 (cells, 1786) with class and subject effects in a tenth of the columns, labels, and subjects."""
    rng = np.random.default_rng(seed)
    subjects = np.sort(rng.integers(SUBJECTS, size=cells))
    y = subjects % 2
    width = sum(BLOCKS.values())
    informative = rng.random(width) < 0.1
    X = rng.normal(size=(cells, width)) + rng.normal(0, 0.3, (SUBJECTS, width))[subjects]
    X += np.where(informative, rng.normal(0, 0.25, width), 0) * (2 * y - 1)[:, None]
    return X.astype(np.float32), y, subjects


def measure(cells: int, folds: int, subsets: int | None = None) -> Outcome:
    """Run both sides on ``folds`` of three folds, and on the first or last ``subsets`` sets of blocks alternately."""
    X, y, subjects = matrix(cells)
    edges = np.cumsum([0, *BLOCKS.values()])
    blocks = {name: slice(edges[at], edges[at + 1]) for at, name in enumerate(BLOCKS)}
    chosen = block_subsets(list(blocks))[:subsets]
    shared = loop = 0.0
    differ = calls = peak = 0
    with threadpool_limits(1):
        for split in grouped_folds(y, subjects, 3)[:folds]:
            start = time.perf_counter()
            one_pass = with_shared_distances(X, y, blocks, chosen, split.train, split.test)
            shared += time.perf_counter() - start
            peak = max(peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            print(f"shared: {len(chosen)} fits in {time.perf_counter() - start:.1f} s", flush=True)
            for names, predicted in zip(chosen, one_pass, strict=True):
                start = time.perf_counter()
                expected = by_loop(X, y, blocks, names, split.train, split.test)
                seconds = time.perf_counter() - start
                loop += seconds
                differ += int((expected != predicted).sum())
                calls += len(expected)
                print(f"loop: {'+'.join(names)} in {seconds:.1f} s", flush=True)
    return Outcome(shared, loop, len(chosen) * folds, differ, calls, peak)


def with_shared_distances(
    X: NDArray[np.float32],
    y: NDArray[np.intp],
    blocks: dict[str, slice],
    subsets: list[tuple[str, ...]],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
) -> list[NDArray[np.intp]]:
    """Calls for the test part, one array a set of blocks."""
    shared = SharedDistances(X, blocks, train, test, {})
    everyone = np.arange(len(train))
    predicted = []
    for names in subsets:
        distances = shared.of(names)
        gamma = distances.gamma("scale", everyone)
        svm_model = SVC(C=C, kernel="precomputed").fit(distances.kernel(gamma, everyone, everyone), y[train])
        predicted.append(svm_model.predict(distances.kernel(gamma, shared.test_rows, everyone)))
    return predicted


def by_loop(
    X: NDArray[np.float32],
    y: NDArray[np.intp],
    blocks: dict[str, slice],
    names: tuple[str, ...],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
) -> NDArray[np.intp]:
    """Calls for the test part of one set of blocks, as one would write it."""
    at = np.concatenate([np.arange(X.shape[1])[blocks[name]] for name in names])
    widths = np.cumsum([0, *(blocks[name].stop - blocks[name].start for name in names)])
    columns = {name: list(range(widths[i], widths[i + 1])) for i, name in enumerate(names)}
    layer = FusionLayer(blocks=columns)
    svm_model = SVC(C=C, kernel="rbf", gamma="scale").fit(layer.fit_transform(X[np.ix_(train, at)]), y[train])
    return svm_model.predict(layer.transform(X[np.ix_(test, at)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=10_661)
    parser.add_argument("--folds", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--subsets", type=int, default=None, help="only the first so many sets of blocks")
    asked = parser.parse_args()
    found = measure(asked.cells, asked.folds, asked.subsets)
    print(
        f"{asked.cells} cells, {found.fits} fits: shared {found.shared:.0f} s (peak {found.peak / 1e9:.1f} GB), "
        f"loop {found.loop:.0f} s, {found.loop / found.shared:.1f} times faster; "
        f"{found.differ} of {found.calls} predictions differ"
    )


if __name__ == "__main__":
    main()
