"""The page: one self-contained HTML file that opens from disk and prints well, and the table for a paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fusion.data.dataset import Dataset
from fusion.evaluation.headline import best_sentences, kind_sentence
from fusion.evaluation.result_differences import signed
from fusion.evaluation.results import LABELS, Result, describe_split, interval, p_text
from fusion.io.csv_text import csv_bytes
from fusion.io.output_files import write_output
from fusion.reports import _analysis_figures, _cell_figures, _cross_site_figures, result_figures
from fusion.reports._figure_style import Drawing
from fusion.reports._methods_page import methods_markdown
from fusion.reports.page.frame import with_contents, with_page_colours
from fusion.reports.page.judged_cells import Places
from fusion.reports.page.sections import SECTIONS, PageSource, entry_row

#: Name of a figure's file -> what it shows, for readers who do not see it.
DRAWN = {
    "comparison": "Performance of every feature set with its 95% interval",
    "differences": "How far the best is ahead of each other entry, with 95% intervals",
    "matrix": "How far each of the best entries is ahead of each worse one",
    "shapley": "Shapley value of every block with its 95% interval",
    "roc": "ROC curves of held-out scores",
    "precision": "Precision-recall curves of held-out scores",
    "reliability": "Reliability of held-out probabilities",
    "selective_prediction": "Selective prediction: performance over coverage",
    "learning_curve": "Balanced accuracy over the subjects that are learnt from",
    "confusion": "What is predicted of every class, with shares of the class",
    "cell_map": "The cells by their first two principal components, coloured by what is known of them",
    "training": "Loss and score of every epoch of the networks, a line for each fold",
}

#: Columns of the table for a paper.
_PAPER = ("balanced_accuracy", "auroc", "sensitivity", "specificity", "f1_weighted", "mcc")


@dataclass(frozen=True)
class Drawn:
    """A figure as the text of an SVG file, and its numbers as that of a CSV file."""

    svg: str
    csv: str


def write_report(result: Result, folder: Path, image_paths: Places | None = None) -> None:
    """Write ``report.html``, ``methods.md``, ``table.tex``, and every figure, as SVG and with its numbers as CSV, into
    a folder; and ``comparison.png``.

    ``image_paths`` are the samples by name, for the images of cells on the page.
    """
    drawn = draw(result)
    write_output(folder / "comparison.png", result_figures.render(_comparison(result).figure, "png"))
    for name, each in drawn.items():
        write_output(folder / "figures" / f"{name}.svg", each.svg.encode())
        write_output(folder / "figures" / f"{name}.csv", each.csv.encode())
    write_output(folder / "table.tex", table_tex(result).encode())
    write_output(folder / "methods.md", methods_markdown(result).encode())
    write_output(folder / "report.html", page(result, drawn, image_paths).encode())


def write_result(result: Result, folder: Path, root: Path, dataset: Dataset) -> None:
    """Save a result, and write its page with the images of its cells.

    Parameters
    ----------
    root : images in faults are named relative to it.
    dataset : where the judged cells are from.
    """
    result.save(folder, root)
    write_report(result, folder, {dataset.name_of(sample): sample for sample in dataset.samples})


def draw(result: Result) -> dict[str, Drawn]:
    """Name -> what is drawn, of every figure that this result has."""
    import pandas as pd

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
        "confusion": _cell_figures.confusion_plot(result),
        "cell_map": _cell_figures.cell_map_plot(result),
        "training": _cell_figures.training_plot(result),
    }
    return {
        name: Drawn(
            result_figures.render(drawing.figure, "svg").decode(), csv_bytes(pd.DataFrame(drawing.numbers)).decode()
        )
        for name, drawing in made.items()
        if drawing is not None
    }


def _comparison(result: Result) -> Drawing:
    """The forest plot; where sources were left out, with a column for what is achieved inside them and for the drop."""
    return _cross_site_figures.cross_site_plot(result) or result_figures.forest_plot(result)


def page(result: Result, drawn: Mapping[str, Drawn], image_paths: Places | None = None) -> str:
    """The report as HTML text, with everything it shows inside it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("fusion.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    source = PageSource(result, list(drawn), image_paths or {})
    common = {
        "result": result,
        "best": source.rows[0],
        "interval": interval,
        "signed": signed,
        "p_text": p_text,
        # Without the XML head, which has no place inside a page.
        "figure": {name: with_page_colours(each.svg[each.svg.index("<svg") :]) for name, each in drawn.items()},
        "numbers": {name: each.csv for name, each in drawn.items()},
        "drawn": DRAWN,
    }
    macros = environment.get_template("macros.html").make_module(common)
    common |= {name: getattr(macros, name) for name in ("show", "cell", "gap")}
    parts = []
    for section in SECTIONS:
        if (values := section(source)) is not None:
            fragment = environment.get_template(f"sections/{section.__name__}.html")
            parts.append(Markup(fragment.render(common | dict(values))))
    title = "comparison of feature sets" if len(result.scores) > 1 else "a model on cells it has not seen"
    return with_contents(environment.get_template("report.html").render(title=title, parts=parts))


def table_tex(result: Result) -> str:
    """The table of a paper (booktabs): best first, cell by cell, each figure with its interval below it."""
    columns = "ll" + "r" * len(_PAPER)
    head = " & ".join(["features", "classifier", *(_escape(LABELS[metric]) for metric in _PAPER)])
    stamps = [f"% {stamp}" for stamp in result.stamps]
    lines = [*stamps, rf"\begin{{tabular}}{{{columns}}}", r"\toprule", rf"{head} \\", r"\midrule"]
    for at in result.ranked():
        row, figures_ = entry_row(result, at), result.figures[at]["image"]
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
