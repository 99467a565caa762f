"""Balanced accuracy from split to split: scikit-learn's, one test part at a time."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from fusion.evaluation.split_spread import split_spread
from fusion.reports import html_report
from fusion.reports._methods_text import methods_sentences
from tests.builders.results import result
from tests.fusion.evaluation.test_class_figures import three_classes


def test_the_spread_over_folds_and_repeats_is_scikit_learns():
    shown = three_classes(repeats=3, folds=4)
    (row,) = split_spread(shown)
    y, scores = np.array(shown.cells.y), shown.scores[0]
    called = np.array(shown.classes)[scores.proba.argmax(axis=2)]
    folds = [
        balanced_accuracy_score(y[scores.fold[repeat] == fold], called[repeat][scores.fold[repeat] == fold])
        for repeat in range(3)
        for fold in range(4)
    ]
    repeats = [balanced_accuracy_score(y, called[repeat]) for repeat in range(3)]
    for name, values in (("folds", folds), ("repeats", repeats)):
        assert row[name]["count"] == len(values)
        expected = [min(values), np.median(values), max(values)]
        assert [row[name][part] for part in ("least", "median", "most")] == pytest.approx(expected)
    assert row["one_sided"] == 0


def test_thresholds_are_followed():
    shown = result()
    never = tuple(replace(scores, threshold=np.full(scores.fold.shape, 2.0)) for scores in shown.scores)
    for row in split_spread(replace(shown, scores=never)):
        assert {row["folds"][part] for part in ("least", "median", "most")} == {0.5}


def test_parts_without_a_class_are_counted_and_left_out():
    shown = result()
    fold = shown.cells.groups % 16  # a subject each, of one class
    alone = tuple(replace(scores, fold=fold[None]) for scores in shown.scores)
    row = split_spread(replace(shown, scores=alone))[0]
    assert (row["folds"]["count"], row["one_sided"], row["repeats"]["count"]) == (0, 16, 1)
    assert np.isnan(row["folds"]["median"])
    shown = replace(shown, scores=alone, findings={"splits": split_spread(replace(shown, scores=alone))})
    assert "16 more parts lack a class" in html_report.page(shown, {})
    assert methods_sentences(shown)["analyses"] == ""


def test_one_model_has_no_spread():
    assert split_spread(three_classes(folds=1)) == []


def test_the_page_and_the_methods_tell_the_spread():
    shown = result()
    shown = replace(shown, findings={**shown.findings, "splits": split_spread(shown)})
    text = html_report.page(shown, {})
    for row in shown.findings["splits"]:
        for part in ("least", "median", "most"):
            assert f"<td>{row['folds'][part]:.3f}</td>" in text
    assert "in single test parts (median" in methods_sentences(shown)["analyses"]
