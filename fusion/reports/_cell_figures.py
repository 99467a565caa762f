"""Figures of single cells taken together: confusions, the map of the cells, and how networks were trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.results import Result
from fusion.learning.run import has_scores
from fusion.reports._figure_style import Drawing, in_lines, plain
from fusion.reports.page.judged_cells import confusions, judged_cells
from fusion.reports.result_figures import COLOURS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Further colours, for classes and sources beyond the palette's six.
_MORE = ("#999999", "#F0E442", "#7F3C8D", "#11A579", "#3969AC", "#80BA5A")

#: Names of a panel's legend; of more groups each has a colour and none a name.
_NAMED = 12

#: Points up to which those of a map hardly hide each other: fewer are less transparent, which in the dark is seen.
_FEW = 60

#: Cells from which on a map's points are drawn as an image: a page of 9,000 vector marks is a megabyte.
_AS_IMAGE = 1000

#: Panels of trainings, and networks (folds) with a line in each.
_TRAININGS = 6


def confusion_plot(result: Result) -> Drawing:
    """What the best entry predicts of every class: counts, and their share of the class; cells and whole subjects."""
    from matplotlib.figure import Figure

    tables = confusions(result, judged_cells(result))
    names = list(result.classes)
    side = max(0.62, 0.075 * max(map(len, names)))
    size = 0.9 + side * len(names)
    figure = Figure(figsize=(max(3.2, size + 0.4) * len(tables), size + 0.7), layout="constrained")
    numbers = []
    for axes, (title, counts) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables, strict=True):
        for row, label in enumerate(names):
            total = sum(counts[row])
            for column, predicted in enumerate(names):
                count = counts[row][column]
                share = count / total if total else 0.0
                numbers.append(
                    {"of": title, "class": label, "predicted": predicted, "count": count, "share": round(share, 4)}
                )
                colour = COLOURS[0] if row == column else COLOURS[1]
                axes.fill_between(
                    [column - 0.5, column + 0.5], row - 0.5, row + 0.5, facecolor=colour, alpha=0.55 * share, lw=0
                )
                text = f"{count}\n{share:.0%}" if total else "-"
                axes.text(column, row, text, ha="center", va="center", fontsize=9)
        _frame(axes, names, title)
    return Drawing(figure, numbers)


def _frame(axes: Axes, names: Sequence[str], title: str) -> None:
    """Names of classes on both sides of a square of them."""
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
    axes.set_xticks(range(len(names)), names)
    if len(names) > 3:
        axes.tick_params(axis="x", labelrotation=35)
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=9)
    axes.set_xlabel("predicted", fontsize=9)
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("class", fontsize=9)
    axes.set_title(title, fontsize=9, y=-0.04, va="top", pad=0)
    axes.set_xticks(np.arange(0.5, len(names) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(names) - 1), minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)


def cell_map_plot(result: Result) -> Drawing | None:
    """The cells by their first two principal components, once by class, by subject and by source, where these are
    known; None where there is no map."""
    from matplotlib.figure import Figure

    found = result.findings.get("cell_map")
    if not found:
        return None
    rows = [int(row) for row, _, _ in found["points"]]
    places = np.array([[x, y] for _, x, y in found["points"]])
    cells = result.cells
    whole: dict[str, Sequence[object]] = {"class": cells.y, cells.unit: _groups_of(result), "source": cells.sources}
    panels = {name: [whole[name][row] for row in rows] for name in whole if name in found["explained"]}
    panels = panels or {"class": [cells.y[row] for row in rows]}
    figure = Figure(figsize=(3.5 * len(panels), 4.1), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _coloured(axes, places, values, name)
        axes.set_xlabel(f"first component, {found['variance'][0]:.0%} of the variance", fontsize=8)
        axes.set_ylabel(f"second component, {found['variance'][1]:.0%}", fontsize=8)
        axes.tick_params(labelsize=7)
        plain(axes, grid="both")
    numbers = [
        {"name": cells.names[row], **{name: panels[name][at] for name in panels}, "x": x, "y": y}
        for at, (row, x, y) in enumerate(found["points"])
    ]
    return Drawing(figure, numbers)


def _groups_of(result: Result) -> Sequence[object]:
    return result.cells.subject_names if result.cells.unit == "subject" else result.cells.group_ids


def _coloured(axes: Axes, places: NDArray[np.float64], values: Sequence[object], name: str) -> None:
    """The points of one panel, a colour and a mark for each value, named above where there are few."""
    from matplotlib import colormaps

    kinds = sorted({str(value) for value in values if value is not None})
    is_named = len(kinds) <= _NAMED
    palette = [*COLOURS, *_MORE] if is_named else list(colormaps["turbo"](np.linspace(0.03, 0.97, len(kinds))))
    texts = np.array(["" if value is None else str(value) for value in values], object)
    size = float(np.clip(6000 / len(places), 4, 22))
    # A grey cell's value is unknown.
    for at, kind in enumerate(["", *kinds]):
        own = places[texts == kind]
        if not len(own):
            continue
        axes.scatter(
            own[:, 0],
            own[:, 1],
            s=size,
            marker=MARKERS[(at - 1) % len(MARKERS)] if is_named and at else "o",
            color=palette[(at - 1) % len(palette)] if at else "0.5",
            alpha=0.9 if len(places) <= _FEW else 0.65,
            linewidths=0,
            label=kind or "unknown",
            rasterized=len(places) > _AS_IMAGE,
        )
    if is_named:
        columns = min(3, max(1, len(kinds)))
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.08, 1.0),
            ncols=columns,
            frameon=False,
            fontsize=8,
            handletextpad=0.1,
            columnspacing=0.8,
            borderaxespad=0.2,
            title=f"by {name}",
            title_fontsize=9,
            alignment="left",
        )
    else:
        axes.set_title(f"by {name}: {len(kinds)}, a colour each", fontsize=9, loc="left")


def training_plot(result: Result) -> Drawing | None:
    """Loss and score of every epoch, a column for each network that every split trains anew and a line for each split;
    None where no network was trained."""
    from matplotlib.figure import Figure

    every = result.findings.get("training", [])
    rows = every[:_TRAININGS]
    if not rows:
        return None
    drawn = ["loss", "score"] if has_scores(every) else ["loss"]
    figure = Figure(figsize=(max(4.6, 3.4 * len(rows)), 0.6 + 2 * len(drawn)), layout="constrained")
    columns = figure.subplots(len(drawn), len(rows), squeeze=False, sharex="col")
    for column, row in zip(columns.T, rows, strict=True):
        splits = sorted({epoch["split"] for epoch in row["epochs"]})
        for at, split in enumerate(splits):
            epochs = [epoch for epoch in row["epochs"] if epoch["split"] == split]
            style: dict[str, Any] = {"color": COLOURS[at % len(COLOURS)], "linewidth": 1.3, "marker": "."}
            style["linestyle"] = ("-", "--", "-.", ":")[at // len(COLOURS) % 4]
            x = [epoch["epoch"] for epoch in epochs]
            for axes, name in zip(column, drawn, strict=True):
                axes.plot(x, [epoch[name] for epoch in epochs], label=f"fold {int(split) + 1}", **style)
        column[0].set_title(in_lines(row["name"]), fontsize=9, loc="left")
        column[-1].set_xlabel("epoch")
        column[-1].xaxis.get_major_locator().set_params(integer=True)
        for axes, name in zip(column, drawn, strict=True):
            plain(axes, grid="both")
            axes.tick_params(labelsize=8)
            if name == "score":
                axes.set_ylim(-0.02, 1.02)
    for axes, word in zip(columns[:, 0], ("training loss", "macro F1, cells kept back"), strict=False):
        axes.set_ylabel(word)
    handles, labels = columns[0, 0].get_legend_handles_labels()
    figure.legend(handles[:_NAMED], labels[:_NAMED], loc="outside upper left", ncols=6, frameon=False, fontsize=8)
    numbers = [
        {"network": row["name"], **epoch, "split": int(epoch["split"]) + 1} for row in every for epoch in row["epochs"]
    ]
    return Drawing(figure, numbers)
