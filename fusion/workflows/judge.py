"""``fusion judge``: the same judgement, tests and page for held-out scores of any framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from fusion.analysis.cross_site import selective_prediction
from fusion.analysis.subgroups import subgroups
from fusion.data.feature_table import FeatureTable
from fusion.data.score_table import read_score_table
from fusion.errors import UsageError
from fusion.evaluation.class_figures import class_figures
from fusion.evaluation.foreign_scores import check_scores
from fusion.evaluation.promises.held_out import Asked
from fusion.evaluation.result_differences import contributions_of_blocks
from fusion.evaluation.result_of_scores import Questions, result_of_scores
from fusion.evaluation.results import Result, check_result_folder, class_stamps, subject_stamps
from fusion.evaluation.score_frames import cells_of, entries_of
from fusion.evaluation.scores import Scores
from fusion.learning.decision.stated_rule import Rule, by_rule, stated_rule
from fusion.metrics.decision_costs import Costs
from fusion.progress import Progress
from fusion.reports import html_report
from fusion.settings.commands import JudgeConfig
from fusion.settings.loading import write_config
from fusion.settings.outputs import one_run_of
from fusion.workflows.asked_analyses import with_promises
from fusion.workflows.run_facts import counts_of

if TYPE_CHECKING:
    import pandas as pd


def judge(
    scores: pd.DataFrame | str | Path,
    positive: str | None = None,
    seed: int = 0,
    *,
    prevalence: float = 0.5,
    threshold: float | str | None = None,
    costs: Costs | None = None,
    by: Sequence[str] = (),
    primary: Sequence[str] = (),
    margin: float | None = None,
    sets: float | None = None,
    risk: str | None = None,
    risk_confidence: float = 0.95,
    progress: Progress | None = None,
) -> Result:
    """Judge held-out scores of any framework as ``fusion ablate`` judges its own.

    Parameters
    ----------
    scores : a table, or the file of one: one row a scored cell; its columns are told by ``check_scores``.
    positive : class that ``score`` and sensitivity are about.
    seed : of draws.
    prevalence : share of positives for which PPV and NPV are reported.
    threshold : from which probability of the positive class a cell is predicted positive, for all rows; of more than
        two classes "a:0.2,b:0.5,c:0.3", and the one with the highest probability over its threshold is predicted.
    costs : what mistakes cost, true class -> predicted class -> cost, others 1: the class of the least expected cost is
        predicted, and the mean cost told.
    by : columns of the table, whose subgroups are told apart.
    primary : two entries, whose comparison is named beforehand.
    margin : of equivalence and non-inferiority of these two.
    sets, risk, risk_confidence : what is to be promised of new cells and subjects by the best entry's scores, as
        ``fusion settings judge`` tells.
    progress : informed of every entry.

    Raises
    ------
    UsageError : a table that cannot be judged; it is told which row is wrong.

    Examples
    --------
    >>> result = judge("scores.csv", positive="all")  # doctest: +SKIP
    >>> result.best()["corrected"], result.differences()  # doctest: +SKIP
    """
    frame, where, notes = _frame_of(scores)
    checked = check_scores(frame, positive, where, by)
    cells = cells_of(checked.frame)
    entries = entries_of(checked.frame, cells, checked.classes)
    rule = stated_rule(None if threshold is None else str(threshold), costs or {}, checked.classes, checked.positive)
    entries = entries if rule is None else _with_rule(entries, rule)
    tell = None if progress is None else lambda done, total: progress("judging", done, total, 0)
    asked = Questions(prevalence, primary, margin, seed, costs=costs or {})
    result = result_of_scores("judge", cells, checked.classes, checked.positive, entries, asked, tell)
    further = {"threshold": threshold, "by": list(by), "sets": sets, "risk": risk, "risk_confidence": risk_confidence}
    result = replace(
        result,
        stamps=tuple(dict.fromkeys([*checked.stamps, *subject_stamps(cells), *class_stamps(cells, checked.classes)])),
        notes=(*notes, *checked.notes),
        facts={**result.facts, **_facts(cells, entries, checked.classes, where)},
        config=_config_text(asked, checked.positive, further),
        findings={**result.findings, **_findings(result, checked.values_of(by, cells))},
    )
    return with_promises(result, Asked.of(sets, risk, risk_confidence))


def _frame_of(scores: pd.DataFrame | str | Path) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """The scores, what messages call them, and notes on how their file was read."""
    if isinstance(scores, str | Path):
        frame, notes = read_score_table(Path(scores))
        return frame, str(scores), notes
    return scores, "the table", ()


def _config_text(asked: Questions, positive: str | None, further: Mapping[str, Any]) -> str:
    """What was asked as YAML; what was not, is left out."""
    optional = {
        "primary": list(asked.primary),
        "margin": asked.margin,
        "costs": {true: dict(row) for true, row in asked.costs.items()},
        **further,
    }
    given = {name: value for name, value in optional.items() if value not in (None, [], {})}
    if "risk" not in given:
        given.pop("risk_confidence")
    plain = {"positive": positive, "prevalence": asked.prevalence, "seed": asked.seed}
    return yaml.safe_dump({**plain, **given}, sort_keys=False)


def _findings(result: Result, columns: Mapping[str, Sequence[str | None]]) -> dict[str, Any]:
    """What is told beside figures and differences; ``columns`` are those that tell subgroups."""
    found: dict[str, Any] = {
        "shapley": contributions_of_blocks(result),
        "classes": class_figures(result, result.ranked()[0]),
        "selective_prediction": selective_prediction(result),
    }
    if columns:
        found["subgroups"] = subgroups(result, columns)
    return found


@one_run_of
def judge_table(config: JudgeConfig, progress: Progress | None = None) -> Result:
    """Judge the scores of a file, and write table, figures, page and scores.

    Raises
    ------
    FusionError : a folder that holds something else, or a table that cannot be judged.
    """
    check_result_folder(config.output, force=config.force)
    result = judge(
        config.scores,
        config.positive,
        config.seed,
        prevalence=config.prevalence,
        threshold=config.threshold,
        costs=config.costs,
        by=config.by,
        primary=config.primary,
        margin=config.margin,
        sets=config.sets,
        risk=config.risk,
        risk_confidence=config.risk_confidence,
        progress=progress,
    )
    result = replace(result, config=write_config(config))
    result.save(config.output, config.scores.parent)
    html_report.write_report(result, config.output)
    return result


def _with_rule(entries: Sequence[Scores], rule: Rule) -> list[Scores]:
    """The entries under one rule for all rows."""
    if any(scores.threshold is not None or scores.costs is not None for scores in entries):
        raise UsageError(
            "a rule of prediction in two ways",
            found="--threshold or costs, and a column 'threshold' or 'cost_<class>'",
            do="Leave one of them out.",
        )
    return [by_rule(scores, *rule) for scores in entries]


def _facts(cells: FeatureTable, entries: Sequence[Scores], classes: Sequence[str], where: str) -> dict[str, Any]:
    """Plain values about cells and folds, as other results have them."""
    first = entries[0].fold
    folds = [int(fold.max()) + 1 for fold in first]
    sizes = [int((fold == at).sum()) for fold, count in zip(first, folds, strict=True) for at in range(count)]
    return {
        "data": where,
        "layout": "scores",
        "images": len(cells),
        "groups": len(np.unique(cells.groups)),
        "unit": cells.unit,
        "judged": "subject" if _is_a_row_each(cells) else "cell",
        "classes": {label: cells.y.count(label) for label in classes},
        "split": {"kind": "scores", "folds": max(folds), "repeats": len(first), "test_images": sizes},
        "columns": {},
        **({"sources": counts_of(cells.sources)} if any(cells.sources) else {}),
    }


def _is_a_row_each(cells: FeatureTable) -> bool:
    """Whether every row is of a subject of its own, all of whom are known: then it is these that were scored."""
    return None not in (who := cells.identities) and len(set(who)) == len(who)
