"""The page: one self-contained HTML file that opens from disk and prints well, and the table for a paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.data.dataset import fault_row
from fusion.evaluation.headline import (
    best_sentences,
    cautions,
    kind_sentence,
    primary_sentences,
    subject_weighted_sentence,
    subjects_sentence,
)
from fusion.evaluation.result_differences import signed
from fusion.evaluation.result_tables import METRICS
from fusion.evaluation.results import LABELS, Result, describe_split, interval, p_text
from fusion.evaluation.scores import entry_name
from fusion.io.output_files import write_output
from fusion.reports import _analysis_figures, _cross_site_figures, result_figures
from fusion.reports._hardest_cells import SUBJECTS, JudgedCell, Places, by_subject, hardest, judged_cells, with_images
from fusion.reports._methods_page import methods_markdown, methods_paragraphs
from fusion.reports._page_frame import with_contents, with_page_colours
from fusion.reports._reporting_sheet import reporting_sheet
from fusion.versions import versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Name of a figure's file -> what it shows, for readers who do not see it.
DRAWN = {
    "comparison": "Balanced accuracy of every feature set with its 95% interval",
    "differences": "How far the best is ahead of each other entry, with 95% intervals",
    "matrix": "How far each of the best entries is ahead of each worse one",
    "shapley": "Shapley value of every block with its 95% interval",
    "roc": "ROC curves on held-out cells",
    "precision": "Precision-recall curves on held-out cells",
    "reliability": "Reliability of the probabilities on held-out cells",
    "selective_prediction": "Selective prediction: balanced accuracy over coverage",
    "learning_curve": "Balanced accuracy over the subjects that are learnt from",
}

#: Metrics of the main table, and of the one on probabilities.
_CLASS_METRICS = METRICS[:11]
_PROBABILITIES = METRICS[11:]

#: Columns of the table for a paper.
_PAPER = ("balanced_accuracy", "auroc", "sensitivity", "specificity", "f1_weighted", "mcc")

#: Rows of paired differences on the page; all of them are in result.json.
_PAIRED_ROWS = 40


def write_report(result: Result, folder: Path, image_paths: Places | None = None) -> None:
    """Write ``report.html``, ``methods.md``, ``table.tex``, every figure as SVG and ``comparison.png`` into a folder.

    ``image_paths`` are the samples by name, for the images of cells on the page.
    """
    drawn = draw(result)
    write_output(folder / "comparison.png", result_figures.render(_comparison(result), "png"))
    for name, vector in drawn.items():
        write_output(folder / f"{name}.svg", vector.encode())
    write_output(folder / "table.tex", table_tex(result).encode())
    write_output(folder / "methods.md", methods_markdown(result).encode())
    write_output(folder / "report.html", page(result, drawn, image_paths).encode())


def draw(result: Result) -> dict[str, str]:
    """Name -> SVG of every figure that this result has."""
    made = {
        "comparison": _comparison(result),
        "differences": result_figures.difference_plot(result),
        "matrix": result_figures.difference_matrix(result),
        "shapley": result_figures.shapley_plot(result),
        "roc": result_figures.roc_plot(result),
        "precision": result_figures.precision_plot(result),
        "reliability": result_figures.reliability_plot(result),
        "selective_prediction": _cross_site_figures.risk_coverage_plot(result),
        "learning_curve": _analysis_figures.learning_curve_plot(result),
    }
    return {name: result_figures.render(figure, "svg").decode() for name, figure in made.items() if figure is not None}


def _comparison(result: Result) -> Figure:
    """The forest plot; where sources were left out, with a column for what is achieved inside them and for the drop."""
    return _cross_site_figures.cross_site_plot(result) or result_figures.forest_plot(result)


def page(result: Result, drawn: Mapping[str, str], image_paths: Places | None = None) -> str:
    """The report as HTML text, with everything it shows inside it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fusion.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    # Without the XML head, which has no place inside a page.
    svg = {name: with_page_colours(vector[vector.index("<svg") :]) for name, vector in drawn.items()}
    levels = {"image": "Cell by cell"}
    unit = result.facts["unit"]
    if unit != "image" and not result.without_subjects:
        levels |= {
            "subject": f"{unit.title()} by {unit} (mean probability of a {unit}'s cells)",
            "vote": f"{unit.title()} by {unit} (majority of a {unit}'s cells)",
        }
    judged = judged_cells(result)
    text = environment.get_template("report.html").render(
        result=result,
        split=describe_split(result.facts),
        rows=[_row(result, at) for at in result.ranked()],
        levels=levels,
        confusions=_confusions(result, judged),
        subjects=[row for row in by_subject(judged) if row["wrong"]],
        subjects_shown=SUBJECTS,
        wrong=sum(cell.predicted != cell.label for cell in judged),
        hardest=with_images(hardest(judged), image_paths or {}),
        class_metrics=[(metric, LABELS[metric]) for metric in _CLASS_METRICS],
        probabilities=[(metric, LABELS[metric]) for metric in _PROBABILITIES],
        best=_row(result, result.ranked()[0]),
        interval=interval,
        signed=signed,
        p_text=p_text,
        figure=svg,
        drawn=DRAWN,
        paired=result.findings.get("paired", []),
        headline=best_sentences(result),
        has_classifiers=any(scores.classifier for scores in result.scores),
        primary=primary_sentences(result),
        kind=kind_sentence(result),
        who=subjects_sentence(result),
        cautions=cautions(result),
        alike=subject_weighted_sentence(result, result.ranked()[0]),
        paired_rows=_PAIRED_ROWS,
        contributions=result.findings.get("shapley", []),
        importance=result.findings.get("importance", []),
        redundancy=result.findings.get("redundancy", []),
        leak=result.findings.get("leak"),
        classes=result.findings.get("classes"),
        null=result.findings.get("null"),
        splits=result.findings.get("splits", []),
        learning_curve=result.findings.get("learning_curve"),
        subgroups=result.findings.get("subgroups", []),
        cross_site=result.findings.get("cross_site"),
        prevalence=result.figures[0].get("prevalence", 0.5),
        faults=[fault_row(fault, Path(result.facts["data"])) for fault in result.faults],
        versions=versions(),
        methods=methods_paragraphs(result),
        sheet=reporting_sheet(result),
    )
    return with_contents(text)


