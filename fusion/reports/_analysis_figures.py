"""Figures of what was asked for beside the comparison: the learning curve."""

from __future__ import annotations

from fusion.evaluation.results import Result
from fusion.reports._figure_style import Drawing, ends, plain


def learning_curve_plot(result: Result) -> Drawing | None:
    """Balanced accuracy over the subjects that are learnt from, with intervals; None where there is no curve."""
    from matplotlib.figure import Figure

    curve = result.findings.get("learning_curve")
    if not curve or len(curve["points"]) < 2:
        return None
    subjects = [point["subjects"] for point in curve["points"]]
    held = [point["balanced_accuracy"] for point in curve["points"]]
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(
        subjects, [one["low"] for one in held], [one["high"] for one in held], color="#0072B2", alpha=0.15
    )
    axes.plot(subjects, [one["value"] for one in held], "o-", color="#0072B2", markersize=5)
    axes.axhline(1 / len(result.classes), color="0.5", linewidth=1, linestyle="--")
    axes.set_xlabel(f"{result.unit}s learnt from")
    axes.set_ylabel("balanced accuracy, 95% interval")
    plain(axes, grid="y")
    numbers = [
        {"subjects": point["subjects"], "cells": point["cells"], **ends(point["balanced_accuracy"])}
        for point in curve["points"]
    ]
    return Drawing(figure, numbers)
