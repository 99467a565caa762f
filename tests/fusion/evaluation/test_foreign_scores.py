"""Tables of scores from elsewhere: what is wrong is told in one line, what is right keeps every bit."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from fusion.errors import UsageError
from fusion.evaluation.foreign_scores import check_scores
from fusion.evaluation.score_frames import cells_of, entries_of


def table(**given):
    """Two entries on twelve cells of six subjects, in two folds."""
    rng = np.random.default_rng(0)
    subject = np.repeat([f"s{at}" for at in range(6)], 2)
    one = pd.DataFrame(
        {
            "cell": [f"c{at}" for at in range(12)],
            "subject": subject,
            "label": np.repeat(["blast", "normal", "blast", "normal", "blast", "normal"], 2),
            "fold": np.repeat([0, 0, 1, 1, 0, 1], 2),
        }
    )
    frame = pd.concat([one.assign(entry=name, score=rng.random(12)) for name in ("A", "B+C")], ignore_index=True)
    return frame.assign(**given)


def shares(frame):
    return frame.drop(columns="score").assign(p_blast=frame["score"], p_normal=1 - frame["score"])


def test_a_score_is_of_the_positive_class_and_keeps_every_bit():
    frame = table()
    checked = check_scores(frame, "blast")
    assert (checked.classes, checked.positive, checked.stamps, checked.notes) == (("blast", "normal"), "blast", (), ())
    cells = cells_of(checked.frame)
    first, second = entries_of(checked.frame, cells, checked.classes)
    assert (first.features, second.features) == (("A",), ("B+C",))
    assert second.blocks == 2
    assert_array_equal(first.proba[0, :, 0], frame["score"][:12])
    assert_array_equal(first.fold[0], frame["fold"][:12])
    assert cells.subjects == tuple(frame["subject"][:12])
    by_class = check_scores(shares(frame), "blast")
    assert_array_equal(entries_of(by_class.frame, cells, by_class.classes)[1].proba, second.proba)


def test_rows_may_come_in_any_order_where_cells_are_named_and_need_no_names_where_they_do_not():
    frame = table()
    kept = entries_of(check_scores(frame, "blast").frame, cells_of(check_scores(frame, "blast").frame), ["blast"])[0]
    shuffled = check_scores(frame.sample(frac=1, random_state=1), "blast").frame
    cells = cells_of(check_scores(frame, "blast").frame)
    assert_array_equal(entries_of(shuffled, cells, ["blast"])[0].fold.sum(), kept.fold.sum())
    unnamed = check_scores(frame.drop(columns="cell"), "blast").frame
    assert len(cells_of(unnamed)) == 12


def change(frame, column, at, value):
    changed = frame.astype(object).copy()
    changed.loc[at, column] = value
    return changed


WRONG = {
    "no subject": (lambda t: t.drop(columns="subject"), "no column 'subject'"),
    "no label": (lambda t: t.drop(columns="label"), "no column 'label'"),
    "no scores": (lambda t: t.drop(columns="score"), "no column 'score'"),
    "two kinds of scores": (lambda t: t.assign(p_blast=0.5), "two ways"),
    "no row": (lambda t: t[:0], "no row"),
    "a score above 1": (lambda t: change(t, "score", 3, 1.2), r"row 4 of the table.*no probability"),
    "decision values": (lambda t: t.assign(score=t["score"] * 6 - 3), "sigmoid"),
    "a score that is NaN": (lambda t: change(t, "score", 5, np.nan), r"row 6.*no finite number"),
    "a score that is infinite": (lambda t: change(t, "score", 5, np.inf), "no finite number"),
    "a score in words": (lambda t: change(t, "score", 0, "high"), "high"),
    "a cell twice": (lambda t: pd.concat([t, t[:1]]), r"row 25.*scored twice"),
    "entries on other cells": (lambda t: t[:-2], "on different cells"),
    "entries of other folds": (lambda t: change(t, "fold", 13, 1), "different folds"),
    "a label that is missing": (lambda t: change(t, "label", 2, None), "no label in row 3"),
    "a subject that is missing": (lambda t: change(t, "subject", 2, ""), "no subject in row 3"),
    "a fold that is missing": (lambda t: change(t, "fold", 2, np.nan), "no fold in row 3"),
    "a label that changes": (lambda t: change(t, "label", 13, "normal"), "another label"),
    "a subject that changes": (lambda t: change(t, "subject", 13, "s9"), "another subject"),
    "labels of two spellings": (lambda t: change(t, "label", [0, 12], "Blast"), "upper and lower case"),
    "subjects of two spellings": (lambda t: change(t, "subject", [1, 13], "S0"), "spelt"),
    "one class": (lambda t: t.assign(label="blast"), "one score for 1 class"),
    "three classes and one score": (lambda t: change(t, "label", [0, 12], "other"), "p_<class>"),
    "a label without a column": (lambda t: change(shares(t), "label", [0, 12], "other"), "no column of probabilities"),
    "shares that are none": (lambda t: shares(t).assign(p_normal=0.9), "add up to 1"),
    "a threshold beyond 1": (lambda t: t.assign(threshold=1.5), "threshold"),
    "a threshold in some rows": (lambda t: change(t.assign(threshold=0.5), "threshold", 4, None), "threshold in row 5"),
    "cells without names, not as many": (lambda t: t.drop(columns="cell")[:-1], "11 to 12 rows"),
    "cells without names, in another order": (
        lambda t: pd.concat([t[:12], t[12:][::-1]]).drop(columns="cell"), "Add a column 'cell'"),
    "entries named twice": (lambda t: t.assign(features="A"), "two ways"),
    "a subject's label that is no class": (lambda t: t.assign(subject_label="ill"), "no class"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_table_is_refused_in_a_line_that_says_where(kind):
    spoil, words = WRONG[kind]
    with pytest.raises(UsageError) as refused:
        check_scores(spoil(table()), "blast")
    assert pd.Series([str(refused.value).replace("\n", " ")]).str.contains(words).item(), str(refused.value)


def test_which_class_a_score_is_of_is_not_guessed():
    with pytest.raises(UsageError, match="does not say which class"):
        check_scores(table())
    assert check_scores(shares(table())).positive == "normal"
    numbers = table(label=(table()["label"] == "blast").astype(int))
    assert check_scores(numbers).positive == "1"
    assert check_scores(numbers.astype({"label": float})).classes == ("0", "1")
    with pytest.raises(UsageError, match="names no class"):
        check_scores(table(), "leukaemic")


def test_a_subject_in_several_folds_is_a_leak_and_stamped():
    leaky = table()
    leaky["fold"] = [at % 2 for at in range(12)] * 2
    (stamp,) = check_scores(leaky, "blast").stamps
    assert stamp.startswith("leaky: cells of 6 subjects")
    joined = table(group=["g" if who in ("s0", "s2") else who for who in table()["subject"]])  # of two folds
    (stamp,) = check_scores(joined, "blast").stamps
    assert stamp.startswith("leaky: cells of 1 subject")


def test_what_is_not_used_is_said():
    assert check_scores(table(remark="x"), "blast").notes == ("Columns of the table that are not used: remark.",)
