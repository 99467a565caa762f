"""Which head for few labels: nearest neighbours, class means and shrinkage LDA held against our classifiers.

    python -m benchmarks.few_labels ../shared/data/four-types.csv --weights tf_efficientnet_lite0.safetensors

Of every source of the table, k cells a class are drawn to learn from and all others are judged, thirty times by other
draws; a source whose rarest class has no more than k cells is left out. Balanced accuracy, and its difference from
logistic regression on the same draws with the 95% interval of the mean over draws.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifiers.linear import LogisticClassifier
from classifiers.svm import SupportVectorClassifier
from fusion.data.feature_table import FeatureTable
from fusion.feature_transforms.fusion_layer import FusionLayer
from fusion.settings.commands import AblateConfig
from fusion.workflows.loading import Inputs, load_training_cells

_Floats = NDArray[np.float64]

#: Learns from rows and labels, and returns the classes of other rows; these are called heads.
Head = Callable[[_Floats, NDArray, _Floats], NDArray]

HANDCRAFTED = ("morphology", "texture", "colour")

#: Labels of each class, draws, and cells below which an SVM has nothing to hold out for its sigmoid.
LABELS, DRAWS, _LEAST = (1, 5, 20), 30, 2


def normed(X: _Floats) -> _Floats:
    """Rows of length 1."""
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)


def nearest_mean(X: _Floats, y: NDArray, test: _Floats) -> NDArray:
    """The class whose mean row is nearest by cosine: prototypes (Snell et al. 2017, NIPS 30:4077-4087)."""
    classes = np.unique(y)
    means = np.stack([normed(X)[y == label].mean(axis=0) for label in classes])
    return classes[(normed(test) @ normed(means).T).argmax(axis=1)]


def neighbours(count: int) -> Head:
    """Weighted vote of the nearest rows by cosine, as DINO's probe (Caron et al. 2021, ICCV, 9650-9660)."""

    def predict(X: _Floats, y: NDArray, test: _Floats) -> NDArray:
        similar, classes = normed(test) @ normed(X).T, np.unique(y)
        nearest = np.argsort(-similar, axis=1)[:, : min(count, len(X))]
        votes = np.exp(np.take_along_axis(similar, nearest, 1) / 0.07)
        return classes[np.stack([(votes * (y[nearest] == c)).sum(axis=1) for c in classes], axis=1).argmax(axis=1)]

    return predict


def shrinkage_lda(X: _Floats, y: NDArray, test: _Floats) -> NDArray:
    """Linear discriminants of Ledoit and Wolf's covariance, in the space that the training rows span."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    span = PCA(min(len(X) - 1, X.shape[1])).fit(X)
    fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(span.transform(X), y)
    return np.asarray(fitted.predict(span.transform(test)))


HEADS: dict[str, Head] = {
    "logistic regression": lambda X, y, test: LogisticClassifier().fit(X, y).predict(test),
    "SVM": lambda X, y, test: SupportVectorClassifier().fit(X, y, np.arange(len(y))).predict(test),
    "nearest class mean": nearest_mean,
    "1 nearest neighbour": neighbours(1),
    "5 nearest neighbours": neighbours(5),
    "shrinkage LDA": shrinkage_lda,
}


def measure(data: Path, features: list[str], weights: Path, store: Path | None) -> FeatureTable:
    """The blocks of every cell; masks are passed over, so that sources with and without are measured alike."""
    with tempfile.TemporaryDirectory() as folder:
        config = AblateConfig(
            data=data, output=Path(folder) / "out", features=features, weights=str(weights), ignore_columns=["mask"],
            control=["none"], store=store, jobs=1,
        )  # fmt: skip
        return Inputs.of(config).measure(load_training_cells(config), config).study.table


def balanced_accuracy(found: NDArray, truth: NDArray) -> float:
    """The mean over classes of the share that is recognised."""
    return float(np.mean([(found[truth == label] == label).mean() for label in np.unique(truth)]))


def judge(X: _Floats, y: NDArray, blocks: dict[str, list[int]], labels: int) -> dict[str, _Floats]:
    """Balanced accuracy of every head in every draw; none where a class has too few cells."""
    if min(np.unique(y, return_counts=True)[1]) <= labels:
        return {}
    found: dict[str, list[float]] = {}
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        train = np.concatenate([rng.permutation(np.flatnonzero(y == label))[:labels] for label in np.unique(y)])
        test = np.setdiff1d(np.arange(len(y)), train)
        layer = FusionLayer(blocks=blocks).fit(X[train])
        learnt, asked = layer.transform(X[train]), layer.transform(X[test])
        for name, head in HEADS.items():
            if labels >= _LEAST or name not in ("SVM", "shrinkage LDA"):
                found.setdefault(name, []).append(balanced_accuracy(head(learnt, y[train], asked), y[test]))
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    """Measure the cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a table with a column source")
    parser.add_argument("--weights", type=Path, required=True, help="of the block cnn")
    parser.add_argument("--store", type=Path, help="feature store; default that of the commands")
    given = parser.parse_args()
    table = measure(given.data, [*HANDCRAFTED, "cnn"], given.weights, given.store)
    sources, every = np.array([str(source) for source in table.sources]), np.array(table.y, object).astype(str)
    print("| source, features, labels a class | head | balanced accuracy | beside logistic regression |")
    print("| --- | --- | ---: | ---: |")
    for source in np.unique(sources):
        rows = np.flatnonzero(sources == source)
        for chosen in (("cnn",), HANDCRAFTED):
            columns = {name: np.arange(len(table.columns))[table.blocks[name]] for name in chosen}
            X = np.asarray(table.X[rows][:, np.concatenate(list(columns.values()))], np.float64)
            ends = np.cumsum([len(part) for part in columns.values()])
            starts = ends - [len(part) for part in columns.values()]
            blocks = {name: list(range(a, b)) for name, a, b in zip(columns, starts, ends, strict=True)}
            for labels in LABELS:
                found = judge(X, every[rows], blocks, labels)
                for name, values in found.items():
                    gap = values - found["logistic regression"]
                    half = 1.96 * gap.std(ddof=1) / np.sqrt(len(gap))
                    what = f"{source}, {'embedding' if chosen == ('cnn',) else 'handcrafted'}, {labels}"
                    print(f"| {what} | {name} | {values.mean():.3f} | {gap.mean():+.3f} ± {half:.3f} |", flush=True)


if __name__ == "__main__":
    main()
