"""The sections of the page, in the order in which they are read.

A section is a function here and a fragment of the same name in ``templates/sections``: the function says what of a
result the fragment shows, or None where there is nothing to show. To add one, write both and put the function into
``SECTIONS``. A fragment begins with its own ``<h2>``, which the list of contents finds by itself.

Every fragment has ``result``, ``best`` (the row of the best entry), ``interval``, ``signed``, ``p_text`` and the macros
of ``templates/macros.html``: ``show(name)`` for a figure, ``cell(value)`` and ``gap(value)`` for a cell of a table with
its interval.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fusion.data.dataset import fault_row
from fusion.evaluation.class_figures import CLASS_METRICS
from fusion.evaluation.headline import (
    best_sentences,
    cautions,
    class_sentences,
    kind_sentence,
    left_out_metrics,
    primary_sentences,
    subject_weighted_sentence,
    subjects_sentence,
)
from fusion.evaluation.promises.coverage import asked_of
from fusion.evaluation.result_tables import METRICS
from fusion.evaluation.results import LABELS, Result, describe_split
from fusion.evaluation.scores import entry_name
from fusion.learning.run import has_scores
from fusion.reports._methods_page import methods_paragraphs
from fusion.reports._reporting_sheet import reporting_sheet
from fusion.reports.page.galleries import galleries
from fusion.reports.page.judged_cells import SUBJECTS, JudgedCell, Places, by_subject, judged_cells
from fusion.reports.page.stressed_cells import pictures
from fusion.versions import versions

#: Metrics of the main table, and of the one on probabilities.
_CLASS_METRICS = METRICS[:11]
_PROBABILITIES = METRICS[11:]

#: Rows of paired differences on the page; all of them are in result.json.
_PAIRED_ROWS = 40


@dataclass(frozen=True, eq=False)
class PageSource:
    """What a page is made of: a result, the names of its figures, and the samples by name, for the images of cells."""

    result: Result
    figures: Sequence[str]
    image_paths: Places

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each entry, best first."""
        return [entry_row(self.result, at) for at in self.result.ranked()]

    @cached_property
    def judged(self) -> list[JudgedCell]:
        """Every cell that the best entry judged."""
        return judged_cells(self.result)

    def found(self, name: str) -> Any:
        """One of the result's findings, None where there is none."""
        return self.result.findings.get(name)


#: What a section's fragment is given, None where the page goes without it.
Values = Mapping[str, Any] | None


def entry_row(result: Result, at: int) -> dict[str, Any]:
    """One entry: its name, features and classifier, and its figures at each level."""
    scores, held = result.scores[at], result.figures[at]
    return {
        "name": entry_name(scores),
        "features": " + ".join(scores.features),
        "classifier": scores.classifier,
        **{level: held[level] for level in ("image", "subject", "vote")},
    }


def answer(page: PageSource) -> Values:
    """The answer in a sentence, and what must be read with it."""
    result = page.result
    return {
        "split": describe_split(result.facts),
        "who": subjects_sentence(result),
        "cautions": cautions(result),
        "headline": best_sentences(result),
        "of_classes": class_sentences(result, result.ranked()[0]),
        "primary": primary_sentences(result),
        "kind": kind_sentence(result),
        "alike": subject_weighted_sentence(result, result.ranked()[0]),
    }


def comparison(page: PageSource) -> Values:
    """The figure of all entries."""
    return {}


def cross_site(page: PageSource) -> Values:
    """What is lost from sources that were learnt from to a new one."""
    found = page.found("cross_site")
    is_asked = page.result.facts["split"]["kind"] == "leave-one-source-out"
    return {"cross_site": found} if found or is_asked else None


def leak(page: PageSource) -> Values:
    """What a random split would have claimed."""
    found = page.found("leak")
    return {"leak": found} if found else None


def differences(page: PageSource) -> Values:
    """The best against every other entry."""
    paired = page.found("paired")
    return {"paired": paired, "paired_rows": _PAIRED_ROWS} if paired else None


def splits(page: PageSource) -> Values:
    """How much figures vary from split to split."""
    found = page.found("splits")
    return {"splits": found} if found else None


def classes(page: PageSource) -> Values:
    """The best entry class by class."""
    found = page.found("classes")
    if not found:
        return None
    told = [metric for metric in CLASS_METRICS if any(not math.isnan(row[metric]["value"]) for row in found)]
    labels = {**LABELS, "f1": "F1"}
    return {"classes": found, "metrics": [(metric, labels.get(metric, metric.replace("_", " "))) for metric in told]}


def costs(page: PageSource) -> Values:
    """What mistakes cost, and what the entries' mistakes cost on average."""
    found = page.found("costs")
    return {"costs": found} if found else None


def promises(page: PageSource) -> Values:
    """What sets of classes cover, and what a risk that is held costs in referrals."""
    found = page.found("promises")
    return {"promises": found, "held": asked_of(found).held} if found else None


