"""What a terminal shows of what was asked for beside the figures: chance, a learning curve, subgroups, splits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fusion.evaluation.promises.coverage import promise_lines
from fusion.evaluation.results import Result, p_text


def analysis_lines(result: Result) -> list[str]:
    """One line each; none for what was not asked for."""
    lines = []
    if null := result.findings.get("null"):
        best = null["best"]
        which = f"the best of {len(null['rows'])}" if len(null["rows"]) > 1 else "the same road"
        lines.append(
            f"With labels permuted by {result.unit} ({null['permutations']} times) {which} has a balanced accuracy of "
            f"{best['mean']:.3f} [{best['low']:.3f}, {best['high']:.3f}] by chance; {best['value']:.3f} has p "
            f"{p_text(best['p'])}."
        )
    if curve := result.findings.get("learning_curve"):
        points = ", ".join(
            f"{point['balanced_accuracy']['value']:.3f} ({point['subjects']:.0f})" for point in curve["points"]
        )
        lines.append(f"Balanced accuracy of the best by {result.unit}s to learn from: {points}.")
    if costs := result.findings.get("costs"):
        row = costs["rows"][0]
        which = f"cheapest: {' + '.join(row['features'])}, {row['classifier']}" if len(costs["rows"]) > 1 else "by cell"
        lines.append(
            f"Mean cost ({which.removesuffix(', ')}): {_interval(row)}; by most probable classes "
            f"{row['most_probable']:.3f}."
        )
    if promises := result.findings.get("promises"):
        lines += promise_lines(promises)
    for one in result.findings.get("subgroups", ()):
        if one["worst"] is None:
            lines.append(f"By {one['by']}: no two subgroups hold every class.")
            continue
        row = next(row for row in one["rows"] if row["subgroup"] == one["worst"])
        cells = "" if result.judged == "subject" else f"{row['cells']} cells of "
        lines.append(
            f"Worst by {one['by']}: {one['worst']}, balanced accuracy {_interval(row['balanced_accuracy'])} "
            f"({cells}{row['subjects']} {result.unit}s); the worst of {len(one['rows'])} is a pessimistic pick."
        )
    if stress := result.findings.get("stress"):
        plain, *rows = stress["rows"]
        metric = result.main_metric
        worst = min(rows, key=lambda row: float(row[metric]["value"]))
        whose = f"{stress['patients']} patients ({stress['cells']} cells)" if "patients" in stress else ""
        lines.append(
            f"Under {len(rows)} stresses of {whose or str(stress['cells']) + ' cells'} {result.main_label} falls from "
            f"{_interval(plain[metric])} to {_interval(worst[metric])} at worst "
            f"({worst['stress']})."
        )
    if audit := result.findings.get("shortcuts"):
        told = [f"{row['name']} ({row['auroc']:.2f})" for row in audit["probes"] if row["is_shortcut"]]
        lines.append(f"Shortcuts, AUROC of what is no part of the cells: {', '.join(told) or 'none tells the class'}.")
    return lines


def _interval(figure: Mapping[str, Any]) -> str:
    if math.isnan(figure["low"]):
        return f"{figure['value']:.3f} (no interval)"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
