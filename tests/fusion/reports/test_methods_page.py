"""``methods.md``: what it says is the result's own, and what a result cannot tell is left to the authors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusion.data.dataset import Fault
from fusion.reports import html_report
from fusion.reports._methods_page import methods_markdown, methods_paragraphs
from fusion.reports._methods_text import methods_sentences
from fusion.reports._reporting_sheet import FOR_AUTHORS, NOT_ASKED, reporting_sheet
from tests.builders.results import result

ASKED = """\
seed: 0
features: [texture, colour]
classifiers: {svm: {C: 3.0}}
calibrate: logistic
search: true
threshold: sensitivity:0.95
"""


def asked(**changes):
    found = result()
    columns = {"texture": 605, "colour": 405}
    return replace(found, config=ASKED, facts={**found.facts, "columns": columns, "seed": 7}, **changes)


def row(shown, item):
    return next(row for row in reporting_sheet(shown) if row.item.startswith(item))


@pytest.mark.parametrize(
    "words",
    [
        "6 entries were compared by how well they tell 'all' and 'hem' cells apart.",
        "48 cells of 16 subjects were judged (all 24, hem 24). 8 all and 8 hem subjects.",
        "Cells were held out for judging: 4 folds by subject. Seed 7.",
        "texture (605 values), colour (405 values)",
        "Parameters of svm: C 3.0.",
        "Parameters were chosen by folds of whole groups inside each training part.",
        "recalibrated by intercept and slope (logistic recalibration)",
        "a jackknife over subjects within class",
        "Figures are of the procedure",
        "No comparison was named beforehand.",
        "Best of 6: ",
        "corrected for being the best of 6 (BBC-CV)",
        "Few subjects: 8 of all, 8 of hem",
        "numpy " + np.__version__,
    ],
)
def test_the_paragraphs_say_what_was_done(words):
    assert words in " ".join(methods_paragraphs(asked()))


def test_the_sentences_follow_the_result():
    plain = methods_sentences(result())
    assert plain["features"] == plain["preparation"] == plain["analyses"] == ""
    assert "recalibrated" not in plain["decision"]
    assert plain["exclusions"] == "No image was skipped."
    faults = (Fault(Path("a.bmp"), "read", "cut short"), Fault(Path("b.bmp"), "mask", "empty"))
    changed = methods_sentences(asked(faults=faults, notes=("4 folds instead of 5",), stamps=("leaky: 3 images",)))
    assert "2 images were skipped (read 1, mask 1)" in changed["exclusions"]
    assert "4 folds instead of 5." in changed["exclusions"]
    assert changed["cautions"].startswith("Leaky: 3 images.")


@pytest.mark.parametrize("fuse", ["late", "[weighted, late]"])
def test_late_fusion_is_told(fuse):
    assert "Late fusion: a classifier of each block" in methods_markdown(
        replace(asked(), config=f"{ASKED}fuse: {fuse}\n")
    )
    assert "Late fusion" not in methods_markdown(replace(asked(), config=f"{ASKED}fuse: weighted\n"))


def test_thresholds_are_told_with_their_rule():
    shown = asked()
    limits = tuple(replace(scores, threshold=np.full(scores.fold.shape, 0.25)) for scores in shown.scores)
    said = methods_sentences(replace(shown, scores=limits))["decision"]
    assert "'all' from a probability of 0.250 (rule: sensitivity:0.95, learnt in each training part)" in said


def test_one_model_is_not_said_to_be_compared():
    shown = result(features=(("texture",),))
    one = replace(shown, scores=shown.scores[:1], figures=shown.figures[:1], findings={})
    said = methods_sentences(one)
    assert said["comparisons"] == ""
    assert said["aim"].startswith("One way of building a model (texture, svm)")
    assert said["performance"].startswith("Cell by cell: balanced accuracy 0.")


def test_subjects_that_are_unknown_are_not_counted():
    said = methods_sentences(result(subjects_known=False))
    assert "of unknown subjects" in said["data"]
    assert "by image" in said["intervals"]


def test_the_sheet_leaves_to_the_authors_what_only_they_know():
    shown = asked()
    assert row(shown, "ethical approval").answer == FOR_AUTHORS
    assert row(shown, "ethical approval").by_authors
    assert row(shown, "differences between training and evaluation").answer == NOT_ASKED
    assert row(shown, "class imbalance").answer.startswith("Shares of the cells judged: all 50.0%, hem 50.0%.")
    wrong = sum(np.array(shown.figures[shown.ranked()[0]]["confusion"])[[0, 1], [1, 0]])
    assert row(shown, "failures").answer.startswith(f"{wrong} of 48 predictions")
    external = {**shown.facts, "split": {"kind": "external", "folds": 1}}
    assert "another data set" in row(replace(shown, facts=external), "differences between training").answer


def test_every_item_of_both_lists_is_on_the_sheet():
    def numbers(text):
        for part in text.split(", "):
            if "-" in part.strip("-"):
                first, last = part.split("-")
                if first[-1].isalpha():  # 3a-3c
                    yield int(first[:-1])
                else:
                    yield from range(int(first), int(last) + 1)
            elif part != "-":
                yield int(part.rstrip("abcdefg"))

    rows = reporting_sheet(asked())
    assert {number for row in rows for number in numbers(row.tripod)} == set(range(1, 28))
    assert {number for row in rows for number in numbers(row.claim)} == set(range(1, 45))


def test_names_break_out_of_neither_text_nor_table(tmp_path):
    shown = asked(notes=("a | b <script>\nc",))
    text = methods_markdown(shown)
    assert r"a \| b \<script> c" in text
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.replace(r"\|", "").count("|") for line in table} == {5}
    assert len(table) == 2 + len(reporting_sheet(shown))
    html_report.write_report(shown, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert (tmp_path / "methods.md").read_text() == text
    assert "<summary>Methods, for a paper</summary>" in page
    assert "&lt;script&gt;" in page
    assert "b <script>" not in page
