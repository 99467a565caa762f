"""Where the best entry goes wrong, for the page."""

import numpy as np

from fusion.data.feature_table import FeatureTable
from fusion.evaluation.curves import precision_curve
from fusion.evaluation.results import Result
from fusion.evaluation.scores import Scores
from fusion.reports.page.judged_cells import by_subject, judged_cells


def result(proba, y=("p", "p", "n", "n"), subjects=("a", "a", "b", "c"), threshold=None, fold=None):
    proba = np.asarray(proba, float)
    names = tuple(f"{at}.png" for at in range(len(y)))
    table = FeatureTable(
        X=np.zeros((len(y), 1), np.float32),
        columns=("a.f",),
        names=names,
        keys=names,
        image_keys=names,
        y=tuple(y),
        subjects=tuple(subjects),
        folds=(None,) * len(y),
        groups=np.unique(subjects, return_inverse=True)[1],
        subjects_known=True,
    )
    both = np.stack([1 - proba, proba], axis=-1)
    fold = np.where(np.isnan(proba), -1, 0) if fold is None else fold
    scores = Scores(("a",), "svm", both, fold, threshold)
    figures = ({"image": {"balanced_accuracy": {"value": 1.0}}},)
    return Result("ablate", table, ("n", "p"), "p", (scores,), figures, "")


def test_a_cell_is_called_what_most_rounds_call_it_and_its_probability_is_the_mean():
    nan = np.nan
    rounds = [[0.9, 0.4, 0.2, nan], [0.8, 0.3, 0.6, nan], [0.7, 0.8, 0.7, nan]]
    cells = judged_cells(result(rounds))
    assert [cell.predicted for cell in cells] == ["p", "n", "p"]
    np.testing.assert_allclose([cell.probability for cell in cells], [0.8, 0.5, 0.5])
    by_threshold = judged_cells(result(rounds, threshold=np.full((3, 4), 0.25)))
    assert [cell.predicted for cell in by_threshold] == ["p", "p", "p"]


def test_subjects_are_counted_and_the_worst_comes_first():
    cells = judged_cells(result([0.9, 0.4, 0.8, 0.1]))
    rows = by_subject(cells)
    assert [(row["subject"], row["cells"], row["wrong"]) for row in rows] == [("b", 1, 1), ("a", 2, 1), ("c", 1, 0)]
    assert rows[0]["as"] == {"p": 1}


def test_precision_and_recall_are_scikit_learns():
    from sklearn.metrics import precision_recall_curve

    rng = np.random.default_rng(0)
    y = np.where(rng.random(200) < 0.4, "p", "n")
    score = np.clip(rng.normal(0.4 + 0.2 * (y == "p"), 0.2), 0, 1).round(2)
    subjects = [str(at // 4) for at in range(200)]
    curve = precision_curve(result(score, y, subjects), 0)
    precision, recall, _ = precision_recall_curve(y == "p", score)
    for x, ours in zip(curve.x, curve.y, strict=True):
        reaching = np.flatnonzero(recall >= x - 1e-12)
        assert abs(ours - precision[reaching[-1]]) < 1e-12
    assert (curve.low <= curve.y + 0.05).all()
    assert (curve.y <= curve.high + 0.05).all()
