"""The sheet that journals ask for: items of TRIPOD+AI and CLAIM, filled as far as a result tells.

TRIPOD+AI: Collins et al. 2024, BMJ 385:e078378 (27 items).  CLAIM: Tejani et al. 2024, Radiology: AI 6(4):e240300 (the
update of 2024, 44 items). Numbers were held against lists of both (2026-11-29).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fusion.evaluation.results import Result
from fusion.reports._methods_text import methods_sentences

#: What stands where only the authors know.
FOR_AUTHORS = "for the authors"

#: What stands where an item was not asked of this run.
NOT_ASKED = "not done in this run"

#: Item of TRIPOD+AI, of CLAIM, what it asks, and the parts of the methods that answer it; () for the authors.
_ITEMS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("1, 2", "1, 2", "title and abstract", ()),
    ("3a-3c", "3", "background, intended use, known inequalities", ()),
    ("4", "4, 6", "objectives", ("aim",)),
    ("5a", "7", "sources of data", ("data",)),
    ("5b", "5", "dates; prospective or retrospective", ()),
    ("6a-6c", "8", "setting, eligibility, treatments", ()),
    ("-", "13", "how images were acquired", ()),
    ("7", "9", "preparation of the data", ("preparation",)),
    ("-", "10", "selection of data subsets", ("exclusions",)),
    ("-", "11", "de-identification", ()),
    ("8a-8c", "14-18", "what the labels mean, who gave them, how far they agree", ()),
    ("9a-9c", "-", "predictors", ("features",)),
    ("10", "21", "how the sample size came about", ()),
    ("11", "12", "missing and unreadable data", ("exclusions",)),
    ("12a", "19, 20", "how data were divided, and at which level parts are disjoint", ("partition",)),
    ("12b", "9", "handling of predictors", ("preparation",)),
    ("12c", "22, 24-27", "models, training and how parameters were chosen", ("classifiers",)),
    ("12g", "23", "software that predicts", ("software",)),
    ("12e", "28", "measures of performance", ("metrics",)),
    ("12e", "29", "uncertainty and significance", ("intervals", "comparisons")),
    ("12d, 14", "30", "sensitivity, heterogeneity and fairness", ("analyses",)),
    ("-", "31", "how predictions are explained", ()),
    ("12f, 24", "-", "updating of the model", ()),
    ("13", "-", "class imbalance", ("imbalance",)),
    ("15", "-", "output of the model, calibration and thresholds", ("decision",)),
    ("16", "33", "differences between training and evaluation; external data", ("external",)),
    ("17", "-", "ethical approval", ()),
    ("18a-18f", "34, 42-44", "funding, conflicts, protocol, registration, data and code", ()),
    ("19", "-", "involvement of patients and public", ()),
    ("20a, 21", "35", "numbers of cells and subjects", ("data", "exclusions")),
    ("20b, 20c", "36", "characteristics of the subjects", ()),
    ("22", "43", "where the full model is to be had", ()),
    ("23a", "32, 37, 38", "performance with intervals", ("performance",)),
    ("23b", "37", "performance by cluster", ("analyses",)),
    ("-", "39", "failures", ("failures",)),
    ("26", "40", "limitations that the result itself tells; others are for the authors", ("cautions",)),
    ("25, 27a-27c", "41", "interpretation, use and next steps", ()),
)


@dataclass(frozen=True)
class SheetRow:
    """An item of the sheet: its numbers, what it asks, and the answer; ``by_authors`` where a result cannot tell."""

    tripod: str
    claim: str
    item: str
    answer: str
    by_authors: bool


def reporting_sheet(result: Result) -> list[SheetRow]:
    """Every item of the sheet, in the order of TRIPOD+AI.

    Examples
    --------
    >>> [row.item for row in reporting_sheet(Result.load("comparison")) if row.by_authors]  # doctest: +SKIP
    ['title and abstract', ...]
    """
    said: Mapping[str, str] = {**methods_sentences(result), **_further(result)}
    rows = []
    for tripod, claim, item, parts in _ITEMS:
        answer = " ".join(said[part] for part in parts if said[part]) or (NOT_ASKED if parts else FOR_AUTHORS)
        rows.append(SheetRow(tripod, claim, item, answer, not parts))
    return rows


def _further(result: Result) -> dict[str, str]:
    """Answers that a paragraph of methods has no sentence for."""
    facts = result.facts
    classes, kind = facts["classes"], facts["split"]["kind"]
    shares = ", ".join(f"{name} {count / max(1, sum(classes.values())):.1%}" for name, count in classes.items())
    is_external = kind in ("external", "external test")
    external = "Cells of another data set than was learnt from; how far the two differ is for the authors."
    worst = result.figures[result.ranked()[0]]["confusion"]
    wrong = sum(count for row, counts in enumerate(worst) for column, count in enumerate(counts) if row != column)
    return {
        "imbalance": f"Shares of the cells judged: {shares}. Balanced accuracy weighs classes alike.",
        "external": external if is_external else "",
        "failures": f"{wrong} of {sum(map(sum, worst))} predictions of the best entry are wrong; report.html shows "
        "the confusion matrix, the subjects it does worst on and the cells it is most surely wrong about.",
    }
