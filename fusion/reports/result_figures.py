"""The figures of a report, each drawn from a result alone."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.evaluation.curves import Curve, precision_curve, reliability_curve, roc_curve
from fusion.evaluation.results import Result
from fusion.evaluation.scores import entry_name
from fusion.reports._figure_style import Drawing, ends, height, in_lines, legend, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's palette, distinguished by colour-blind readers; with the marker shapes also on a grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "D", "^", "v", "P")

#: Entries shown in the figure of differences, the best ones; a page holds no more lines that can be read.
_SHOWN = 20

#: Entries in the matrix of differences: numbers of three places in eleven columns are no longer read.
_PAIRS = 10

#: Feature sets in the forest plot, the best ones.
_FOREST = 40


def forest_plot(result: Result, level: str = "image") -> Drawing:
    """Feature sets from best to worst by the main metric, a mark and an interval for each classifier; chance as a
    dashed line, where there are several classes."""
    from matplotlib.figure import Figure

    metric = result.main_metric
    ranked = result.ranked(level)
    every = list(dict.fromkeys(result.scores[at].features for at in ranked))
    sets = every[:_FOREST]
    names = [in_lines(" + ".join(features)) for features in sets]
    classifiers = list(dict.fromkeys(scores.classifier for scores in result.scores))
    figure = Figure(figsize=(7.5, 1.6 + len(sets) * max(0.42, height(names))), layout="constrained")
    axes = figure.subplots()
    numbers = []
    for at, scores in enumerate(result.scores):
        if scores.features not in sets:
            continue
        which = classifiers.index(scores.classifier)
        value = result.figures[at][level][metric]
        numbers.append({"features": " + ".join(scores.features), "classifier": scores.classifier, **ends(value)})
        # Classifiers of one feature set side by side, within three fifths of its line.
        y = sets.index(scores.features) + 0.6 * ((which + 0.5) / len(classifiers) - 0.5)
        colour, marker = COLOURS[which % len(COLOURS)], MARKERS[which % len(MARKERS)]
        axes.plot([value["low"], value["high"]], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(value["value"], y, marker, color=colour, markersize=5, label=scores.classifier)
    if result.only_class is None:
        _mark_chance(axes, 1 / len(result.classes))
    axes.set_yticks(range(len(sets)), names)
    axes.set_ylim(len(sets) - 0.5, -0.5)
    some = f"\nthe best {len(sets)} of {len(every)} sets" if len(sets) < len(every) else ""
    by = result.judged if level == "image" else level
    axes.set_xlabel(f"{result.main_label}, {by} by {by},\n95% interval by {result.unit}, of the {result.kind}{some}")
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    legend(figure, axes, classifiers)
    return Drawing(figure, numbers)


def _mark_chance(axes: Axes, chance: float) -> None:
    axes.axvline(chance, color="0.5", linewidth=1, linestyle="--")
    axes.annotate(
        "chance",
        (chance, 0),
        (4, 2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color="0.4",
        fontsize=8,
    )


def difference_plot(result: Result) -> Drawing | None:
    """How far the best entry is ahead of the next ones, with intervals; None where there is nothing to compare."""
    from matplotlib.figure import Figure

    rows = result.findings.get("paired", [])[:_SHOWN]
    if not rows:
        return None
    names = [in_lines(row["second"]) for row in rows]
    figure = Figure(figsize=(7.5, 1.2 + len(rows) * max(0.3, height(names))), layout="constrained")
    axes = figure.subplots()
    for at, row in enumerate(rows):
        value = row["balanced_accuracy"]
        sure = row["p_adjusted"] < 0.05
        axes.plot([value["low"], value["high"]], [at, at], color=COLOURS[0], linewidth=1.6, solid_capstyle="butt")
        axes.plot(value["value"], at, "o", color=COLOURS[0], markersize=5, markerfacecolor=COLOURS[0] if sure else "w")
    axes.axvline(0, color="0.5", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"balanced accuracy: the best minus this one,\nwith 95% interval, of the {result.kind}")
    plain(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    told = [{"against": row["second"], **ends(row["balanced_accuracy"]), "p_of_all": row["p_adjusted"]} for row in rows]
    return Drawing(figure, told)


#: Tint of the largest differences, light enough to read figures on, and the difference from which on it gets no deeper.
_DEEPEST, _WIDE = 0.55, 0.3


def difference_matrix(result: Result) -> Drawing | None:
    """Balanced accuracy of each of the best entries minus that of each worse one; None with fewer than three.

    The tint deepens with the difference; bold in a frame where the 95% interval of the difference leaves 0 out.
    """
    from matplotlib.figure import Figure

    entries = result.ranked()[:_PAIRS]
    if len(entries) < 3 or len(result.variations) < len(result.scores):
        return None
    names = [in_lines(f"{entry_name(result.scores[at])}  ({number})") for number, at in enumerate(entries, start=1)]
    side = max(0.36, height(names))
    figure = Figure(figsize=(7.5, 1.1 + len(entries) * side), layout="constrained")
    axes = figure.subplots()
    metric = ("image", "balanced_accuracy")
    numbers = []
    for row, better in enumerate(entries):
        for column in range(row + 1, len(entries)):
            worse = entries[column]
            value, other = (result.figures[at]["image"]["balanced_accuracy"]["value"] for at in (better, worse))
            varied = result.variations[better].combined([result.variations[worse]], (1.0, -1.0), metric)
            difference = varied.figure(value - other)
            sure = difference["low"] > 0 or difference["high"] < 0
            pair = {"better": entry_name(result.scores[better]), "worse": entry_name(result.scores[worse])}
            numbers.append(pair | ends({**difference, "value": value - other}))
            # The larger the difference the deeper the tint; what the interval tells apart is bold in a frame.
            depth = _DEEPEST * min(1.0, abs(value - other) / _WIDE)
            corners = ([column - 0.5, column + 0.5], row - 0.5, row + 0.5)
            axes.fill_between(*corners, facecolor=COLOURS[0], alpha=depth, lw=0)
            if sure:
                axes.fill_between(*corners, facecolor="none", edgecolor=COLOURS[1], lw=1.2)
            weight = "bold" if sure else "normal"
            axes.text(column, row, f"{value - other:.3f}", ha="center", va="center", fontsize=8, fontweight=weight)
    axes.set_xticks(range(1, len(entries)), [f"({number})" for number in range(2, len(entries) + 1)])
    axes.set_yticks(range(len(entries)), names)
    axes.set(xlim=(0.5, len(entries) - 0.5), ylim=(len(entries) - 0.5, -0.5))
    axes.set_xlabel(
        "balanced accuracy: the row's minus the column's\n"
        f"bold: 95% interval by {result.unit} leaves 0 out\n(not corrected for the number of pairs)"
    )
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return Drawing(figure, numbers)


def shapley_plot(result: Result) -> Drawing | None:
    """What each block adds to balanced accuracy, a bar and an interval for each classifier; None where not all subsets
    were compared."""
    from matplotlib.figure import Figure

    estimates = [
        contributions
        for contributions in result.findings.get("shapley", ())
        if contributions["metric"] == "balanced_accuracy"
    ]
    if not estimates:
        return None
    # Classifiers may have been compared on blocks of their own.
    blocks = list(dict.fromkeys(row["block"] for contributions in estimates for row in contributions["blocks"]))
    figure = Figure(figsize=(7.5, 1.3 + 0.2 * len(blocks) * (1 + len(estimates))), layout="constrained")
    axes = figure.subplots()
    thick = 0.8 / len(estimates)
    for which, contributions in enumerate(estimates):
        own = np.array([blocks.index(row["block"]) for row in contributions["blocks"]])
        y = own + thick * (which + 0.5) - 0.4
        values = np.array(
            [[row["shapley"][part] for part in ("value", "low", "high")] for row in contributions["blocks"]]
        )
        axes.barh(y, values[:, 0], 0.85 * thick, color=COLOURS[which % len(COLOURS)], label=contributions["classifier"])
        for at, (_, low, high) in zip(y, values, strict=True):
            axes.plot([low, high], [at, at], color="0.15", linewidth=1.2, solid_capstyle="butt")
    axes.axvline(0, color="0.5", linewidth=1)
    axes.set_yticks(range(len(blocks)), blocks)
    axes.set_ylim(len(blocks) - 0.5, -0.5)
    axes.set_xlabel(f"Shapley value: what a block adds to balanced accuracy, 95% interval by {result.unit}")
    plain(axes, grid="x")
    figure.legend(loc="outside upper left", ncols=len(estimates), frameon=False)
    rows = [(found["classifier"], row) for found in estimates for row in found["blocks"]]
    return Drawing(figure, [{"classifier": name, "block": row["block"], **ends(row["shapley"])} for name, row in rows])


def roc_plot(result: Result) -> Drawing | None:
    """ROC of each classifier's best entry, the best of all with its band; of more than two classes, the best entry's of
    each class against the rest, the first with its band. None where all cells are of one class."""
    if result.only_class is not None:
        return None
    if result.positive is None:
        best = result.ranked()[0]
        of_classes = {
            f"{name} against the rest": roc_curve(result, best, name) for name in _present(result)[: len(COLOURS)]
        }
        return _squares(of_classes, "1 - specificity", "sensitivity", diagonal="chance")
    curves = {entry_name(result.scores[at]): roc_curve(result, at) for at in _best_of_each(result)}
    return _squares(curves, "1 - specificity", f"sensitivity ('{result.positive}')", diagonal="chance")


def precision_plot(result: Result) -> Drawing | None:
    """Precision and recall of each classifier's best entry, the best with its band; of more than two classes, the best
    entry's of each class against the rest, the first with its band. None where all cells are of one class."""
    if result.only_class is not None:
        return None
    if result.positive is None:
        best = result.ranked()[0]
        of_classes = {
            f"{name} against the rest": precision_curve(result, best, name) for name in _present(result)[: len(COLOURS)]
        }
        return _squares(of_classes, "sensitivity, recall of the class", "precision")
    curves = {entry_name(result.scores[at]): precision_curve(result, at) for at in _best_of_each(result)}
    labels = [label for label in result.cells.y if label is not None]
    chance = labels.count(result.positive) / len(labels)
    return _squares(curves, f"sensitivity, recall of '{result.positive}'", "precision", diagonal="chance", level=chance)


