"""The drop from internal to external validation: paired on the same cells, by folds that leave a source out whole."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from fusion.analysis.cross_site import internal_folds
from fusion.evaluation.curves import risk_coverage_curve
from fusion.evaluation.result_differences import finding_lines, signed
from fusion.leakage.protocols import make_plan
from fusion.reports import html_report
from tests.builders.comparisons import cells, config, fitted, run
from tests.builders.results import result as drawn_result

CLASSES = ["all", "hem"]


def laboratories(shift=4.0, subjects=24, each=4):
    """Cells of three sources. The first column of block ``a`` tells the class, and is moved from source to source;
    block ``b`` has a column that tells each source, so that a move can be learnt where its source is."""
    table = cells(subjects=subjects, each=each, class_effect=0, subject_effect=0.3)
    number = np.array([(int(subject[1:]) // 2) % 3 for subject in table.subjects])
    X = table.X.copy()
    X[:, 0] += 1.5 * np.where(np.array(table.y) == "hem", 1, -1) + shift * (number - 1)
    X[np.arange(len(X)), 3 + number] += 1.5 * shift
    return replace(table, X=X, sources=tuple(f"lab_{at}" for at in number))


def settings(tmp_path, **given):
    return config(
        tmp_path,
        split="leave-one-source-out",
        splits=3,
        compare=["logreg"],
        subsets=["a", "a+b"],
        classifiers={"logreg": {"C": 100.0}},
        **given,
    )


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    return run(laboratories(), settings(tmp_path_factory.mktemp("shifted")))


def test_folds_inside_leave_the_source_out_whole_and_test_every_other_cell_once():
    table = laboratories()
    splits = [split for _, split in make_plan(table, "leave-one-source-out", 5, 1, 0).splits]
    internal = internal_folds(table, splits, 3, 0)
    sources = np.array(table.sources)
    assert len(internal.rounds) == 3
    for at, folds in enumerate(internal.rounds):
        (left_out,) = set(sources[splits[at].test])
        tested = np.sort(np.concatenate([fold.test for fold in folds]))
        np.testing.assert_array_equal(tested, splits[at].train)
        for fold in folds:
            assert left_out not in set(sources[fold.train]) | set(sources[fold.test])
            assert set(sources[fold.train]) == set(sources) - {left_out}
            assert not set(table.groups[fold.train]) & set(table.groups[fold.test])


def test_a_drop_is_what_models_of_the_same_cells_lose(shifted):
    """By hand: every cell by the two models that have learnt from its source, and by the one that has not."""
    table = laboratories()
    splits = [split for _, split in make_plan(table, "leave-one-source-out", 5, 1, 0).splits]
    y, only = np.array(table.y), table.select(["a"])
    right = np.zeros(len(table))
    for folds in internal_folds(table, splits, 3, 0).rounds:
        for fold in folds:
            proba, *_ = fitted(only, fold, "logreg", classifiers={"logreg": {"C": 100.0}})
            right[fold.test] += np.array(CLASSES)[proba.argmax(axis=1)] == y[fold.test]
    by_hand = np.mean([right[y == label].mean() / 2 for label in CLASSES])
    row = next(row for row in shifted.findings["cross_site"]["rows"] if row["features"] == ["a"])
    at = next(at for at, scores in enumerate(shifted.scores) if scores.features == ("a",))
    assert row["internal"]["value"] == pytest.approx(by_hand, abs=1e-12)
    assert row["external"] == shifted.figures[at]["image"]["balanced_accuracy"]
    assert row["drop"]["value"] == pytest.approx(row["external"]["value"] - by_hand, abs=1e-12)
    assert row["cells"] == 96


def test_a_shift_between_sources_is_seen_as_a_drop_and_its_absence_as_none(shifted, tmp_path):
    lost = next(row for row in shifted.findings["cross_site"]["rows"] if row["features"] == ["a", "b"])
    assert lost["internal"]["low"] > 0.7
    assert lost["drop"]["high"] < 0
    assert lost["drop"]["value"] < -0.1
    alike = run(laboratories(shift=0.0), settings(tmp_path)).findings["cross_site"]
    # In the source, a third of the cells are not learnt from: where sources are alike, that is all there is.
    assert all(row["drop"]["high"] > 0 and -0.03 < row["drop"]["value"] < 0.1 for row in alike["rows"])
    undone = run(laboratories(), settings(tmp_path, harmonise={"method": "standard", "transductive": True}))
    found = next(row for row in undone.findings["cross_site"]["rows"] if row["features"] == ["a", "b"])
    assert abs(found["drop"]["value"]) < 0.08
    assert found["external"]["value"] > 0.85


def test_cells_of_a_source_far_off_are_flagged_and_its_probabilities_say_too_much(tmp_path):
    found = run(laboratories(shift=20.0), settings(tmp_path)).findings["cross_site"]
    sources = {row["source"]: row for row in found["sources"]}
    assert set(sources) == {"lab_0", "lab_1", "lab_2"}
    assert sum(row["cells"] for row in sources.values()) == 96
    for name in ("lab_0", "lab_2"):  # both ends lie beyond what was learnt from
        assert sources[name]["out_of_distribution"] > 0.9
        message = sources[name]["calibration"]
        assert message["external"]["confidence"] - message["external"]["accuracy"] > 0.2
        inside = message["internal"]
        assert (
            message["external"]["confidence"] - message["external"]["accuracy"]
            > inside["confidence"] - inside["accuracy"]
        )


def test_what_is_lost_is_told_on_a_terminal_and_only_where_it_is_asked_for(shifted, tmp_path):
    (line,) = [line for line in finding_lines(shifted) if "a new one" in line]
    best = shifted.scores[shifted.ranked()[0]]
    row = next(row for row in shifted.findings["cross_site"]["rows"] if tuple(row["features"]) == best.features)
    assert signed(row["drop"]) in line
    spared = run(laboratories(), settings(tmp_path, in_source=False))
    assert "cross_site" not in spared.findings
    assert [row["order"] for row in spared.findings["selective_prediction"]] == ["confidence", "nearness"]


def test_a_training_part_of_one_subject_a_class_is_told_as_unknown(tmp_path):
    table = laboratories(shift=0.0, subjects=6, each=8)  # two subjects in each source
    assert len(set(table.sources)) == 3
    found = run(table.take(np.flatnonzero(np.array(table.sources) != "lab_2")), settings(tmp_path))
    assert "cross_site" not in found.findings
    text = html_report.page(found, html_report.draw(found))
    assert "is not told here" in text


def test_the_page_shows_both_columns_and_the_drop(shifted, tmp_path):
    text = html_report.page(shifted, html_report.draw(shifted))
    for row in shifted.findings["cross_site"]["rows"]:
        for part in ("internal", "external"):
            assert f"{row[part]['value']:.3f}" in text
        assert f"{row['drop']['value']:+.3f}" in text
    assert re.search("across sources", html_report.draw(shifted)["comparison"].svg)
    shifted.save(tmp_path, tmp_path)
    kept = json.loads((tmp_path / "result.json").read_text())["findings"]
    assert kept["cross_site"]["rows"][0]["drop"]["value"] == shifted.findings["cross_site"]["rows"][0]["drop"]["value"]
    assert [row["order"] for row in kept["selective_prediction"]] == ["confidence", "nearness"]


# ---- abstaining -----------------------------------------------------------------------------------------------------


def test_where_all_cells_are_answered_the_curve_is_at_the_balanced_accuracy():
    shown = drawn_result()
    for at, figures in enumerate(shown.figures):
        curve = risk_coverage_curve(shown, at)
        assert curve.y[-1] == pytest.approx(figures["image"]["balanced_accuracy"]["value"])
        assert curve.x[-1] == 1
        assert (curve.low[20:] <= curve.y[20:] + 1e-12).all()
        assert np.isnan(curve.low[np.isnan(curve.y)]).all()


def with_scores(p, threshold=None):
    """The first entry of a drawn result, with these probabilities of "all"."""
    shown = drawn_result()
    scores = replace(shown.scores[0], proba=np.stack([p, 1 - p], axis=1)[None], threshold=threshold)
    return replace(shown, scores=(scores,))


def test_a_model_that_is_wrong_only_where_it_is_unsure_is_right_about_the_rest():
    """By hand: of 48 cells 12 are misclassified, with the least confidence of all, 6 of each class."""
    sure = np.tile(np.append(np.linspace(0.55, 0.58, 6), np.linspace(0.8, 0.99, 18)), 2)
    is_wrong = np.tile(np.arange(24) < 6, 2)
    is_all = np.arange(48) < 24
    curve = risk_coverage_curve(with_scores(np.where(is_all != is_wrong, sure, 1 - sure)), 0)
    np.testing.assert_allclose(curve.y[curve.x <= 0.75], 1)
    assert curve.y[-1] == pytest.approx(0.75)
    assert (np.diff(curve.y) <= 1e-12).all()


def test_cells_that_are_equally_sure_are_answered_together():
    p = np.full(48, 0.9)  # calls all of them "all": half are
    np.testing.assert_allclose(risk_coverage_curve(with_scores(p), 0).y, 0.5)


def test_no_balanced_accuracy_is_told_of_one_class():
    is_all = np.arange(48) < 24
    curve = risk_coverage_curve(with_scores(np.where(is_all, 0.9, 0.4)), 0)
    assert np.isnan(curve.y[curve.x <= 0.5]).all()
    np.testing.assert_allclose(curve.y[curve.x > 0.5], 1)


def test_a_cell_at_its_threshold_is_the_least_sure():
    p = np.linspace(0.2, 0.98, 48)
    p[0], p[24] = 0.7951, 0.7949  # on either side of the threshold, by a hair
    is_wrong = np.zeros(48, bool)
    is_wrong[[0, 24]] = True
    threshold = np.full((1, 48), 0.795)
    shown = with_scores(p, threshold)
    predicted_all = p >= 0.795
    labels = np.where(predicted_all != is_wrong, "all", "hem")
    shown = replace(shown, cells=replace(shown.cells, y=tuple(labels)))
    curve = risk_coverage_curve(shown, 0)
    np.testing.assert_allclose(curve.y[(curve.x > 0.3) & (curve.x <= 46 / 48)], 1)
    assert curve.y[-1] < 1


def test_another_order_of_answers_is_that_of_the_cells():
    rng = np.random.default_rng(0)
    shown = drawn_result()
    right = np.array([shown.scores[0].proba[0, at].argmax() == (at >= 24) for at in range(48)])
    curve = risk_coverage_curve(shown, 0, np.where(right, 1.0, 0.0) + 0.1 * rng.random(48))
    np.testing.assert_allclose(curve.y[(curve.x > 0.3) & (curve.x <= right.mean())], 1)
    unknown = risk_coverage_curve(shown, 0, np.where(right, rng.random(48), np.nan))
    np.testing.assert_allclose(unknown.y[(unknown.x > 0.3) & (unknown.x <= right.mean())], 1)
