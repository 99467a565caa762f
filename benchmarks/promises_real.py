"""Sets on held-out patients that are put together of real cells, dealt anew many times.

    fusion extract pbc-barcelona/labels.csv --features colour,morphology --export cells.parquet
    .venv/bin/python -m benchmarks.promises_real cells.parquet

Of 60 patients with 30 cells, half of whom have erythroblasts among their cells, 40 give the model and the
thresholds (held out in five folds), and 20 are judged. The features are 40 principal components of all cells.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.promises import held_out, means_of
from fusion.data.feature_table import FeatureTable
from fusion.evaluation.promises.held_out import HeldOut
from fusion.evaluation.scores import Scores
from fusion.synthetic.cells import SyntheticDesign
from fusion.synthetic.constructed_patients import construct_patients

#: Of 60 patients, those that are judged: 10 of each kind.
_JUDGED = 10


def coverage(frame: pd.DataFrame, witness: str, seed: int, level: float = 0.9) -> list[float]:
    """Of witnesses and other cells, and of ill and healthy patients, the share whose set holds their class."""
    labels = frame["label"].astype(str).to_numpy()
    X = frame[[name for name in frame.columns if "." in name]].to_numpy(float)
    design = SyntheticDesign(subjects=60, cells_per_subject=30, witness_rate=0.2, seed=seed)
    found = construct_patients(labels.tolist(), np.arange(len(labels)), [witness], design)
    X, is_witness = X[found.cells], labels[found.cells] == witness
    of_patients = np.array([one.label == witness for one in found.subjects])
    ill, names = of_patients[found.patients], ("other", witness)
    judged = np.concatenate([np.flatnonzero(of_patients)[:_JUDGED], np.flatnonzero(~of_patients)[:_JUDGED]])
    test = np.isin(found.patients, judged)
    who = np.unique(found.patients[~test], return_inverse=True)[1].astype(np.intp)
    y, kind = np.where(is_witness, witness, "other"), np.where(ill, witness, "other")
    classes = sorted(names)
    # Folds deal patients by what they have; models learn what cells are.
    proba, fold = held_out(X[~test], y[~test], who, 5, seed, strata=kind[~test])
    table = FeatureTable.of_cells(np.zeros((len(who), 0), np.float32), [], [f"{at}" for at in range(len(who))])
    table = replace(
        table,
        y=tuple(y[~test].tolist()),
        subjects=tuple(map(str, who.tolist())),
        subjects_known=True,
        groups=who,
        subject_labels=tuple(kind[~test].tolist()),
    )
    own = HeldOut.of(table, Scores(("pca",), "logreg", proba, fold), classes).own_scores(seed)
    new = LogisticRegression(max_iter=1000).fit(X[~test], y[~test]).predict_proba(X[test])
    patients = np.unique(found.patients[test], return_inverse=True)[1].astype(np.intp)
    first = np.unique(patients, return_index=True)[1]
    row = []
    for part, p, true in (("cells", new, y[test]), ("subjects", means_of(new, patients), kind[test][first])):
        inside = p >= np.array(own.thresholds(part, level))
        row += [float(inside[true == name, classes.index(name)].mean()) for name in (witness, "other")]
    return row


def main() -> None:
    """Read the command line, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cells", help="a table of features, as fusion extract --export writes it")
    parser.add_argument("--witness", default="erythroblast", help="class of cells that only the ill have")
    parser.add_argument("--deals", type=int, default=100)
    chosen = parser.parse_args()
    frame = pd.read_parquet(chosen.cells)
    columns = [name for name in frame.columns if "." in name]
    steps = make_pipeline(SimpleImputer(), StandardScaler(), PCA(40, random_state=0))
    components = pd.DataFrame(steps.fit_transform(frame[columns]), columns=[f"pca.{at}" for at in range(40)])
    frame = pd.concat([frame[["label"]], components], axis=1)
    rows = np.array([coverage(frame, chosen.witness, seed) for seed in range(chosen.deals)])
    error = rows.std(axis=0).max() / np.sqrt(len(rows))
    print("coverage of 0.9 sets: cells that are witnesses, other cells; ill patients, healthy ones")
    print("{:.3f} {:.3f}; {:.3f} {:.3f}".format(*rows.mean(axis=0)), f"(error {error:.3f}, {len(rows)} deals)")


if __name__ == "__main__":
    main()