def reliability_plot(result: Result) -> Drawing | None:
    """How often a probability holds what it says, for each classifier's best entry, the best of all with its band. None
    where all cells are of one of two classes: then it is always right, or never."""
    if result.only_class is not None and result.positive is not None:
        return None
    curves = {entry_name(result.scores[at]): reliability_curve(result, at) for at in _best_of_each(result)}
    what = f"probability of '{result.positive}'" if result.positive else "highest probability"
    share = f"share of '{result.positive}'" if result.positive else "share of right calls"
    return _squares(curves, what, share, diagonal="calibrated", marked=True)


def _present(result: Result) -> list[str]:
    """The classes that cells are of."""
    return [name for name in result.classes if name in set(result.cells.y)]


def render(figure: Figure, kind: str) -> bytes:
    """The figure as "svg" or "png"; the same figure gives the same bytes."""
    from matplotlib import rc_context

    sink = BytesIO()
    # A fixed salt and no date: the same result gives the same bytes. Text stays text, to be searched and copied.
    # Without format and type the whole block of metadata goes, which names nothing but namespaces.
    bare = dict.fromkeys(("Date", "Creator", "Format", "Type")) if kind == "svg" else None
    with rc_context({"svg.hashsalt": "fusion", "svg.fonttype": "none"}):
        figure.savefig(sink, format=kind, dpi=160, metadata=bare)
    return sink.getvalue()


