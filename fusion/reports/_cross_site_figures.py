"""Figures of cross-site generalisation: internal beside external validation, and selective prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusion.evaluation.results import Result
from fusion.reports._figure_style import Drawing, ends, height, in_lines, legend, plain
from fusion.reports.result_figures import COLOURS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Feature sets in the figure, the best ones, as in the forest plot.
_FOREST = 40


def cross_site_plot(result: Result) -> Drawing | None:
    """Feature sets from best to worst in three columns: balanced accuracy in the source, across sources, and the drop;
    a mark and a 95% interval for each classifier. None where no source was left out."""
    from matplotlib.figure import Figure

    cross_site_findings = result.findings.get("cross_site")
    if cross_site_findings is None:
        return None
    every = list(dict.fromkeys(result.scores[at].features for at in result.ranked()))
    sets = every[:_FOREST]
    names = [in_lines(" + ".join(features)) for features in sets]
    classifiers = list(dict.fromkeys(scores.classifier for scores in result.scores))
    figure = Figure(figsize=(10, 1.7 + len(sets) * max(0.42, height(names))), layout="constrained")
    columns = figure.subplots(1, 3, sharey=True)
    titles = {"internal": "in the source", "external": "across sources", "drop": "drop"}
    for axes, (part, title) in zip(columns, titles.items(), strict=True):
        _draw_column(axes, part, cross_site_findings["rows"], sets, classifiers)
        axes.axvline(0 if part == "drop" else 1 / len(result.classes), color="0.5", linewidth=1, linestyle="--")
        axes.set_title(title, fontsize=10, loc="left")
    # Both columns on one scale: what lies further left is worse by what it looks like.
    limits = [axes.get_xlim() for axes in columns[:2]]
    for axes in columns[:2]:
        axes.set_xlim(min(one[0] for one in limits), max(one[1] for one in limits))
    columns[0].annotate(
        "chance",
        (1 / len(result.classes), 0),
        (4, 2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color="0.4",
        fontsize=8,
    )
    columns[0].set_yticks(range(len(sets)), names)
    columns[0].set_ylim(len(sets) - 0.5, -0.5)
    some = f"; the best {len(sets)} of {len(every)} sets" if len(sets) < len(every) else ""
    judged = f"{result.judged} by {result.judged}, on the same {result.judged}s"
    figure.supxlabel(f"balanced accuracy, {judged}; 95% interval by {result.unit}{some}", fontsize=10)
    legend(figure, columns[0], classifiers)
    numbers = [
        {
            "features": " + ".join(row["features"]),
            "classifier": row["classifier"],
            "validation": part,
            **ends(row[part]),
        }
        for row in cross_site_findings["rows"]
        for part in titles
    ]
    return Drawing(figure, numbers)


def _draw_column(
    axes: Axes,
    part: str,
    rows: Sequence[Mapping[str, Any]],
    sets: Sequence[tuple[str, ...]],
    classifiers: Sequence[str],
) -> None:
    """Mark and interval of every set and classifier, of one kind of validation."""
    for row in rows:
        if tuple(row["features"]) not in sets:
            continue
        which = classifiers.index(row["classifier"])
        value = row[part]
        y = sets.index(tuple(row["features"])) + 0.6 * ((which + 0.5) / len(classifiers) - 0.5)
        colour, marker = COLOURS[which % len(COLOURS)], MARKERS[which % len(MARKERS)]
        axes.plot([value["low"], value["high"]], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(value["value"], y, marker, color=colour, markersize=5, label=row["classifier"])
    plain(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)


def risk_coverage_plot(result: Result) -> Drawing | None:
    """The main metric over the share of cells answered (coverage), a line for each classifier's best entry, the best
    with its band; None where nothing is known of it."""
    from matplotlib.figure import Figure

    rows = result.findings.get("selective_prediction", [])[: len(COLOURS)]
    if not rows:
        return None
    figure = Figure(figsize=(4.6, 4.6 + 0.22 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for at, row in enumerate(rows):
        colour = COLOURS[at]
        if at == 0:
            axes.fill_between(row["share"], row["low"], row["high"], alpha=0.2, linewidth=0, color=colour)
        how = "the surest first" if row["order"] == "confidence" else "the nearest to the training cells first"
        name = f"{' + '.join(row['features'])}, {row['classifier']}: {how}"
        style = ("-", "--", "-.", ":")[at % 4]
        values = row[result.main_metric]
        axes.plot(row["share"], values, color=colour, linewidth=1.6, linestyle=style, label=in_lines(name))
    lowest = axes.get_ylim()[0]
    if result.only_class is None:  # a class alone is recognised by whoever always says it
        chance = 1 / len(result.classes)
        axes.axhline(chance, color="0.5", linewidth=1, linestyle="--")
        axes.annotate("chance", (0.01, chance), ha="left", va="bottom", color="0.4", fontsize=8)
        lowest = min(chance, lowest)
    axes.set(xlim=(0, 1.01), ylim=(lowest - 0.02, 1.01))
    axes.set(xlabel=f"share of {result.judged}s answered (coverage)", ylabel=f"{result.main_label} of those answered")
    plain(axes, grid="both")
    figure.legend(loc="outside upper left", frameon=False, fontsize=8)
    numbers = [
        {"features": " + ".join(row["features"]), "classifier": row["classifier"], "order": row["order"], **point}
        for row in rows
        for point in _points(row, result.main_metric)
    ]
    return Drawing(figure, numbers)


def _points(row: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """The points of one curve of a metric."""
    columns = {"coverage": "share", "value": metric, "low": "low", "high": "high"}
    return [
        dict(zip(columns, point, strict=True)) for point in zip(*(row[name] for name in columns.values()), strict=True)
    ]
