"""The page and the figure: self-contained, stamped, and saying what the numbers say."""

import re

import numpy as np
import pytest

from fusion import report
from fusion.datasets import Fault
from fusion.results import UNKNOWN_SUBJECTS, Result, Scores, describe_split, interval, judge
from fusion.table import FeatureTable


def result(*, subjects_known=True, faults=(), notes=(), stamps=()):
    """Two feature sets and two classifiers on 24 cells of 8 subjects; scores drawn so that they differ."""
    rng = np.random.default_rng(0)
    y = np.repeat(["all", "hem"], 12)
    names = tuple(f"fold_0/{label}/{at}.bmp" for at, label in enumerate(y))
    table = FeatureTable(
        X=np.zeros((24, 2), np.float32),
        columns=("texture.a", "colour.b"),
        names=names,
        keys=names,
        image_keys=names,
        y=tuple(y),
        subjects=tuple(f"s{at // 3}" for at in range(24)),
        folds=(None,) * 24,
        groups=np.arange(24) // 3,
        subjects_known=subjects_known,
    )
    entries = []
    for features in (("texture",), ("texture", "colour")):
        for classifier in ("svm", "a <b>"):
            p = np.clip((y == "all") * 0.3 + rng.uniform(0.1, 0.7, 24), 0, 1)
            entries.append(Scores(features, classifier, np.stack([p, 1 - p], axis=1), np.arange(24) % 4))
    return Result(
        command="ablate",
        cells=table,
        classes=("all", "hem"),
        positive="all",
        scores=tuple(entries),
        figures=tuple(judge(table, entry, ["all", "hem"], "all", bootstrap=100, seed=0) for entry in entries),
        config="seed: 0\n",
        stamps=stamps,
        notes=notes,
        faults=faults,
        facts={
            "data": "cells",
            "images": 24,
            "groups": 8,
            "subjects_known": subjects_known,
            "classes": {"all": 12, "hem": 12},
            "split": {"kind": "grouped", "folds": 4},
        },
    )


def page(shown):
    return report.page(shown, report._render(report.forest_plot(shown), "svg").decode())


def test_the_page_needs_nothing_from_outside(tmp_path):
    shown = result()
    report.write_report(shown, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", text)
    assert not re.search(r"@import|url\((?!#)", text)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "comparison.svg", "comparison.png"}


def test_the_same_result_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        report.write_report(result(), tmp_path / folder)
    for name in ("report.html", "comparison.svg", "comparison.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_every_figure_of_the_result_is_on_the_page():
    shown = result()
    text = page(shown)
    for figures in shown.figures:
        for level in ("image", "subject"):
            for metric in ("balanced_accuracy", "auroc", "f1_macro"):
                assert f"{figures[level][metric]['value']:.3f}" in text


def test_stamps_notes_and_faults_are_on_the_page_and_names_cannot_break_it(tmp_path):
    shown = result(
        stamps=("leaky: images of 3 subjects on both sides",),
        notes=("4 folds instead of 5",),
        faults=(Fault(tmp_path / "<script>.bmp", "read", "cut short"),),
    )
    text = page(shown)
    for words in (
        "leaky: images of 3 subjects",
        "4 folds instead of 5",
        "&lt;script&gt;.bmp",
        "cut short",
        "a &lt;b&gt;",
    ):
        assert words in text
    assert "<script" not in text


def test_where_subjects_are_unknown_nothing_is_claimed_about_them():
    shown = result(subjects_known=False, stamps=(UNKNOWN_SUBJECTS,))
    text = page(shown)
    assert "Subject by subject" not in text
    assert "by subject" not in text
    assert "identical pictures together" in text


def test_the_forest_plot_has_a_line_for_each_feature_set_and_a_mark_for_each_classifier():
    shown = result()
    axes = report.forest_plot(shown).axes[0]
    ranked = [" + ".join(shown.scores[at].features) for at in shown.ranked()]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(dict.fromkeys(ranked))
    marked = {
        round(float(line.get_xdata()[0]), 6) for line in axes.lines if line.get_marker() not in ("None", "", None)
    }
    assert marked == {round(figures["image"]["balanced_accuracy"]["value"], 6) for figures in shown.figures}


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.8125, 0.75, 0.9, "0.812 [0.750, 0.900]"),
        (0.5, float("nan"), float("nan"), "0.500 (no interval)"),
        (float("nan"), float("nan"), float("nan"), "undefined"),
    ],
)
def test_an_interval_is_told_or_said_to_be_none(value, low, high, text):
    assert interval({"value": value, "low": low, "high": high}) == text


def test_a_split_is_described_as_it_was():
    for kind, known, words in (
        ("grouped", True, "4 folds by subject"),
        ("grouped", False, "4 folds, identical pictures together"),
        ("random", True, "4 folds by picture at random"),
        ("external", True, "scored by a trained model"),
    ):
        assert describe_split({"split": {"kind": kind, "folds": 4}, "subjects_known": known}) == words
