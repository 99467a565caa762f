"""What a result says first, in sentences: of what figures are, of whom, and what is left of the best."""

from dataclasses import replace

import pytest

from fusion.evaluation.headline import (
    best_sentences,
    cautions,
    kind_sentence,
    primary_sentences,
    subject_weighted_sentence,
    subjects_sentence,
)
from fusion.evaluation.primary_comparison import primary_row
from fusion.evaluation.results import interval
from tests.builders.results import result


@pytest.fixture(scope="module")
def shown():
    return result()


def test_figures_say_of_what_they_are(shown):
    assert kind_sentence(shown).startswith("Figures are of the procedure: this way of building a model, trained anew")


def test_subjects_of_each_class_are_counted(shown):
    assert subjects_sentence(shown) == "8 all and 8 hem subjects."


def test_few_subjects_are_a_caution(shown):
    (caution,) = cautions(shown)
    assert caution.startswith("Few subjects: 8 of all, 8 of hem")
    assert caution.endswith("intervals are wide and figures rough.")


def test_the_best_is_told_corrected_and_with_those_that_are_not_told_from_it(shown):
    text = " ".join(best_sentences(shown))
    best = shown.findings["best"]
    assert f"Best of {len(shown.scores)}: {best['entry']}" in text
    assert f"{best['value']:.3f} as measured, {best['corrected']:.3f}" in text
    assert f"{len(best['not_distinguished'])} of {len(shown.scores)}" in text
    assert best["corrected"] <= best["value"]


def test_one_entry_is_no_best():
    alone = result()
    assert best_sentences(replace(alone, findings={})) == []


def test_a_comparison_named_beforehand_is_told_and_no_other(shown):
    assert primary_sentences(shown) == []
    named = replace(shown, findings={**shown.findings, "primary": primary_row(shown, (0, 1), 0.05)})
    text = " ".join(primary_sentences(named))
    assert text.startswith("Primary comparison, of the procedure: texture, svm minus texture, a <b>: balanced accuracy")
    assert "Within a margin of 0.05 of balanced accuracy the two are" in text


def test_subjects_of_one_size_are_not_weighed_again(shown):
    assert subject_weighted_sentence(shown, 0) == ""


def test_a_result_says_in_a_line_what_it_found_and_shows_its_table():
    shown = result(stamps=("leaky: images of 3 subjects on both sides",))
    best = shown.best()
    corrected = interval({"value": best["corrected"], "low": best["low"], "high": best["high"]})
    assert repr(shown).startswith("Result(ablate, 48 cells; ")
    assert corrected in repr(shown)
    assert "corrected for being the best of 6" in repr(shown)
    assert "leaky: images of 3 subjects" in repr(shown)  # a stamp goes wherever a figure goes
    html = shown._repr_html_()
    assert html.count("<tr") == 1 + 6
    assert "a <b>" not in html
