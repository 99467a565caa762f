"""Trials of optuna: they find what a grid misses, the same by the same seed, and never see a test label."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from classifiers.boosting import BoostedTreesClassifier
from classifiers.linear import LogisticClassifier
from classifiers.svm import SupportVectorClassifier
from fusion.learning import parameter_search
from fusion.learning.parameter_search import Span, tune
from fusion.settings.commands import AblateConfig
from tests.builders.command_line import assert_refused, fusion
from tests.builders.comparisons import cells, scores_with_and_without_scrambled_labels
from tests.builders.tables import rings

needs_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="the extra optuna is not installed")


@needs_optuna
def test_trials_come_close_to_the_best_of_a_hill_stay_inside_and_are_the_same_by_the_same_seed():
    asked = []

    def score(values):
        asked.append(values)
        return -((np.log10(values["C"]) - 1.3) ** 2) - (values["depth"] - 5) ** 2

    spans = {"C": Span(0.01, 1000), "depth": Span(2, 8, log=False, whole=True)}
    best = tune(score, spans, 60, seed=3)
    assert best["depth"] == 5
    assert 10 < best["C"] < 40
    assert len(asked) == 60
    assert all(0.01 <= values["C"] <= 1000 and values["depth"] in range(2, 9) for values in asked)
    assert tune(score, spans, 60, seed=3) == best
    assert tune(score, spans, 60, seed=4) != best


@needs_optuna
@pytest.mark.parametrize("kind", [SupportVectorClassifier, LogisticClassifier, BoostedTreesClassifier])
def test_a_classifier_takes_what_trials_on_whole_groups_found(kind, monkeypatch):
    X, y, groups = rings()
    model, again = (kind(search=True, trials=4).fit(X[:160], y[:160], groups[:160]) for _ in range(2))
    assert model.chosen_ == again.chosen_
    assert_array_equal(model.predict_proba(X), again.predict_proba(X))
    assert kind(search=True, trials=4, random_state=1).fit(X[:160], y[:160], groups[:160]).chosen_ != model.chosen_
    if kind is not LogisticClassifier:  # no plane parts rings
        assert (model.predict(X[160:]) == y[160:]).mean() > 0.8


@needs_optuna
def test_no_test_label_moves_a_trial():
    settings = {"trials": 3, "classifiers": {"xgb": {"n_jobs": 1}}}
    found = scores_with_and_without_scrambled_labels(lambda y: replace(cells(subjects=12), y=tuple(y[:72])), **settings)
    for name, (true, scrambled) in found.items():
        assert_array_equal(true, scrambled, err_msg=name)


@needs_optuna
def test_a_planted_column_of_test_labels_moves_them():
    # What the test above would show if a trial were scored on the test part: here labels are in a column.
    def planted(y):
        table = cells(subjects=12)
        y = y[:72]
        share = np.array([np.mean(y[table.groups == group] == "hem") for group in table.groups])
        X = np.column_stack([table.X, share]).astype(np.float32)
        return replace(table, X=X, columns=(*table.columns, "b.planted"), y=tuple(y))

    for name, (true, scrambled) in scores_with_and_without_scrambled_labels(planted, trials=3).items():
        assert np.abs(true - scrambled).max() > 0.05, name


def test_trials_are_a_setting_and_ask_for_a_search(tmp_path):
    asked = AblateConfig(data="cells", output=tmp_path, trials=7)
    assert asked.params("svm") == {"search": True, "trials": 7}
    assert AblateConfig(data="cells", output=tmp_path).params("svm") == {}


def test_without_optuna_trials_are_refused_before_anything_is_read(synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(parameter_search, "find_spec", lambda name: None)
    words = ("--set", "trials=5", "-o", tmp_path / "m")
    assert_refused(fusion("train", synthetic, *words), 2, "optuna", "pip install")
    assert_refused(fusion("ablate", synthetic, *words), 2, "optuna", "pip install")
