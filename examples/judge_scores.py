"""Scores of another framework, judged by Fusion: scikit-learn alone computes and writes them.

    python examples/judge_scores.py cells.csv scores.csv
    fusion judge scores.csv --positive all -o judged

``cells.csv`` has a row a cell: columns subject and label (all, hem), and features, all columns of numbers. Nothing here
imports Fusion: any program that writes such a table can be judged.
"""

import sys

import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

#: What is known of a cell beside its features.
HEAD = ["name", "key", "label", "subject", "source", "group", "fold"]

MODELS = {
    "logistic regression": make_pipeline(
        SimpleImputer(), StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=5000)
    ),
    "random forest": make_pipeline(
        SimpleImputer(), RandomForestClassifier(50, class_weight="balanced", random_state=0)
    ),
}


def score(cells: pd.DataFrame, positive: str, folds: int = 4, repeats: int = 2) -> pd.DataFrame:
    """Held-out scores of every model: a row for each model, repeat and cell."""
    X, y = cells.drop(columns=HEAD, errors="ignore"), cells["label"]
    # Subjects that share an image must stay together: the table's group, where it has one.
    groups = cells["group"] if "group" in cells else cells["subject"]
    rows = []
    for repeat in range(repeats):
        deal = StratifiedGroupKFold(folds, shuffle=True, random_state=repeat)
        for fold, (train, test) in enumerate(deal.split(X, y, groups)):
            for name, model in MODELS.items():
                fitted = model.fit(X.iloc[train], y.iloc[train])
                proba = fitted.predict_proba(X.iloc[test])[:, list(fitted.classes_).index(positive)]
                known = cells.iloc[test][[column for column in ("subject", "group", "label") if column in cells]]
                rows.append(known.assign(entry=name, repeat=repeat, fold=fold, cell=test, score=proba))
    return pd.concat(rows)


if __name__ == "__main__":
    score(pd.read_csv(sys.argv[1]), positive="all").to_csv(sys.argv[2], index=False)
