"""Figures and the page: one self-contained HTML file that opens from disk and prints well."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.files import write_atomically
from fusion.results import LABELS, METRICS, Result, describe_split, fault_row, interval, versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe and Ito's palette, told apart by colour-blind readers; with the marker shapes also on a grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "D", "^", "v", "P")


def write_report(result: Result, folder: Path) -> None:
    """Write ``comparison.png``, ``comparison.svg`` and ``report.html`` into the result's folder."""
    figure = forest_plot(result)
    vector = _render(figure, "svg")
    write_atomically(folder / "comparison.png", _render(figure, "png"))
    write_atomically(folder / "comparison.svg", vector)
    write_atomically(folder / "report.html", page(result, vector.decode()).encode())


def forest_plot(result: Result, level: str = "image", metric: str = "balanced_accuracy") -> Figure:
    """Feature sets from best to worst, a mark and an interval for each classifier, chance as a dashed line."""
    from matplotlib.figure import Figure

    ranked = result.ranked(level, metric)
    sets = list(dict.fromkeys(result.scores[at].features for at in ranked))
    classifiers = list(dict.fromkeys(scores.classifier for scores in result.scores))
    figure = Figure(figsize=(7.5, 1.6 + 0.42 * len(sets)), layout="constrained")
    axes = figure.subplots()
    for at, scores in enumerate(result.scores):
        which = classifiers.index(scores.classifier)
        value = result.figures[at][level][metric]
        # Classifiers of one feature set side by side, within three fifths of its line.
        y = sets.index(scores.features) + 0.6 * ((which + 0.5) / len(classifiers) - 0.5)
        colour, marker = COLOURS[which % len(COLOURS)], MARKERS[which % len(MARKERS)]
        axes.plot([value["low"], value["high"]], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(value["value"], y, marker, color=colour, markersize=5, label=scores.classifier)
    chance = 1 / len(result.classes)
    axes.axvline(chance, color="0.5", linewidth=1, linestyle="--")
    axes.annotate("chance", (chance, 0), (4, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
                  color="0.4", fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(sets)), [" + ".join(features) for features in sets])
    axes.set_ylim(len(sets) - 0.5, -0.5)
    axes.set_xlabel(f"{LABELS[metric]}, {level} level, 95% interval by {result.unit}")
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    handles, names = axes.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    ordered = [name for name in classifiers if name in unique]
    figure.legend(
        [unique[name] for name in ordered], ordered, loc="outside upper left", ncols=len(ordered), frameon=False
    )
    return figure


def page(result: Result, figure_svg: str) -> str:
    """The report as HTML text, with everything it shows inside it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fusion"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    svg = figure_svg[figure_svg.index("<svg") :]  # without the XML head, which has no place inside a page
    return environment.get_template("report.html").render(
        result=result,
        split=describe_split(result.facts),
        rows=[_row(result, at) for at in result.ranked()],
        metrics=[(metric, LABELS[metric]) for metric in METRICS],
        best=_row(result, result.ranked()[0]),
        interval=interval,
        figure=svg,
        faults=[fault_row(fault, Path(result.facts["data"])) for fault in result.faults],
        versions=versions(),
    )


def _row(result: Result, at: int) -> dict[str, Any]:
    scores, figures = result.scores[at], result.figures[at]
    return {
        "features": " + ".join(scores.features),
        "classifier": scores.classifier,
        "image": figures["image"],
        "subject": figures["subject"],
    }


def _render(figure: Figure, kind: str) -> bytes:
    from matplotlib import rc_context

    sink = BytesIO()
    # A fixed salt and no date: the same result gives the same bytes. Text stays text, to be searched and copied.
    # Without format and type the whole block of metadata goes, which names nothing but namespaces.
    bare = dict.fromkeys(("Date", "Creator", "Format", "Type")) if kind == "svg" else None
    with rc_context({"svg.hashsalt": "fusion", "svg.fonttype": "none"}):
        figure.savefig(sink, format=kind, dpi=160, metadata=bare)
    return sink.getvalue()