def null(page: PageSource) -> Values:
    """What permuted labels score."""
    found = page.found("null")
    return {"null": found} if found else None


def learning_curve(page: PageSource) -> Values:
    """What more subjects would bring."""
    found = page.found("learning_curve")
    return {"learning_curve": found} if found else None


def subgroups(page: PageSource) -> Values:
    """The best entry in each subgroup that was asked about."""
    found = page.found("subgroups")
    return {"subgroups": found} if found else None


def stress(page: PageSource) -> Values:
    """The same cells as worse images would show them."""
    found = page.result.findings.get("stress")
    if not found:
        return None
    return {
        "stress": found,
        "blocks": list(found["rows"][0]["blocks"]),
        "pictures": pictures(found, page.image_paths),
        "bounds": _bounds,
    }


def _bounds(figure: Mapping[str, float]) -> str:
    """``[0.81, 0.95]``."""
    return "no interval" if math.isnan(figure["low"]) else f"[{figure['low']:.2f}, {figure['high']:.2f}]"


def shortcuts(page: PageSource) -> Values:
    """Whether what is no part of the cells tells their class."""
    found = page.result.findings.get("shortcuts")
    return {"shortcuts": found} if found else None


def contributions(page: PageSource) -> Values:
    """What each block adds."""
    found = page.found("shapley")
    return {"contributions": found, "redundancy": page.found("redundancy")} if found else None


def importance(page: PageSource) -> Values:
    """What a model of all blocks relies on."""
    found = page.found("importance")
    return {"importance": found} if found else None


def probabilities(page: PageSource) -> Values:
    """Curves over thresholds and probabilities."""
    return {"has_roc": "roc" in page.figures, "is_by_site": bool(page.found("cross_site"))}


def errors(page: PageSource) -> Values:
    """What the best entry misclassifies, by class, subject and cell."""
    has_images = bool(page.image_paths) and page.result.judged == "cell"
    return {
        "subjects": [row for row in by_subject(page.judged) if row["wrong"]],
        "subjects_shown": SUBJECTS,
        "wrong": sum(cell.predicted != cell.label for cell in page.judged),
        "galleries": galleries(page.judged, page.image_paths) if has_images else [],
    }


def cell_map(page: PageSource) -> Values:
    """Where the cells lie by their first two principal components."""
    found = page.found("cell_map")
    return {"cell_map": found} if found else None


def training(page: PageSource) -> Values:
    """How networks were trained."""
    found = page.found("training")
    return {"training": found, "has_scores": has_scores(found)} if found else None


def flow(page: PageSource) -> Values:
    """What became of every image: found, left out, skipped and why, merged."""
    found = page.result.facts.get("flow")
    root = Path(page.result.facts["data"])
    faults = [fault_row(fault, root) for fault in page.result.faults]
    if not found and not faults:
        return None
    return {"flow": found, "faults": faults, "reasons": Counter(fault["reason"] for fault in faults).most_common(8)}


def figures(page: PageSource) -> Values:
    """Every metric of every entry."""
    result = page.result
    levels = {"image": f"{result.judged.title()} by {result.judged}"}
    if (unit := result.facts["unit"]) not in ("image", result.judged) and not result.without_subjects:
        levels |= {
            "subject": f"{unit.title()} by {unit} (mean probability of a {unit}'s cells)",
            "vote": f"{unit.title()} by {unit} (majority of a {unit}'s cells)",
        }
    left_out = left_out_metrics(result.figures[0])  # which the page's first sentences tell
    return {
        "rows": page.rows,
        "levels": levels,
        "class_metrics": [(metric, LABELS[metric]) for metric in _CLASS_METRICS if metric not in left_out],
        "probabilities": [(metric, LABELS[metric]) for metric in _PROBABILITIES if metric not in left_out],
        "has_classifiers": any(scores.classifier for scores in result.scores),
        "alike": subject_weighted_sentence(result, result.ranked()[0]),
        "prevalence": result.figures[0].get("prevalence", 0.5),
    }


def notes(page: PageSource) -> Values:
    """What the user should know."""
    return {} if page.result.notes else None


def making(page: PageSource) -> Values:
    """Methods, reporting sheet, configuration and versions."""
    return {
        "methods": methods_paragraphs(page.result),
        "sheet": reporting_sheet(page.result),
        "versions": versions(),
    }


#: The sections in their order; the list of contents stands after the first.
SECTIONS: tuple[Callable[[PageSource], Values], ...] = (
    answer,
    comparison,
    cross_site,
    leak,
    differences,
    splits,
    classes,
    costs,
    promises,
    null,
    learning_curve,
    subgroups,
    shortcuts,
    stress,
    contributions,
    importance,
    probabilities,
    errors,
    cell_map,
    figures,
    training,
    flow,
    notes,
    making,
)
