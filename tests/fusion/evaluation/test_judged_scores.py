"""What `fusion.judge` says of awkward scores is what a few lines of NumPy say of them."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion import judge

NAMES = ("лейкоз", "b c", "正常")


def area(score, is_positive, model):
    """Share of pairs of one model that are in order, ties by half."""
    won = pairs = 0.0
    for one in np.unique(model):
        high, low = (score[(model == one) & (is_positive == kind)] for kind in (True, False))
        won += (high[:, None] > low).sum() + (high[:, None] == low).sum() / 2
        pairs += len(high) * len(low)
    return won / pairs if pairs else np.nan


def average_precision(score, is_positive, model):
    """Precision at each positive's score, averaged over positives of models that have both kinds."""
    found = []
    for one in np.unique(model):
        own, kinds = score[model == one], is_positive[model == one]
        if 0 < kinds.mean() < 1:
            found += [kinds[own >= at].mean() for at in own[kinds]]
    return np.mean(found) if found else np.nan


def figures(labels, proba, classes, model):
    """Of rows, by the highest probability."""
    codes = np.array([classes.index(label) for label in labels])
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (codes, proba.argmax(axis=1)), 1)
    occurs = np.unique(codes)
    recall = np.diag(counts)[occurs] / counts.sum(axis=1)[occurs]
    both = counts.sum(axis=0) + counts.sum(axis=1)
    f1 = 2 * np.diag(counts)[both > 0] / both[both > 0]
    others = [((codes != at) & (proba.argmax(axis=1) != at)).sum() / (codes != at).sum() for at in occurs]
    asked = [0] if len(classes) == 2 else occurs
    return {
        "balanced_accuracy": recall.mean(),
        "sensitivity": recall[0] if len(classes) == 2 else recall.mean(),
        "specificity": others[0] if len(classes) == 2 else np.mean(others),
        "accuracy": np.trace(counts) / len(codes),
        "f1_macro": f1.mean(),
        "auroc": np.mean([area(proba[:, at], codes == at, model) for at in asked]),
        "auprc": np.mean([average_precision(proba[:, at], codes == at, model) for at in asked]),
        "log_loss": -np.log(np.clip(proba[np.arange(len(codes)), codes], np.finfo(float).eps, 1)).mean(),
    }


@given(
    subjects=st.lists(st.integers(1, 4), min_size=2, max_size=3),
    folds=st.integers(1, 2),
    repeats=st.integers(1, 2),
    steps=st.sampled_from([2, 8, 10**6]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=8, deadline=None)
def test_every_figure_is_that_of_plain_numpy(subjects, folds, repeats, steps, seed):
    """Few subjects, one of a class too, ties, classes that are missing from a fold, and names of any alphabet."""
    rng, classes = np.random.default_rng(seed), sorted(NAMES[: len(subjects)])
    owner = np.repeat(np.arange(sum(subjects)), 3)
    labels = np.repeat(classes, np.multiply(subjects, 3))
    parts = []
    for repeat in range(repeats):
        drawn = rng.dirichlet(np.ones(len(classes)), len(owner)) + (labels[:, None] == np.array(classes))
        proba = np.round(drawn / 2 * steps) + 1e-3
        proba /= proba.sum(axis=1, keepdims=True)
        fold = rng.permutation(len(np.unique(owner)))[owner] % folds
        part = {f"p_{name}": proba[:, at] for at, name in enumerate(classes)}
        rows = {"subject": [f"é{at}" for at in owner], "label": labels, "fold": fold, "repeat": repeat}
        parts.append(pd.DataFrame({**part, **rows, "cell": np.arange(len(owner))}))
    frame = pd.concat(parts, ignore_index=True)
    told = judge(frame, positive=classes[0] if len(classes) == 2 else None, seed=0).to_frame()
    told = told[told.kind == "procedure"] if (told.kind == "procedure").any() else told
    proba = frame[[f"p_{name}" for name in classes]].to_numpy()
    model = (frame["repeat"] * folds + frame["fold"]).to_numpy()
    pooled = frame.groupby(["repeat", "subject"]).first().reset_index()
    means = frame.groupby(["repeat", "subject"])[[f"p_{name}" for name in classes]].mean().to_numpy()

    def comparable(rows, of):
        several = rows.groupby(of).label.transform("nunique") > 1
        return of if several.mean() > 0.5 else rows["repeat"].to_numpy()

    alike = comparable(frame, model)
    whose = (pooled["repeat"] * folds + pooled["fold"]).to_numpy()
    of_subjects = whose if alike is model else pooled["repeat"].to_numpy()
    for level, expected in (
        ("cell", figures(frame.label, proba, classes, alike)),
        ("subject", figures(pooled.label, means, classes, of_subjects)),
    ):
        own = told[told.level == level].set_index("metric")
        for metric, value in expected.items():
            np.testing.assert_allclose(own.value[metric], value, rtol=1e-9, err_msg=f"{level} {metric}")
            low, high = own.low[metric], own.high[metric]
            assert np.isnan(low) or low - 1e-9 <= value <= high + 1e-9
