"""What a run was asked for beside its figures: chance by permuted labels, a learning curve, subgroups, shortcuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion.analysis.cell_columns import cell_column
from fusion.analysis.cell_map import cell_map
from fusion.analysis.learning_curve import learning_curve
from fusion.analysis.null import null_distribution
from fusion.analysis.shortcuts.audit import audit_shortcuts
from fusion.analysis.subgroups import subgroups
from fusion.data.dataset import Dataset
from fusion.data.feature_table import FeatureTable
from fusion.data.units import Units
from fusion.evaluation.class_figures import class_figures
from fusion.evaluation.promises.coverage import promise_rows
from fusion.evaluation.promises.held_out import Asked, HeldOut, OwnScores, check_subjects
from fusion.evaluation.results import Result
from fusion.evaluation.scores import Scores, entry_name
from fusion.leakage.protocols import Plan
from fusion.learning.fits import Fits
from fusion.learning.learnt_blocks import trained_epochs
from fusion.progress import Progress
from fusion.settings.commands import AblateConfig
from fusion.settings.data import ReadingSettings
from fusion.settings.learning import FitSettings, PromiseSettings


def with_refits(result: Result, fits: Fits, plan: Plan, config: FitSettings) -> Result:
    """The result with what takes models that are learnt otherwise."""
    findings: dict[str, Any] = {}
    if config.null:
        findings["null"] = null_distribution(result, fits, plan, config.null, config.seed)
    if config.learning_curve:
        findings["learning_curve"] = learning_curve(result, fits, plan, config.seed)
    return replace(result, findings={**result.findings, **findings}) if findings else result


def asked_promises(
    config: PromiseSettings, cells: Units | None = None, classes: Sequence[str] = (), positive: str | None = None
) -> Asked:
    """What is to be promised; refused where these cells are too few to learn it from.

    Parameters
    ----------
    cells, classes, positive : what is learnt from; None where a model has learnt already.
    """
    asked = Asked.of(config.sets, config.risk, config.risk_confidence)
    if cells is not None:
        check_subjects(cells, classes, asked, positive)
    return asked


def with_promises(result: Result, asked: Asked, given: OwnScores | None = None) -> Result:
    """The result with how promises of its best entry hold.

    Parameters
    ----------
    given : what they rest on, where that is no part of the result: the held-out scores that a model keeps.
    """
    if asked.is_nothing:
        return result
    best = result.scores[result.ranked()[0]]
    held = HeldOut.of(result.cells, best, result.classes)
    if given is None:
        held.own_scores(0).check(asked, result.positive)
    rows = promise_rows(held, asked, result.positive, int(result.facts["seed"]), given)
    return replace(result, findings={**result.findings, "promises": {"entry": entry_name(best), **rows}})


def with_subgroups(result: Result, by: list[str], file: Path, reading: ReadingSettings, dataset: Dataset) -> Result:
    """The result with the figures of each class, and of subgroups.

    Parameters
    ----------
    by : columns.
    file, reading, dataset : the table that the judged cells are from, how it is read, and what was read.
    """
    figures = class_figures(result, result.ranked()[0])
    result = replace(result, findings={**result.findings, "classes": figures})
    if not by:
        return result
    columns = {name: cell_column(file, reading, dataset, result.cells, name) for name in by}
    return replace(result, findings={**result.findings, "subgroups": subgroups(result, columns)})


def with_shortcuts(result: Result, dataset: Dataset, config: AblateConfig, progress: Progress | None) -> Result:
    """The result with whether what is no part of the cells tells their class.

    Parameters
    ----------
    dataset : the cells that are judged.
    """
    if not config.audit:
        return result

    def tell(done: int, total: int, faults: int) -> None:
        if progress is not None:
            progress("auditing", done, total, faults)

    found = audit_shortcuts(dataset, config.seed, config.jobs, tell)
    return replace(result, findings={**result.findings, "shortcuts": found.to_json()})


def with_page_findings(result: Result, table: FeatureTable, fits: Fits | None = None) -> Result:
    """The result with "cell_map" and, where networks were trained, "training".

    Parameters
    ----------
    table : the cells of the result, with the blocks that were measured.
    fits : of the comparison, None where nothing was fitted.
    """
    best = result.scores[result.ranked()[0]]
    findings: dict[str, Any] = {}
    # What a learnt block holds is another thing in every split, and an image is no row of features.
    blocks = [name for name in table.blocks if name in {part for each in best.features for part in each.split("+")}]
    judged = np.flatnonzero((best.fold >= 0).any(axis=0))
    if blocks:
        fused = table if blocks == list(table.blocks) else table.select(blocks)  # rows in the store are taken whole
        if found := cell_map(fused.averaged(), judged, int(result.facts.get("seed", 0))):
            findings["cell_map"] = found
    if fits is not None and (rows := _trainings(result.scores, fits)):
        findings["training"] = rows
    return replace(result, findings={**result.findings, **findings})


def _trainings(entries: Sequence[Scores], fits: Fits) -> list[dict[str, Any]]:
    """A row for each network that every split trained anew: its "name" and "epochs"."""
    rows = [{"name": entry_name(scores), "epochs": list(scores.trained)} for scores in entries if scores.trained]
    for block in fits.learnt:
        if epochs := trained_epochs(block, fits.study, fits.splits, fits.run):
            rows.append({"name": f"block {block.name}", "epochs": epochs})
    return rows