def _best_of_each(result: Result) -> list[int]:
    """The best entry of every classifier, the best of all first."""
    first: dict[str, int] = {}
    for at in result.ranked():
        first.setdefault(result.scores[at].classifier, at)
    return list(first.values())[: len(COLOURS)]


def _squares(
    curves: dict[str, Curve],
    across: str,
    up: str,
    *,
    diagonal: str = "",
    marked: bool = False,
    level: float | None = None,
) -> Drawing:
    """Curves in a square, with a dashed line called ``diagonal``, at ``level`` where there is one; none called ""."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.6 + 0.22 * len(curves)), layout="constrained")
    axes = figure.subplots()
    if level is None and diagonal:
        axes.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle="--")
        axes.annotate(diagonal, (0.97, 0.95), ha="right", va="top", rotation=45, color="0.4", fontsize=8)
    elif level is not None:
        axes.axhline(level, color="0.5", linewidth=1, linestyle="--")
        axes.annotate(diagonal, (0.02, level), ha="left", va="bottom", color="0.4", fontsize=8)
    for at, (name, curve) in enumerate(curves.items()):
        colour: dict[str, Any] = {"color": COLOURS[at]}
        if at == 0:
            axes.fill_between(curve.x, curve.low, curve.high, alpha=0.2, linewidth=0, **colour)
        style = {"marker": MARKERS[at], "markersize": 4} if marked else {"linestyle": ("-", "--", "-.", ":")[at % 4]}
        axes.plot(curve.x, curve.y, linewidth=1.6, label=name, **colour, **style)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=across, ylabel=up, aspect="equal")
    plain(axes, grid="both")
    figure.legend(loc="outside upper left", frameon=False, fontsize=8)
    numbers = [
        {"curve": name, "x": x, "y": y, "low": low, "high": high}
        for name, curve in curves.items()
        for x, y, low, high in zip(curve.x, curve.y, curve.low, curve.high, strict=True)
    ]
    return Drawing(figure, numbers)
