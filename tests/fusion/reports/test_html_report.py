"""The page and the figure: self-contained, stamped, and saying what the numbers say."""

import re
from dataclasses import replace

import numpy as np
import pytest

from fusion.data.dataset import Fault
from fusion.evaluation.curves import roc_curve
from fusion.evaluation.result_differences import signed
from fusion.evaluation.results import UNKNOWN_SUBJECTS, describe_split, interval, p_text
from fusion.reports import html_report, result_figures
from tests.builders.results import result


def page(shown):
    return html_report.page(shown, html_report.draw(shown))


def test_the_page_needs_nothing_from_outside(tmp_path):
    shown = result()
    html_report.write_report(shown, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:image/)""", text)
    assert not re.search(r"@import|url\((?!#)", text)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    drawn = ("comparison", "differences", "matrix", "shapley", "roc", "precision", "reliability", "confusion")
    assert written == {
        "report.html",
        "methods.md",
        "table.tex",
        "comparison.png",
        *(f"figures/{name}.{kind}" for name in drawn for kind in ("svg", "csv")),
    }


def test_a_figure_s_numbers_are_those_of_the_result(tmp_path):
    import pandas as pd

    shown = result()
    html_report.write_report(shown, tmp_path)
    numbers = pd.read_csv(tmp_path / "figures" / "comparison.csv")
    held = {
        (" + ".join(scores.features), scores.classifier): figures["image"]["balanced_accuracy"]
        for scores, figures in zip(shown.scores, shown.figures, strict=True)
    }
    assert len(numbers) == len(held)
    for row in numbers.itertuples():
        figure = held[row.features, row.classifier]
        assert (row.value, row.low, row.high) == pytest.approx([figure[part] for part in ("value", "low", "high")])
    page_text = (tmp_path / "report.html").read_text()
    for file in (tmp_path / "figures").glob("*.csv"):
        assert file.read_text().splitlines()[0] in page_text


def test_the_same_result_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        html_report.write_report(result(), tmp_path / folder)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    for name in sorted(files):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_every_figure_of_the_result_is_on_the_page():
    shown = result()
    text = page(shown)
    for held in shown.figures:
        for level in ("image", "subject", "vote"):
            for metric in ("balanced_accuracy", "auroc", "f1_macro", "mcc", "auprc", "ppv"):
                assert f"{held[level][metric]['value']:.3f}" in text
        for metric in ("brier", "log_loss", "calibration_intercept", "calibration_slope"):
            assert f"{held['image'][metric]['value']:.3f}" in text


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
    assert "<script>.bmp" not in text
    assert text.count("<script") == 1  # our own, at the end


def test_where_subjects_are_unknown_nothing_is_claimed_about_them():
    shown = result(subjects_known=False, stamps=(UNKNOWN_SUBJECTS,))
    text = page(shown)
    assert "Subject by subject" not in text
    assert "by subject" not in text
    assert "identical images together" in text


def test_the_forest_plot_has_a_line_for_each_feature_set_and_a_mark_for_each_classifier():
    shown = result()
    axes = result_figures.forest_plot(shown).figure.axes[0]
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
    for kind, unit, words in (
        ("grouped", "subject", "4 folds by subject"),
        ("grouped", "group", "4 folds by group"),
        ("grouped", "image", "4 folds, identical images together"),
        ("random", "subject", "4 folds by image at random"),
        ("external", "subject", "scored by a trained model"),
        ("official", "subject", "the 4 folds of the data set, whole subjects together"),
        ("leave-one-subject-out", "subject", "each subject left out in turn"),
    ):
        assert describe_split({"split": {"kind": kind, "folds": 4}, "unit": unit}) == words
    for kind, words in (
        ("grouped", "one fold by subject"),
        ("official", "one of the folds of the data set, whole subjects together"),
    ):
        assert describe_split({"split": {"kind": kind, "folds": 1}, "unit": "subject"}) == words


def test_findings_are_on_the_page():
    shown = result()
    text = page(shown)
    for row in shown.findings["paired"]:
        assert signed(row["balanced_accuracy"]).partition(" ")[0] in text
        assert p_text(row["p_adjusted"]) in text
    for contributions in shown.findings["shapley"]:
        if contributions["metric"] == "balanced_accuracy":
            for row in contributions["blocks"]:
                for part in ("shapley", "alone", "left_out"):
                    assert signed(row[part]).partition(" ")[0] in text


def test_what_was_not_found_out_is_not_on_the_page():
    text = page(replace(result(features=(("texture",),)), findings={}))
    for words in ("Shapley", "Is the best better", "random split"):
        assert words not in text


def test_the_difference_plot_fills_what_is_told_from_the_best_and_the_shapley_plot_has_a_bar_a_block_and_classifier():
    shown = result()
    marks = [line for line in result_figures.difference_plot(shown).figure.axes[0].lines if line.get_marker() == "o"]
    filled = [line.get_markerfacecolor() != "w" for line in marks]
    assert filled == [row["p_adjusted"] < 0.05 for row in shown.findings["paired"]]
    assert len(result_figures.shapley_plot(shown).figure.axes[0].patches) == 2 * 2
    assert result_figures.difference_plot(replace(shown, findings={})) is None
    assert result_figures.shapley_plot(replace(shown, findings={})) is None


def test_the_matrix_has_every_pair_once_and_is_bold_where_the_interval_leaves_0_out():
    shown = result()
    entries = shown.ranked()
    accuracy = [held["image"]["balanced_accuracy"]["value"] for held in shown.figures]
    key = ("image", "balanced_accuracy")
    # One entry that is ahead of all others by far more than they vary.
    shown.figures[entries[0]]["image"]["balanced_accuracy"]["value"] = accuracy[entries[0]] = 0.99
    axes = result_figures.difference_matrix(shown).figure.axes[0]
    message = {text.get_position(): (text.get_text(), text.get_fontweight()) for text in axes.texts}
    assert len(message) == 6 * 5 / 2
    for (column, row), (text, weight) in message.items():
        better, worse = entries[int(row)], entries[int(column)]
        assert text == f"{accuracy[better] - accuracy[worse]:.3f}"
        varied = shown.variations[better].combined([shown.variations[worse]], (1.0, -1.0), key)
        difference = varied.figure(accuracy[better] - accuracy[worse])
        low, high = difference["low"], difference["high"]
        assert weight == ("bold" if low > 0 or high < 0 else "normal")
    assert [message[column, 0][1] for column in range(1, 6)] == ["bold"] * 5
    assert "normal" in {weight for _, weight in message.values()}
    assert result_figures.difference_matrix(result(features=(("texture",),))) is None
    assert result_figures.difference_matrix(replace(shown, variations=())) is None


def test_the_area_under_the_roc_curve_is_the_auroc_and_its_band_holds_it():
    shown = result()
    for at, held in enumerate(shown.figures):
        curve = roc_curve(shown, at)
        # The grid of 101 cuts corners of a staircase of 24 steps.
        assert np.trapezoid(curve.y, curve.x) == pytest.approx(held["image"]["auroc"]["value"], abs=0.01)
        assert (np.diff(curve.y) >= 0).all()
        assert ((curve.low <= curve.y + 1e-9) & (curve.y <= curve.high + 1e-9)).all()
    with pytest.raises(ValueError, match="two classes"):
        roc_curve(replace(shown, positive=None), 0)


def test_the_table_for_a_paper_has_every_entry_and_carries_the_stamps():
    shown = result(stamps=("leaky: images of 3 subjects on both sides",))
    text = html_report.table_tex(shown)
    assert text.count("leaky: images of 3 subjects") == 2  # as a comment, and in the note that is printed
    assert text.count(r"\\") == 1 + 2 * len(shown.scores)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.count("&") for line in rows}) == 1
    for held in shown.figures:
        assert f"{held['image']['mcc']['value']:.3f}" in text
    assert html_report._escape("50% of a_b & {c}") == r"50\% of a\_b \& \{c\}"


@pytest.mark.parametrize(("value", "text"), [(0.0004, "<0.001"), (0.05, "0.050"), (float("nan"), "-")])
def test_a_p_value_is_told_to_three_places(value, text):
    assert p_text(value) == text
