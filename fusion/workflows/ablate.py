"""``fusion ablate``: sets of the chosen blocks with every classifier, on the same cells and the same folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from fusion.analysis.block_importance import BlockImportance
from fusion.analysis.cell_columns import check_columns
from fusion.analysis.expected_time import forecast_fits
from fusion.data.dataset import Dataset
from fusion.data.patients.patient_labels import unit_of
from fusion.data.units import units_of
from fusion.evaluation.result_differences import optimism
from fusion.evaluation.results import Result, check_result_folder
from fusion.image_transforms.dataset_transforms import stated
from fusion.io.run_checkpoint import forget_unfinished
from fusion.leakage.protocols import Plan, make_plan
from fusion.learning.cross_validation import cross_validate
from fusion.learning.decision.thresholds import DecisionSettings
from fusion.learning.fits import Examination, Fit, Fitted
from fusion.learning.learnt_blocks import LearntBlock
from fusion.learning.study import Study
from fusion.progress import Progress, tell_forecast
from fusion.reports import html_report
from fusion.reports.mlflow_tracking import open_tracker
from fusion.settings.commands import AblateConfig
from fusion.settings.outputs import one_run_of
from fusion.workflows.ablation_cells import JudgedCells, judged_cells
from fusion.workflows.ablation_plan import by_landmarks, check_site_classes, plan_fits, plan_inputs
from fusion.workflows.ablation_result import judged_result
from fusion.workflows.asked_analyses import (
    asked_promises,
    with_page_findings,
    with_promises,
    with_refits,
    with_shortcuts,
    with_subgroups,
)
from fusion.workflows.loading import load_training_cells
from fusion.workflows.run_facts import choose_positive

#: Asked of models when they are fitted, and of no other.
_IMPORTANCE: Examination = BlockImportance()


@one_run_of
def ablate(config: AblateConfig, progress: Progress | None = None) -> Result:
    """Compare sets of blocks under all classifiers, and write table, figures, page and scores.

    A run that was stopped goes on where it was when it is started again with the same settings.

    Parameters
    ----------
    config : what is compared on which cells.
    progress : informed of every step.

    Raises
    ------
    FusionError : wrong data, features, classifier or folder; see the message.

    Examples
    --------
    >>> result = ablate(AblateConfig(data="cells", compare=["svm", "neural"], output="result"))  # doctest: +SKIP
    """
    check_result_folder(config.output, force=config.force)
    config = config.model_copy(update={"normalise": stated(config.normalise), "unit": unit_of(config)})
    inputs = plan_inputs(config)
    tracker = None if config.mlflow is None else open_tracker(config.mlflow)
    check_columns(config.test or config.data, config, config.by)
    dataset = load_training_cells(config, progress)
    positive = choose_positive(dataset.classes, config.positive)
    DecisionSettings(config.calibrate, config.threshold, config.costs).check_classes(dataset.classes, positive)
    asked = asked_promises(config, None if config.test else units_of(dataset), dataset.classes, positive)
    judged = judged_cells(config, dataset, inputs, progress)
    check_site_classes(config, dataset, judged.plan, judged.study.table.sources)
    if judged.tested is not None:
        asked_promises(config, units_of(judged.tested), dataset.classes, positive)
    result = compare(judged.study, judged.plan, dataset, config, progress, inputs.learnt)
    result = replace(
        result,
        stamps=(*judged.stamps, *result.stamps),
        notes=(*dataset.notes, *judged.notes, *result.notes),
        faults=judged.study.faults,
    )
    result = with_promises(result, asked)
    result = with_subgroups(result, config.by, config.test or config.data, config, judged.tested or dataset)
    result = with_shortcuts(result, judged.tested or dataset, config, progress)
    if config.show_leak:
        result = _with_leak(result, judged, dataset, config, progress, inputs.learnt)
    html_report.write_result(result, config.output, dataset.root, judged.tested or dataset)
    forget_unfinished(config.output)
    if tracker is not None:
        tracker.log(result, config, config.output)
    return result


def compare(
    study: Study,
    plan: Plan,
    dataset: Dataset,
    config: AblateConfig,
    progress: Progress | None = None,
    learnt: Sequence[LearntBlock] = (),
    examination: Examination | None = _IMPORTANCE,
) -> Result:
    """Fit and judge everything; writes nothing but what a run that is killed can go on from.

    Parameters
    ----------
    study, plan : the cells, and the splits they are judged by.
    dataset : where they are from, for the facts of the result.
    learnt : blocks that are learnt anew in every split.
    examination : what the models are asked beside their scores, when they are fitted.
    """
    config, approximate = by_landmarks(config, plan, study)
    fits, left_out = plan_fits(study, plan, config, progress, learnt)
    answers: dict[Fit, Mapping[str, NDArray[Any]]] = {}

    def hear(found: Fitted) -> None:
        if found.answers:
            answers[found.fit] = found.answers

    asked = replace(fits, examination=examination) if len(fits.compared) > 1 else fits
    tell_forecast(progress, lambda: forecast_fits(fits, times=1 + config.null))
    scores = cross_validate(asked, plan, heard=hear)
    judged = judged_result(fits, plan, scores, answers, dataset, config)
    result = with_refits(judged, fits, plan, config)
    result = with_page_findings(result, study.table, fits)
    return replace(result, stamps=(*result.stamps, *approximate), notes=(*result.notes, *left_out))


def _with_leak(
    result: Result,
    judged: JudgedCells,
    dataset: Dataset,
    config: AblateConfig,
    progress: Progress | None,
    learnt: Sequence[LearntBlock],
) -> Result:
    """The result with what a random split of the same cells would have claimed."""
    plan = make_plan(judged.study.table, "random", config.splits, config.rounds, config.seed)
    tell = (lambda stage, *rest: progress(f"{stage} leaky", *rest)) if progress is not None else None
    plain = config.model_copy(update={"null": 0, "learning_curve": False})
    leaky = compare(judged.study, plan, dataset, plain, tell, learnt, examination=None)
    leaky.save_scores(config.output / "scores-random.parquet")
    return replace(result, findings={**result.findings, "leak": optimism(result, leaky)})
