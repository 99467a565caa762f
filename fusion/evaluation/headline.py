"""What a result says first: what its figures are about, the best once it was picked, and what was asked of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fusion.evaluation.result_differences import signed
from fusion.evaluation.results import LABELS, Result, interval, p_text
from fusion.metrics.absent_classes import left_out_figures, listed
from fusion.metrics.judgement import FEW_SUBJECTS, MODELS, PROCEDURE

#: Kinds of figures, the same words wherever one is shown.
KINDS = {
    MODELS: "these fitted models, on new subjects of this kind",
    PROCEDURE: "this way of building a model, trained anew on as many subjects of this kind",
}

#: Names that a sentence lists.
_LISTED = 5


def kind_sentence(result: Result) -> str:
    """``Figures are of the procedure: this way of building a model, ...``."""
    return f"Figures are of the {result.kind}: {KINDS[result.kind]}."


def subjects_sentence(result: Result) -> str:
    """``12 all and 12 hem subjects, which count as 11.4 and 9.8 for their unequal numbers of cells.``; "" where
    subjects are unknown or not judged."""
    figure = result.figures[0]["image"]["accuracy"]
    numbers, effective = figure["subjects"], figure["effective_subjects"]
    if result.unit == "image" or not numbers:
        return ""
    counts = listed([f"{number} {name}" for name, number in numbers.items()])
    unequal = any(effective[name] < number - 0.05 for name, number in numbers.items())
    counted = listed([f"{value:.1f}" for value in effective.values()])
    rest = f", which count as {counted} (Kish) since their numbers of cells differ" if unequal else ""
    return f"{counts} {result.unit}s{rest}."


def cautions(result: Result) -> list[str]:
    """What must be read with the figures of every entry: too few subjects, no interval."""
    notes = dict.fromkeys(figures["image"]["accuracy"]["note"] for figures in result.figures)
    rough = f": with fewer than {FEW_SUBJECTS} of a class, intervals are wide and figures rough"
    return [f"{note[0].upper()}{note[1:]}{rough if note.startswith('few') else ''}." for note in notes if note]


def class_sentences(result: Result, at: int) -> list[str]:
    """What one entry says of each class that is there, where others of the model's are not, and which figures are left
    out for it; [] where no class is absent."""
    figures = result.figures[at]
    absent, names = figures.get("absent", []), list(result.classes)
    if not absent:
        return []
    lines = []
    found = {row["class"]: row for row in result.findings.get("classes", ())}
    for name, counts in zip(names, figures["confusion"], strict=True):
        if name in absent:
            continue
        said = [f"{count} as {other}" for other, count in zip(names, counts, strict=True) if count and other != name]
        hits = counts[names.index(name)]
        line = f"{name}: {hits} of {sum(counts)} predicted as such{', ' if said else ''}{listed(said) if said else ''}"
        if at == result.ranked()[0] and name in found:
            row = found[name]
            line += f"; recall {interval(row['sensitivity'])}, mean probability {interval(row['mean_probability'])}"
        lines.append(f"{line}.")
    if left_out := left_out_metrics(figures):
        named = ", ".join(LABELS[metric] for metric in LABELS if metric in left_out)
        lines.append(f"Left out, since {next(iter(left_out.values()))}: {named}.")
    return lines


def left_out_metrics(figures: Mapping[str, Any]) -> dict[str, str]:
    """The metrics that cannot be told of the classes that are there, of one entry's figures, and why: one reason."""
    names, absent = figures["classes"], figures.get("absent", [])
    positive = None if figures["positive"] is None else names.index(figures["positive"])
    return left_out_figures(names, absent, positive)


def subject_weighted_sentence(result: Result, at: int) -> str:
    """Figures of an entry in which each subject counts alike; "" where subjects are of much the same size."""
    figures = result.figures[at]["image"]
    alike = {metric: figure["subject_weighted"] for metric, figure in figures.items() if "subject_weighted" in figure}
    if not alike:
        return ""
    listed = ", ".join(f"{LABELS[metric]} {interval(alike[metric])}" for metric in LABELS if metric in alike)
    return f"Where each {result.unit} counts alike, whatever its number of cells: {listed}."


def best_sentences(result: Result) -> list[str]:
    """The best of several entries, what is left of its figure once it was picked, and what cannot be told from it."""
    best = result.findings.get("best")
    if best is None or len(result.scores) < 2:
        return []
    count, kept = len(result.scores), best["not_distinguished"]
    corrected = {part: best[name] for part, name in (("value", "corrected"), ("low", "low"), ("high", "high"))}
    what = f"Best of {count}: {best['entry']}, balanced accuracy {best['value']:.3f}"
    lines = [f"{what} as measured, {interval(corrected)} corrected for being the best of {count} (BBC-CV)."]
    if math.isnan(best["corrected"]):
        lines = [f"{what} as measured; what picking it has added is not known."]
    if len(best["ties"]) > 1:
        lines.append(f"Tied with it: {_some([name for name in best['ties'] if name != best['entry']])}.")
    if len(kept) == 1:
        lines.append("Every other entry is told from it (family-wise error 5%).")
    else:
        lines.append(
            f"Not told from the best (family-wise error 5%): {len(kept)} of {count}, itself among them: {_some(kept)}."
        )
    return lines


def primary_sentences(result: Result) -> list[str]:
    """The comparison that was named beforehand, with what a margin says of it."""
    row = result.findings.get("primary")
    if row is None:
        return []
    found = row["balanced_accuracy"]
    lines = [
        f"Primary comparison, of the {found['kind']}: {row['first']} minus {row['second']}: balanced accuracy "
        f"{signed(found)}, p {p_text(found['p'])}; AUROC {signed(row['auroc'])}, p {p_text(row['auroc']['p'])}. "
        f"{_detectable(found)}"
    ]
    if "margin" in found:
        lines.append(_with_margin(row, found))
    return lines


def _with_margin(row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    margin = found["margin"]
    equivalent = "equivalent" if found["equivalence_p"] < 0.05 else "not shown to be equivalent"
    inferior = "not inferior" if found["non_inferiority_p"] < 0.05 else "not shown to be not inferior"
    return (
        f"Within a margin of {margin:g} of balanced accuracy the two are {equivalent} (p "
        f"{p_text(found['equivalence_p'])}), and {row['first']} is {inferior} (p {p_text(found['non_inferiority_p'])})."
    )


def _detectable(found: Mapping[str, Any]) -> str:
    if math.isnan(found["detectable"]):
        return "What difference could be found is not known."
    return f"A true difference of {found['detectable']:.3f} would be found in 80 of 100 such studies."


def _some(names: Sequence[str]) -> str:
    rest = f"; and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return "; ".join(names[:_LISTED]) + rest
