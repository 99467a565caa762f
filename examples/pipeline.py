"""The fusion layer in a scikit-learn pipeline: choose PCA, block weights and C by folds of whole groups.

    fusion extract DATA --features morphology,colour --export cells.parquet
    python examples/pipeline.py cells.parquet

The choice is made inside each outer training part, so the figure that is printed is of subjects that had no say in it.
"""

import sys

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline

from fusion import FusionLayer

#: What an exported table says of a cell, before its features.
HEAD = ["name", "key", "label", "subject", "group", "fold"]

GRID = {
    "fuse__pca": [None, 0.95],
    "fuse__weights": ["equal", "none"],
    "classify__C": [0.03, 0.3],
}


def search(folds: int = 2) -> GridSearchCV:
    """Fusion layer and logistic regression, and what is chosen for them by ``folds`` folds of whole groups."""
    pipeline = Pipeline(
        [
            # Blocks are read from the columns' names: texture.glcm_contrast belongs to block texture.
            ("fuse", FusionLayer()),
            ("classify", LogisticRegression(class_weight="balanced", max_iter=5000)),
        ]
    )
    return GridSearchCV(pipeline, GRID, scoring="balanced_accuracy", cv=StratifiedGroupKFold(folds))


def judge(table: pd.DataFrame, folds: int = 3) -> list[tuple[float, dict]]:
    """For each outer fold the balanced accuracy on its groups, and the parameters its training part chose.

    ``table`` is one that ``fusion extract --export`` wrote. Its column ``group`` says what must stay on one side: a
    subject, or several subjects that share an image. NaN may stay: the layer fills it, by the training part alone.
    """
    X, y, groups = table.drop(columns=HEAD), table["label"], table["group"]
    found = []
    for train, test in StratifiedGroupKFold(folds).split(X, y, groups):
        chosen = search().fit(X.iloc[train], y.iloc[train], groups=groups.iloc[train])
        score = balanced_accuracy_score(y.iloc[test], chosen.predict(X.iloc[test]))
        found.append((score, chosen.best_params_))
    return found


if __name__ == "__main__":
    outcomes = judge(pd.read_parquet(sys.argv[1]))
    for score, chosen in outcomes:
        print(f"balanced accuracy {score:.3f} with {chosen}")
    print(f"mean {sum(score for score, _ in outcomes) / len(outcomes):.3f}")