def _confusions(result: Result, judged: Sequence[JudgedCell]) -> list[tuple[str, list[list[int]]]]:
    """Title and counts, a row for each true and a column for each predicted class, of cells and of whole subjects."""
    classes = list(result.classes)

    def counts(pairs: Iterable[tuple[str, str]]) -> list[list[int]]:
        found = np.zeros((len(classes), len(classes)), int)
        for label, predicted in pairs:
            found[classes.index(label), classes.index(predicted)] += 1
        return found.tolist()

    tables = [("cells", counts((cell.label, cell.predicted) for cell in judged))]
    if (unit := result.facts["unit"]) != "image" and not result.without_subjects:
        # The class predicted for most of a subject's cells; of equals the first.
        rows = by_subject(judged)
        predicted = []
        for row in rows:
            class_metrics = {**row["as"], row["label"]: row["cells"] - row["wrong"]}
            predicted.append((row["label"], max(classes, key=lambda label: class_metrics.get(label, 0))))
        tables.append((f"{unit}s, by the majority of their cells", counts(predicted)))
    return tables


def table_tex(result: Result) -> str:
    """The table of a paper (booktabs): best first, cell by cell, each figure with its interval below it."""
    columns = "ll" + "r" * len(_PAPER)
    head = " & ".join(["features", "classifier", *(_escape(LABELS[metric]) for metric in _PAPER)])
    stamps = [f"% {stamp}" for stamp in result.stamps]
    lines = [*stamps, rf"\begin{{tabular}}{{{columns}}}", r"\toprule", rf"{head} \\", r"\midrule"]
    for at in result.ranked():
        row, figures_ = _row(result, at), result.figures[at]["image"]
        values, bounds = [], []
        for metric in _PAPER:
            value, _, bound = interval(figures_[metric]).partition(" ")
            values.append(value)
            bounds.append(rf"{{\scriptsize {bound.replace(', ', '--')}}}" if bound else "")
        lines.append(" & ".join([_escape(row["features"]), _escape(row["classifier"]), *values]) + r" \\")
        lines.append(" & ".join(["", "", *bounds]) + r" \\")
    note = f"Held-out cells, {describe_split(result.facts)}; 95\\% intervals over {result.unit}s. "
    note += " ".join([_escape(kind_sentence(result)), *(_escape(sentence) for sentence in best_sentences(result))])
    # A stamp must go wherever the figures go.
    note = "; ".join([note.rstrip("."), *(_escape(stamp) for stamp in result.stamps)]) + "."
    lines += [r"\bottomrule", r"\end{tabular}", "", rf"\par\footnotesize {note}"]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return "".join(rf"\{letter}" if letter in "&%$#_{}" else letter for letter in text)


def _row(result: Result, at: int) -> dict[str, Any]:
    scores, held = result.scores[at], result.figures[at]
    return {
        "name": entry_name(scores),
        "features": " + ".join(scores.features),
        "classifier": scores.classifier,
        **{level: held[level] for level in ("image", "subject", "vote")},
    }
